"""Durable, private files, and the lock that all writers of one registry share."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from registry.errors import RegistryBusy, StorageFailed

LOCK_TIMEOUT_S = 30.0
STAGING = "staging"


@contextlib.contextmanager
def exclusive(root: Path, timeout_s: float = LOCK_TIMEOUT_S) -> Iterator[None]:
    """Hold the registry's lock, across threads and processes. It ends with its process; it does not nest.

    Raises: RegistryBusy.
    """
    private_folder(root)
    lock = os.open(root / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        deadline = time.monotonic() + timeout_s
        while not _try_lock(lock):
            if time.monotonic() >= deadline:
                raise RegistryBusy(f"{root}: another process has been changing the registry for {timeout_s:g} s")
            time.sleep(0.005)
        yield
    finally:
        os.close(lock)


@contextlib.contextmanager
def storage_errors(what: str) -> Iterator[None]:
    """Turn the disk's refusals into StorageFailed, saying what was being done."""
    try:
        yield
    except OSError as error:
        raise StorageFailed(f"{what}: {error}") from error


def private_folder(path: Path) -> None:
    """Make the folder and the missing ones above it, for this user alone."""
    if not path.is_dir():
        private_folder(path.parent)
        with contextlib.suppress(FileExistsError):
            os.mkdir(path, 0o700)  # noqa: PTH102 - Path.mkdir would leave the parents' mode to the umask
        sync_folder(path.parent)


def write_file(path: Path, content: bytes) -> None:
    """Write a new private file down to the disk."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def replace_file(root: Path, path: Path, content: bytes) -> None:
    """Put a private file in the place of `path` at once, down to the disk. The caller holds the registry's lock."""
    private_folder(root / STAGING)
    private_folder(path.parent)
    new = root / STAGING / f"{path.name}-{secrets.token_hex(4)}"
    try:
        write_file(new, content)
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)
    sync_folder(path.parent)


def append_line(path: Path, line: bytes) -> None:
    """Add a line to a private file, down to the disk. A crash can leave part of it: see `drop_torn_line`."""
    new = not path.exists()
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(line + b"\n")
        file.flush()
        os.fsync(file.fileno())
    if new:
        sync_folder(path.parent)


def read_lines(path: Path) -> list[bytes]:
    """The whole lines of a file, without one that a crash tore at the end; none where there is no file."""
    try:
        return path.read_bytes().split(b"\n")[:-1]
    except FileNotFoundError:
        return []


def drop_torn_line(path: Path) -> None:
    """Cut off what `append_line` left of its last line, so that the next one starts on its own."""
    if path.exists():
        whole = path.read_bytes().rfind(b"\n") + 1
        if whole != path.stat().st_size:
            os.truncate(path, whole)


def copy_file(source: Path, target: Path) -> None:
    """Copy into a new private file down to the disk, never through a link."""
    reading = os.open(source, os.O_RDONLY | os.O_NOFOLLOW)
    with os.fdopen(reading, "rb") as source_file:
        writing = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(writing, "wb") as target_file:
            shutil.copyfileobj(source_file, target_file, 1 << 20)
            target_file.flush()
            os.fsync(target_file.fileno())


def sync_folder(path: Path) -> None:
    """Make renames and new names in the folder survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def staging(root: Path) -> Iterator[Path]:
    """A private folder for work in progress, gone afterwards unless renamed. Sweeps what dead processes left.

    The owner holds a lock on the folder itself, so a sweep can tell work in progress from leftovers.
    """
    with exclusive(root):
        private_folder(root / STAGING)
        sweep(root)
        folder = Path(tempfile.mkdtemp(dir=root / STAGING))
        owner = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        _try_lock(owner)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(owner)


def sweep(root: Path) -> None:
    """Remove what processes that died left in staging. The caller holds the registry's lock."""
    if not (root / STAGING).is_dir():
        return
    for leftover in list((root / STAGING).iterdir()):
        owner = os.open(leftover, os.O_RDONLY)
        try:
            if _try_lock(owner):
                shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
        finally:
            os.close(owner)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
