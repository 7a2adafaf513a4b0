"""Starting the daemon in the background, and waiting for it to come or go."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence

import psutil

from config.settings import Settings
from daemon.errors import DaemonError

START_TIMEOUT_S = 180.0
POLL_S = 0.05
READY = "ready"


def start(settings: Settings, arguments: Sequence[str]) -> str:
    """Start `shoal start` in a session of its own; returns its ready line.

    Raises:
        DaemonError: it ended before it was ready (the text holds the end of its log), or it is not ready in time and
            goes on starting.
    """
    settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    log_path = settings.home / "daemon.log"
    with log_path.open("ab") as log:
        log_path.chmod(0o600)
        begins_at = log.tell()
        # The folder matters: Ray puts the working directory at the front of its workers' path.
        process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            [sys.executable, "-m", "daemon", *arguments, "start"],
            cwd=settings.home,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    ends_at = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < ends_at:
        with log_path.open("rb") as log:
            log.seek(begins_at)
            lines = log.read().decode("utf-8", "replace").splitlines()
        ready = next((line for line in lines if line.startswith(f"shoal {READY}")), None)
        if ready is not None:
            return ready
        if process.poll() is not None:
            raise DaemonError("it did not start:\n" + "\n".join(lines[-12:]))
        time.sleep(POLL_S)
    raise DaemonError(f"not ready after {START_TIMEOUT_S:g} s; it goes on starting (pid {process.pid}), see {log_path}")


def wait_gone(pid: int, timeout_s: float) -> bool:
    """Whether a process ends within the time."""
    try:
        psutil.Process(pid).wait(timeout_s)
    except psutil.NoSuchProcess:
        return True
    except psutil.TimeoutExpired:
        return False
    return True
