"""Times and how they are summed up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds."""

    p50: float
    p95: float
    p99: float

    @classmethod
    def of(cls, times_ms: Sequence[float]) -> Latency:
        """The percentiles of some times in milliseconds."""
        p50, p95, p99 = np.percentile(np.asarray(times_ms), (50, 95, 99))
        return cls(float(p50), float(p95), float(p99))

    def __str__(self) -> str:
        return f"{self.p50:7.1f} {self.p95:7.1f} {self.p99:7.1f}"
