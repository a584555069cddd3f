"""What both kinds of input share: the rules of their journeys, and their merged sums with what these mean."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from causal_spark.methods.attribution import paths
from causal_spark.methods.attribution.compressed import Compressed
from causal_spark.methods.attribution.journeys import DAY, MINUTE, Rules, tokens
from causal_spark.methods.attribution.plan import Plan
from causal_spark.methods.attribution.vocabulary import Attribution
from causal_spark.methods.findings import Findings
from causal_spark.spark.compress import MAX_ROWS
from causal_spark.spark.journey_sums import merged
from causal_spark.spark.journeys import JOINER
from causal_spark.spark.tables import Frame
from causal_spark.statistics.cells import Cells


def rules_of(method: Attribution, channels: Sequence[str], as_of: int) -> Rules:
    """The rules of the configuration in microseconds and numbers of ``channels``; ``as_of``: the end of the data."""
    window = round(method.window_days * DAY)
    return Rules(
        window=window,
        view_window=window if method.view_days is None else round(method.view_days * DAY),
        max_touches=method.max_touches,
        gap=None if method.session_minutes is None else round(method.session_minutes * MINUTE),
        session=method.session_touch if method.session else None,
        once=method.event_id is not None or method.conversion_id is not None,
        reuse=method.reuse_touches,
        as_of=as_of,
        censoring=method.censoring,
        change=method.change,
        drop_last=places(channels, method.drop_last, method.by),
        tokens=len(channels),
        period=method.period is not None,
    )


def places(channels: Sequence[str], named: Sequence[str], by: Sequence[str]) -> tuple[int, ...]:
    """Which of ``channels`` are ``named``: as a whole, or with further columns (``by``) by their channel alone."""
    begin = tuple(name + JOINER for name in named) if by else ()
    return tuple(i for i, name in enumerate(channels) if name in named or name.startswith(begin))


def finished(method: Attribution, sums: Frame, channels: Sequence[str], rules: Rules, wanted: Plan,
             segments: Sequence[str], facts: dict[str, Any], found: Findings) -> Compressed:  # fmt: skip
    """The sums of all buckets, met and on the driver, with what they mean."""
    named = tokens(channels, rules.change)
    blocks = merged(sums, partial(paths.best, most=method.top_paths), MAX_ROWS)
    counted = [block for block in blocks if block.stat.startswith(paths.STAT)]
    different = sum(int(block.sums.sum()) for block in blocks if block.stat == paths.DIFFERENT)
    cells = {block.stat: Cells.of(block, 1 + wanted.outcomes) for block in blocks
             if not block.stat.startswith((paths.STAT, paths.DIFFERENT))}  # fmt: skip
    left = cells.pop("left", None)
    if left is not None:
        facts |= {"censored": int(left.base[0, 0]), "repeated": int(left.base[1, 0])}
    return Compressed(
        cells=cells,
        tokens=named,
        channels=len(channels),
        segments=tuple(segments),
        outcomes=method.outcomes,
        scales=(wanted.conversion_scale, *wanted.amount_scales),
        replicates=wanted.replicates,
        facts={**facts, "paths": different},
        checks=tuple(found.found),
        paths=tuple(paths.read(counted, len(named))[: method.top_paths]),
    )
