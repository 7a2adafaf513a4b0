"""A daemon of its own for a measurement."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

from config.settings import Settings
from tests.integration import daemon_process


@contextlib.asynccontextmanager
async def daemon(**changes: object) -> AsyncIterator[Settings]:
    """Settings of a daemon that is ready; `changes` as for `tests.integration.daemon_process.daemon`."""
    with tempfile.TemporaryDirectory(prefix="shoal-bench-") as folder:
        async with daemon_process.daemon(Path(folder), **changes) as running:
            yield running.settings
