"""The matching job.

``spark-submit --py-files dist/causal_spark.zip jobs/matching.py --config conf/matching.yml``

``--set key=value`` overrides one setting, as in ``--set method.smd=0.05``; ``--engine spark|sail`` forces an engine.
Exit code: 0 done, 1 failed while running, 2 configuration or usage, 3 the data gate refused the input.

The table it reads: ``input.units``, one row for each unit. Columns have the names that the configuration gives them;
the names of ``conf/matching.yml`` are in brackets. Other columns are ignored.

- unit [user_id]: string or integer, unique, not NULL
- treatments [email, search]: 0 and 1 (number or boolean), not NULL; amounts with ``estimators: [dml]`` alone, levels
  with ``estimators: [aipw]`` alone and ``estimand: ATE``
- outcomes [revenue, converted] and placebo outcomes: numbers or booleans, not NULL, no NaN, no infinity
- covariates [age, orders_before, revenue_before, country, tenure_days]: known before the treatment; numbers, booleans
  or texts of few values; a NULL is treated as ``nulls`` of the covariate says
- score, and distance if it is a column: numbers, not NULL; a score lies strictly between 0 and 1
- ties, if named: whole numbers; exact columns: any type of few values
- cluster, if units move together: string or integer, not NULL
"""

import sys

from causal_spark.cli import submit

if __name__ == "__main__":
    code = submit("matching", sys.argv[1:])
    if code:  # a notebook-like host takes any SystemExit for a failure
        sys.exit(code)
