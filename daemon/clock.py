"""When something is said, by a clock that does not go back."""

from __future__ import annotations

import time

BELIEVED_S = 86_400.0
"""How far ahead an earlier time may lie. A clock that is set right, or a computer's wrong zone, makes steps of hours; a
time further ahead came from a clock that was itself wrong, and waiting for it could take years."""
_STEP_S = 0.001


class Clock:
    """Unix time in seconds, each a little later than the one before, or what is known last would count as older."""

    def __init__(self, latest: float = 0.0) -> None:
        """`latest` is the last time that an earlier process gave."""
        self._latest = latest

    def now(self) -> float:
        """The time, or just after the latest one that was given while the machine's clock is behind that."""
        now = time.time()
        if 0.0 <= self._latest - now <= BELIEVED_S:
            now = self._latest + _STEP_S
        self._latest = now
        return now
