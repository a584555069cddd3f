"""The design job.

``spark-submit --py-files dist/causal_spark.zip jobs/design.py --config conf/design.yml``

``--set key=value`` overrides one setting, as in ``--set method.power=0.9``; ``--engine spark|sail`` forces an engine.
Exit code: 0 done, 1 failed while running, 2 configuration or usage, 3 the data gate refused the input.

The table it reads, in one of two forms. Columns have the names that the configuration gives them; the names of
``conf/design.yml`` are in brackets. Other columns are ignored.

Units: ``input.units``, one row for each unit of the past.

- unit [user_id], and cluster if one will be randomised: string or whole number, not NULL; units are unique
- the value, or numerator and denominator, and the covariates of each metric: numbers or booleans, no NaN, no infinity;
  a NULL is treated as ``nulls`` of the metric says
- time [first_seen], optional: date or timestamp in UTC when the unit was first seen
- covariates and strata of the re-randomisation: not NULL; strata a string or whole number

Unit and day: ``input.days``, any number of rows for a unit and a day, which are added.

- unit and cluster as above; time: the day, date or timestamp in UTC, not NULL
- the columns of the metrics as above; days before ``since`` become the covariate of their metric, days from then on
  the outcome; units that were not seen from then on are left out

With ``assign`` it writes the table ``assignment``: unit (the key as text) and arm, one row for each.
"""

import sys

from causal_spark.cli import submit

if __name__ == "__main__":
    code = submit("design", sys.argv[1:])
    if code:  # a notebook-like host takes any SystemExit for a failure
        sys.exit(code)
