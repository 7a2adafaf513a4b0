"""What the processes of test_registry_processes.py do. Run as a program: it forks, and so must have no threads."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import structlog

from registry.active import ActivePointers
from registry.errors import RegistryError
from registry.garbage import collect_garbage
from registry.store import Store
from registry.versions import Manifest

CALLS = ("open", "mkdir", "rename", "replace", "fsync", "unlink", "rmdir", "truncate")


def register(root: Path, source: str) -> None:
    Store(root).register(Manifest.read(Path(source)), Path(source))


def activate(root: Path, version: str) -> None:
    ActivePointers(root).activate(version, who="child", why="test")


def rollback(root: Path, name: str) -> None:
    ActivePointers(root).rollback(name, who="child", why="test")


def collect(root: Path, keep: str) -> None:
    collect_garbage(ActivePointers(root), int(keep))


ACTIONS: dict[str, Callable[[Path, str], None]] = {f.__name__: f for f in (register, activate, rollback, collect)}


def die_at(point: int) -> None:
    """Kill this process, as by a power cut, when it makes its `point`th call that changes the disk.

    Of a file that is being written down, the last bytes are then lost.
    """
    made = 0

    def watched(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            nonlocal made
            made += 1
            if made == point:
                if name == "fsync" and stat.S_ISREG(os.fstat(args[0]).st_mode):
                    os.ftruncate(args[0], max(0, os.fstat(args[0]).st_size - 7))
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **options)

        return call

    for name in CALLS:
        setattr(os, name, watched(name, getattr(os, name)))


def crash_everywhere(template: Path, results: Path, action: str, argument: str) -> None:
    """Run the action on a copy of `template` with a crash at its first call, then its second, until one run ends."""
    point = 0
    while True:
        point += 1
        root = results / f"{point:03}"
        shutil.copytree(template, root)
        child = os.fork()
        if child == 0:
            die_at(point)
            ACTIONS[action](root, argument)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status):
            assert os.waitstatus_to_exitcode(status) == 0
            return


def repeat(root: Path, action: str, *arguments: str) -> None:
    """Do the action with each argument, once somebody says go; print the codes of the errors."""
    print("ready", flush=True)
    sys.stdin.readline()
    codes = []
    for argument in arguments:
        try:
            ACTIONS[action](root, argument)
        except RegistryError as error:
            codes.append(error.code)
    print(json.dumps(codes))


def limited(root: Path, action: str, argument: str, limit_bytes: str) -> None:
    """Do the action where no file can grow past `limit_bytes`: the kernel refuses as it does when the disk is full."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit_bytes), resource.RLIM_INFINITY))
    repeat(root, action, argument)


if __name__ == "__main__":
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    role, *arguments = sys.argv[1:]
    if role == "crash_everywhere":
        crash_everywhere(Path(arguments[0]), Path(arguments[1]), *arguments[2:])
    elif role == "repeat":
        repeat(Path(arguments[0]), *arguments[1:])
    else:
        limited(Path(arguments[0]), *arguments[1:])
