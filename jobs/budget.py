"""The budget job.

``spark-submit --py-files dist/causal_spark.zip jobs/budget.py --config conf/budget.yml``

``--set key=value`` overrides one setting, as in ``--set method.budget=400``; ``--engine spark|sail`` forces an engine.
Exit code: 0 done, 1 failed while running, 2 configuration or usage, 3 the data gate refused the input.

The table it reads is ``input.history``. Columns have the names that the configuration gives them; the names of
``conf/budget.yml`` are in brackets. Other columns are ignored.

- channel [channel]: string, not NULL
- period [week]: a date, a whole number, or a text whose order is that of time, not NULL
- spend [spend] and outcome [outcome]: numbers of 0 or more, not NULL; rows of one channel and period are added, a
  channel without a row in a period spent nothing

The table ``credits_by_period`` of an attribution is such a table: docs/budget.md.
"""

import sys

from causal_spark.cli import submit

if __name__ == "__main__":
    code = submit("budget", sys.argv[1:])
    if code:  # a notebook-like host takes any SystemExit for a failure
        sys.exit(code)
