"""Who owns a data folder: one process at a time."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from daemon.errors import HomeInUse


@contextlib.contextmanager
def sole_owner(home: Path) -> Iterator[None]:
    """Hold the data folder, which is made where it is missing: two daemons on one journal would each believe in their
    own cursor.

    Raises:
        HomeInUse: another process holds it.
    """
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = home / "daemon.lock"
    with path.open("a+") as lock:
        path.chmod(0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise HomeInUse(f"a daemon (pid {lock.read().strip() or 'unknown'}) works on {home}") from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield
