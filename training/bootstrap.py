"""Whether one version is better than another, or only luckier: a paired bootstrap over conversations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

Shares: TypeAlias = "Mapping[str, NDArray[np.float64]]"
"""By measure, per unit (a conversation, a query) a part and a whole, [units, 2]. Summed over units, the part by the
whole is the measure: 2 right by told + true is F1. Of every measure more is better."""
RESAMPLES = 4000
_INTERVAL = (2.5, 97.5)


@dataclass(frozen=True, slots=True)
class Difference:
    """A measure of two versions on the same data. None where the data has nothing to measure.

    `low` and `high` bound 95 % of the resampled differences (new less old); `better` is the share of resamples in
    which the new version is strictly better.
    """

    old: float | None
    new: float | None
    difference: float | None
    low: float | None
    high: float | None
    better: float | None


def paired_bootstrap(old: Shares, new: Shares, seed: int = 0, resamples: int = RESAMPLES) -> dict[str, Difference]:
    """The difference between two versions in every measure that both have.

    Units are drawn with replacement, the same ones for both versions and all measures. Seeded.

    Raises:
        ValueError: the two were not measured on the same units.
    """
    measures = [measure for measure in new if measure in old]
    counts = {len(shares[measure]) for shares in (old, new) for measure in measures}
    if len(counts) != 1:
        raise ValueError(f"both versions need the same units; there are {sorted(counts)}")
    (units,) = counts
    drawn = np.random.default_rng(seed).multinomial(units, np.full(units, 1 / units), size=resamples).astype(np.float64)
    return {measure: _difference(old[measure], new[measure], drawn) for measure in measures}


def _difference(old: NDArray[np.float64], new: NDArray[np.float64], drawn: NDArray[np.float64]) -> Difference:
    everything = np.ones((1, len(old)))
    before, after = float(_measure(old, everything)[0]), float(_measure(new, everything)[0])
    differences = _measure(new, drawn) - _measure(old, drawn)
    differences = differences[~np.isnan(differences)]  # a resample may hold nothing to measure
    if np.isnan(after - before) or not len(differences):
        return Difference(_rounded(before), _rounded(after), None, None, None, None)
    low, high = np.percentile(differences, _INTERVAL)
    better = float((differences > 0).mean())
    return Difference(*(_rounded(figure) for figure in (before, after, after - before, low, high, better)))


def _measure(parts: NDArray[np.float64], drawn: NDArray[np.float64]) -> NDArray[np.float64]:
    """The measure in every resample; NaN where its whole is nothing."""
    part, whole = (drawn @ parts).T
    measured: NDArray[np.float64] = np.divide(part, whole, out=np.full(len(drawn), np.nan), where=whole > 0)
    return measured


def _rounded(figure: float) -> float | None:
    return None if np.isnan(figure) else round(float(figure), 4)
