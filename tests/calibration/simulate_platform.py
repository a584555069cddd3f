"""Coverage and type I error of what widens the experiment job: quantiles, resampling, adjustment, designs, margins.

    python -m tests.calibration.simulate_platform                 simulate, write tests/calibration/platform.csv
    python -m tests.calibration.simulate_platform --only NAME …   these estimators again, and what is not there yet

A case is an estimator on a design, one replicate at a time through the functions that a job calls. Columns and bands
are those of ``simulate_experiments``; a case that shows a *limit* is conservative or approximate by design and is
shown as it comes out. What is looked at again and again is in ``simulate_looks``.
"""

from __future__ import annotations

import argparse
import math
import time
import zlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from tests.calibration.cases import Case
from tests.calibration.cases_effects import EFFECTS
from tests.calibration.cases_values import VALUES
from tests.calibration.simulate_experiments import HERE, REPLICATES, SEED, Row, read, summary, table_row, write

CSV = HERE / "platform.csv"
CASES: Sequence[Case] = (*VALUES, *EFFECTS)


def simulate(case: Case, count: int = REPLICATES) -> Row:
    """The row of a case; effect and no effect have streams of their own."""
    answers = []
    for effect in (True, False):
        rng = np.random.default_rng([SEED, zlib.crc32(f"{case.estimator}/{case.design}".encode()), int(effect)])
        answers.append(np.array([case.draw(rng, effect) for _ in range(count)], float))
    untested = bool(np.isnan(answers[1][:, 2]).all())
    if untested:
        answers[1][:, 2] = 0.5  # a place holder, which leaves no trace in the cell
    cell = summary(case.truth, *answers)
    if np.isnan(answers[0][:, 1]).all():  # a verdict and no estimate
        cell = replace(cell, bias_se=math.nan, se_ratio=math.nan, coverage=math.nan)
    if untested or case.limit:
        cell = replace(cell, ks_p=math.nan, rejection=math.nan if untested else cell.rejection)
    return table_row(case.estimator, case.design, case.limit, case.n, case.truth, cell)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--replicates", type=int, default=REPLICATES)
    parser.add_argument("--only", nargs="+", choices=list(dict.fromkeys(case.estimator for case in CASES)), default=())
    options = parser.parse_args()
    known = {(row["estimator"], row["design"]): row for row in (read(CSV) if options.only else ())}
    rows = []
    for case in CASES:
        old = known.get((case.estimator, case.design))
        if old is not None and case.estimator not in options.only:
            rows.append(old)
            continue
        start = time.monotonic()
        rows.append(simulate(case, options.replicates // case.fewer))
        row = rows[-1]
        print(f"{case.estimator}, {case.design}: coverage {row['coverage']}, rejection {row['rejection']}, "
              f"outside: {row['outside'] or '-'}; {time.monotonic() - start:.0f} s", flush=True)  # fmt: skip
    write(rows, CSV)


if __name__ == "__main__":
    main()
