"""How well confidences mean what they say."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

_BINS = 10


def calibration_error(sureness: Iterable[tuple[float, bool]]) -> float | None:
    """Expected calibration error over ten equal bins of confidence, of (confidence, was it right); None of nothing."""
    pairs = np.array([(confidence, right) for confidence, right in sureness], dtype=float).reshape(-1, 2)
    if not len(pairs):
        return None
    bins = np.minimum((pairs[:, 0] * _BINS).astype(int), _BINS - 1)
    gaps = [abs(pairs[bins == b].mean(axis=0) @ (1.0, -1.0)) * (bins == b).mean() for b in set(bins.tolist())]
    return round(float(sum(gaps)), 4)
