"""The attribution job.

``spark-submit --py-files dist/causal_spark.zip jobs/attribution.py --config conf/attribution.yml``

``--set key=value`` overrides one setting, as in ``--set method.window_days=14``; ``--engine spark|sail`` forces an
engine. Exit code: 0 done, 1 failed while running, 2 configuration or usage, 3 the data gate refused the input.

The tables it reads. Columns have the names that the configuration gives them; the names of ``conf/attribution.yml``
are in brackets. Other columns are ignored.

Touches and conversions: ``input.touches``, ``input.conversions``.

- touches: person [user_id]: string or integer, not NULL; time [ts]: timestamp in UTC, not NULL; channel [channel]:
  string, not NULL, not empty; event_id [event_id]: of the touches of one id the earliest counts, NULL is no id;
  session: string or integer, NULL for none; type [type: view, click], the columns of ``by`` and ``segments``
  [region]: strings
- conversions: person and time as above, one row for each conversion; conversion_id: of the conversions of one id the
  earliest counts, NULL is no id; value [revenue] and further amounts: numbers of 0 or more, NULL is 0

Or ready paths: ``input.paths``, one row for each path: path, a text with the separator between channels; conversions
and nulls: whole numbers of 0 or more; value: a number of 0 or more. Equal paths are added.

With any of them:

- ``input.identity``: alias, person; which key of touches and conversions belongs to which person
- ``input.spend``: channel [channel], cost [cost], and a time (timestamp or date) if the credit is by period; rows of
  one channel are added
- ``input.lift``: the folder of another run, or its estimates as a table: method, outcome, segment, contrast, term,
  estimate, std_error; or totals: term (the channel), outcome, estimate (the outcome that the channel caused in the
  same period), std_error
"""

import sys

from causal_spark.cli import submit

if __name__ == "__main__":
    code = submit("attribution", sys.argv[1:])
    if code:  # a notebook-like host takes any SystemExit for a failure
        sys.exit(code)
