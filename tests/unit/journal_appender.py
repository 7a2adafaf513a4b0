"""A process that appends to a journal until it is killed: `python journal_appender.py FILE FIRST`.

Prints "turn seq" for each append once it is acknowledged, from several clients at once.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from config.settings import JournalSettings
from daemon.memory.journal import Journal
from tests.unit.spoken import said


async def append_forever(path: Path, first: int) -> None:
    journal = Journal(path, JournalSettings(max_unsynced=10**9, admission_timeout_s=1.0, group_commit_ms=1.0))
    await journal.open()

    async def client(number: int) -> None:
        turn = first
        while True:
            entry = await journal.append(said(f"{number}-{turn}"))
            print(f"{number}-{turn}", entry.seq, flush=True)
            turn += 1

    await asyncio.gather(*(client(number) for number in range(4)))


if __name__ == "__main__":
    asyncio.run(append_forever(Path(sys.argv[1]), int(sys.argv[2])))
