"""Gradient-boosted trees of scikit-learn: fitted on the driver without each fold, applied to that fold anywhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np

from causal_spark.errors import ConfigError
from causal_spark.statistics.moments import Array

SAMPLE = 100_000  # rows on the driver to which they are fitted
Kind = Literal["classifier", "regressor"]


def fitted(
    kind: Kind, x: Array, target: Callable[[Array], Array], fold: Array, folds: int, setting: str, other: str
) -> list[Any]:
    """A model for each fold, of the rows (n, p) of all other folds; of all rows if there is one fold.

    ``target`` gives the outcomes of the rows of a mask (n,). NaN in ``x`` is a value of its own. Raises ConfigError
    without scikit-learn, naming the ``setting`` that asks for it and the ``other`` value that does not.
    """
    try:
        from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
    except ImportError as error:
        raise ConfigError("needs_scikit_learn", setting=setting, other=other) from error
    made = HistGradientBoostingClassifier if kind == "classifier" else HistGradientBoostingRegressor
    masks = [(fold != k) | (folds == 1) for k in range(folds)]
    return [made(random_state=0).fit(x[others], target(others)) for others in masks]


def out_of_fold(models: Sequence[Any], x: Array, fold: Array) -> Array:
    """The prediction (n,) of each row by the model that has not seen its fold; of a classifier the chance of a 1."""
    found = np.zeros(len(x))
    for k, model in enumerate(models):
        mine = fold == k
        if mine.any():
            rows = x[mine]
            found[mine] = model.predict_proba(rows)[:, 1] if hasattr(model, "predict_proba") else model.predict(rows)
    return found
