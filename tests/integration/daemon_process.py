"""A daemon of one's own, started as a person would start it, to be spoken to over its socket."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import psutil

from config.settings import Settings, load_settings
from daemon.client import Client
from daemon.protocol import AwaitStored, ReportStatus, Status, Stored

STOP_TIMEOUT_S = 60.0
STORED_TIMEOUT_S = 120.0


class DaemonProcess:
    """A running `shoal start`. `told` is what it said on its standard output, line by line."""

    def __init__(self, process: asyncio.subprocess.Process, settings: Settings, log: Path) -> None:
        self.settings = settings
        self.process = process
        self.told: list[str] = []
        self._log = log

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def log(self) -> str:
        """What it logged, at `log.level`."""
        return self._log.read_text(encoding="utf-8")

    def client(self, timeout_s: float = 60.0) -> Client:
        return Client(self.settings.server_uri, self.settings.server, timeout_s)

    async def status(self) -> Status:
        async with self.client() as client:
            return await client.request(ReportStatus(), Status)

    async def stored(self, seq: int, timeout_s: float = STORED_TIMEOUT_S) -> None:
        """Wait until a receipt, and with it every one before, is in both graphs."""
        async with self.client(timeout_s + 10) as client:
            reply = await client.request(AwaitStored(seq=seq, timeout_s=timeout_s), Stored)
        if not all(reply.stored.values()):
            raise TimeoutError(f"receipt {seq} is not in every graph: {reply.stored}, refused by {reply.dead}")

    async def drained(self, timeout_s: float = STORED_TIMEOUT_S) -> Status:
        """Wait until nothing waits for the graphs."""
        async with asyncio.timeout(timeout_s):
            while True:
                report = await self.status()
                if not any(graph["pending"] for graph in report.queue.values()):
                    return report
                await asyncio.sleep(0.1)

    def children(self, name: str = "") -> list[psutil.Process]:
        """The processes that it started, and theirs, whose name holds `name`."""
        with contextlib.suppress(psutil.NoSuchProcess):
            return [child for child in psutil.Process(self.pid).children(recursive=True) if name in child.name()]
        return []

    async def says(self, beginning: str) -> None:
        """Wait for a line of its standard output. Raises: RuntimeError with what it said, when it ends instead."""
        while await self._line():
            if self.told[-1].startswith(beginning):
                return
        code = await self.process.wait()
        raise RuntimeError(f"the daemon ended (exit code {code}) and never said {beginning!r}: {self.told} {self.log}")

    async def ended(self) -> int:
        """Its exit code, once it is gone."""
        async with asyncio.timeout(STOP_TIMEOUT_S):
            while await self._line():
                pass
            return await self.process.wait()

    async def kill(self) -> None:
        """Signal 9, and wait until it is gone."""
        self.process.kill()
        await self.process.wait()

    async def _line(self) -> bool:
        assert self.process.stdout is not None
        line = await self.process.stdout.readline()
        if line:
            self.told.append(line.decode().rstrip("\n"))
        return bool(line)


def settings_in(folder: Path) -> Settings:
    """What a client needs to know of a daemon on this folder."""
    return load_settings(overrides={"home": str(folder), "runtime_dir": str(folder / "run")}).settings


@contextlib.asynccontextmanager
async def daemon(folder: Path, **changes: object) -> AsyncIterator[DaemonProcess]:
    """A daemon that is ready, on this folder; stopped in order when the block ends, unless it has ended by then.

    `changes` are dotted settings, the dots written as two underscores. The folder's path must be short: it holds the
    socket.
    """
    chosen = {
        "home": folder,
        "runtime_dir": folder / "run",
        "metrics.port": 0,
        "log.level": "warning",
        **{key.replace("__", "."): value for key, value in changes.items()},
    }
    arguments = [argument for key, value in chosen.items() for argument in ("--set", f"{key}={value}")]
    log = folder / "stderr.log"
    with log.open("ab") as stderr:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "daemon", *arguments, "start"),
            stdout=asyncio.subprocess.PIPE,
            stderr=stderr,
            cwd=folder,
        )
    running = DaemonProcess(process, settings_in(folder), log)
    try:
        await running.says("shoal ready")
        yield running
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            try:
                await running.ended()
            except TimeoutError:
                process.kill()
                raise
