"""The portfolio job.

``spark-submit --py-files dist/causal_spark.zip jobs/portfolio.py --config conf/portfolio.yml``

``--set key=value`` overrides one setting, as in ``--set method.alpha=0.1``; ``--engine spark|sail`` forces an engine.
Exit code: 0 done, 1 failed while running, 2 configuration or usage, 3 the data gate refused the input.

The tables it reads; names of ``conf/portfolio.yml`` in brackets. Other columns are ignored.

``input.estimates``, the results of experiments as this suite writes them, one under another:

- experiment [experiment]: string, not NULL; with ``format: runs`` the name of the run's folder
- outcome, segment, term, contrast, method, estimand: strings; rows with segment ``all`` and the outcome and term asked
  for are read, one for each experiment, contrast, method and estimand
- estimate, std_error, n: numbers
- trusted: boolean, may be missing; rows without true are left out

``input.reach``, which may be left out, one row for each action:

- experiment [experiment]: string, not NULL; contrast: string, if ``method.reach.contrast`` names it
- reached [reached]: number of units of 0 or more; with ``term: lift`` a share of the metric from 0 to 1
- launched [launched]: date or timestamp, NULL of what was never launched
"""

import sys

from causal_spark.cli import submit

if __name__ == "__main__":
    code = submit("portfolio", sys.argv[1:])
    if code:  # a notebook-like host takes any SystemExit for a failure
        sys.exit(code)
