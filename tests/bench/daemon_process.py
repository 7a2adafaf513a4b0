"""A daemon of its own for a measurement, as a person would start it."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

from config.settings import Settings, load_settings


@contextlib.asynccontextmanager
async def daemon(**changes: str) -> AsyncIterator[Settings]:
    """Settings of a daemon that is ready. `changes` are dotted settings, dots written as two underscores."""
    with tempfile.TemporaryDirectory(prefix="shoal-bench-") as folder:
        chosen = {
            "home": folder,
            "runtime_dir": f"{folder}/run",
            "metrics.port": "0",
            "log.level": "warning",
            **{key.replace("__", "."): value for key, value in changes.items()},
        }
        arguments = [argument for key, value in chosen.items() for argument in ("--set", f"{key}={value}")]
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "daemon", *arguments, "start", stdout=asyncio.subprocess.PIPE, cwd=Path(folder)
        )
        assert process.stdout is not None
        try:
            async for line in process.stdout:
                if line.startswith(b"shoal ready"):
                    break
            else:
                raise RuntimeError(f"the daemon did not start (exit code {await process.wait()})")
            yield load_settings(overrides={"home": folder, "runtime_dir": f"{folder}/run"}).settings
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            await process.communicate()
