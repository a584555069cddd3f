"""The experiment job.

``spark-submit --py-files dist/causal_spark.zip jobs/experiment.py --config conf/experiment.yml``

``--set key=value`` overrides one setting, as in ``--set method.alpha=0.01``; ``--engine spark|sail`` forces an engine.
Exit code: 0 done, 1 failed while running, 2 configuration or usage, 3 the data gate refused the input.

The tables it reads, in one of two forms. Columns have the names that the configuration gives them; the names of
``conf/experiment.yml`` are in brackets. Other columns are ignored.

Units: ``input.units``, one row for each unit.

- unit [user_id]: string or integer, unique, not NULL
- arm [variant]: string, not NULL, the label of an arm of the experiment
- cluster, if randomised by it: string or integer, not NULL
- of a switchback instead: the region, and the period or the time [ts]: timestamp in UTC; its units are single events
- triggered, if named: 0 or 1 (or boolean), not NULL, known in every arm; arms of other experiments: strings, NULL for
  units that are not in them
- the value, or numerator and denominator, and the covariates of each metric: numbers or booleans, no NaN, no infinity;
  a NULL is treated as ``nulls`` of the metric says
- segments [country, platform]: strings, known before the exposure

Exposures and events: ``input.exposures`` and ``input.events``.

- exposures: unit, arm and segments as above, time [ts]: timestamp in UTC. A unit may occur more than once: its first
  exposure counts; a unit seen in two arms is dropped, and too many of them stop the job.
- events: unit, time [ts], and the columns that the metrics name [type: view, click, purchase; amount: number, NULL
  unless a purchase]. One row for each event. Events from before the first exposure become covariates (``pre_days``),
  events within ``window_days`` after it become the outcomes, units without events count with zero.
"""

import sys

from causal_spark.cli import submit

if __name__ == "__main__":
    code = submit("experiment", sys.argv[1:])
    if code:  # a notebook-like host takes any SystemExit for a failure
        sys.exit(code)
