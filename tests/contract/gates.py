"""Waiting without sleeping: for a condition, and for a model to arrive at a gate in whatever process it runs."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path


async def eventually(condition: Callable[[], Awaitable[bool]] | Callable[[], bool], timeout_s: float = 30.0) -> None:
    """Return once `condition` holds. Raises: TimeoutError."""
    async with asyncio.timeout(timeout_s):
        while True:
            held = condition()
            if held if isinstance(held, bool) else await held:
                return
            await asyncio.sleep(0.005)


class Gate:
    """A named pipe that a model blocks at until the test opens it."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.path = path
        self._pipe: int | None = None

    async def reached(self) -> None:
        """Wait until a model blocks at the gate."""
        await eventually(self._connected)

    def open(self) -> None:
        """Let the model go on."""
        if self._pipe is not None:
            os.close(self._pipe)
            self._pipe = None

    def _connected(self) -> bool:
        try:
            self._pipe = self._pipe or os.open(self.path, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:  # nobody reads yet
            return False
        return True
