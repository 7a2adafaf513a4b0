"""A process that is killed with signal 9 in the middle of its appends loses nothing that it acknowledged."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

from daemon.memory.journal import Journal
from tests.unit import journal_appender
from tests.unit.spoken import ROOMY


def acknowledged_until_killed(path: Path, first: int, count: int) -> dict[str, int]:
    """Turn id -> seq of everything that the process said was on disk before it died."""
    child = subprocess.Popen(
        [sys.executable, journal_appender.__file__, str(path), str(first)], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    lines = [child.stdout.readline() for _ in range(count)]
    child.kill()
    lines += child.stdout.readlines()
    child.stdout.close()
    assert child.wait() == -9
    # A line cut short by the kill is no acknowledgement.
    return {turn: int(seq) for turn, seq in (line.split() for line in lines if line.endswith("\n"))}


async def test_every_acknowledged_turn_outlives_kill_9(tmp_path: Path) -> None:
    path, chance = tmp_path / "journal.sqlite", random.Random(9)  # noqa: S311
    acknowledged: dict[str, int] = {}
    for life in range(4):
        acknowledged |= acknowledged_until_killed(path, life * 10**6, chance.randint(20, 150))

        journal = Journal(path, ROOMY)
        await journal.open()
        entries = await journal.entries(0, 10**6, "user")
        on_disk = {entry.record.turn.id: entry.seq for entry in entries}
        assert acknowledged.items() <= on_disk.items()
        assert len(on_disk) == len(entries)
        assert [entry.seq for entry in entries] == sorted(entry.seq for entry in entries)
        await journal.close()
    assert len(acknowledged) >= 80
