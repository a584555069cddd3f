"""Equal paths counted: a path is its codes as the digits of one whole number, or of several if it is long."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from causal_spark.methods.attribution.journeys import Journeys, Whole, columns, within
from causal_spark.statistics.cells import Block

# What follows so many touches is cut from the path, and shown as one step.
SHOWN = 50
CUT = "+"
BITS = 63
STAT, DIFFERENT = "path_", "paths"
Path = tuple[str, tuple[int, ...]]


def _steps(tokens: int) -> int:
    """Steps of one number: digits 0 (no step), 1 … tokens, tokens + 1 (cut) from the left, so that the order of the
    numbers is that of the paths."""
    steps = 1
    while (tokens + 2) ** (steps + 1) <= 1 << BITS:
        steps += 1
    return steps


def counted(some: Journeys, tokens: int) -> Iterator[Block]:
    """The different paths with their conversions, nulls and amounts, those of as many numbers together."""
    if not len(some.codes):
        return
    steps = _steps(tokens)
    numbers = -(-np.minimum(some.sizes, SHOWN + 1) // steps)
    short = numbers == 1
    yield Block(f"{STAT}1", _word(some, tokens, steps, 0)[short, None], _sums(some)[short]).added()
    longer, numbers = some.chosen(~short), numbers[~short]
    for many in range(2, int(numbers.max(initial=1)) + 1):
        mine = longer.chosen(numbers == many)
        words = columns(*(_word(mine, tokens, steps, word) for word in range(many)))
        yield Block(f"{STAT}{many}", words, _sums(mine)).added()


def _sums(some: Journeys) -> Whole:
    return columns(some.conversions, some.nulls, *some.amounts.T)


def _word(some: Journeys, tokens: int, steps: int, word: int) -> Whole:
    """A number of each journey's path: of the steps from ``word`` · ``steps`` on."""
    power = np.zeros(SHOWN + 2, np.int64)
    for digit in range(min(steps, SHOWN + 1 - word * steps)):
        power[word * steps + digit] = (tokens + 2) ** (steps - 1 - digit)
    digits = some.codes + 1
    if word == SHOWN // steps:
        digits[some.place == SHOWN] = tokens + 1
    digits *= power.take(some.place, mode="clip")
    return within(digits, some.starts)


def best(block: Block, most: int) -> Iterator[Block]:
    """Of a block of paths the ``most`` that lead, and how many different ones there are; any other block as it is."""
    if not block.stat.startswith(STAT):
        yield block
        return
    yield Block(DIFFERENT, np.zeros((1, 1), np.int64), np.array([[len(block.keys)]]))
    won = block.sums[:, 0]
    leading = np.flatnonzero(won >= np.partition(won, -most)[-most]) if len(won) > most else np.arange(len(won))
    order = leading[np.lexsort((*block.keys[leading].T[::-1], -block.sums[leading, 1], -won[leading]))[:most]]
    yield Block(block.stat, block.keys[order], block.sums[order])


def read(blocks: Iterable[Block], tokens: int) -> list[Path]:
    """The paths of blocks as text, codes with blanks between, and their sums: those with most conversions first."""
    steps = _steps(tokens)
    rows = [(-int(sums[0]), -int(sums[1]), tuple(map(int, keys)), tuple(map(int, sums)))
            for block in blocks if block.stat.startswith(STAT)
            for keys, sums in zip(block.keys, block.sums, strict=True)]  # fmt: skip
    return [(_text(keys, tokens, steps), sums) for _, _, keys, sums in sorted(rows)]


def _text(words: tuple[int, ...], tokens: int, steps: int) -> str:
    digits = [word // (tokens + 2) ** (steps - 1 - i) % (tokens + 2) for word in words for i in range(steps)]
    return " ".join(CUT if digit > tokens else str(digit - 1) for digit in digits if digit)
