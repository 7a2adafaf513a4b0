"""The journal: what is acknowledged is on disk, in order, once; what is stored is erased; nothing is lost silently."""

from __future__ import annotations

import asyncio
import contextlib
import math
import shutil
import sqlite3
import stat
import threading
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import pytest

from config.settings import JournalSettings
from daemon.errors import (
    Backpressure,
    GraphRefused,
    HomeInUse,
    JournalCorrupt,
    JournalFull,
    JournalUnavailable,
    RecordRejected,
    TurnIdReused,
    UnknownEntry,
)
from daemon.memory import journal_file
from daemon.memory.journal import GRAPHS, Journal
from daemon.memory.records import ForgetRecord
from tests.unit.spoken import ROOMY, said

BOTH_STORED = {"user": "stored", "agent": "stored"}


@contextlib.asynccontextmanager
async def opened(path: Path, settings: JournalSettings = ROOMY) -> AsyncIterator[Journal]:
    journal = Journal(path, settings)
    await journal.open()
    try:
        yield journal
    finally:
        await journal.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "home" / "journal.sqlite"


@pytest.fixture
async def journal(path: Path) -> AsyncIterator[Journal]:
    async with opened(path) as journal:
        yield journal


def contents(folder: Path) -> bytes:
    return b"".join(file.read_bytes() for file in folder.iterdir())


async def seqs(journal: Journal, graph: str = "user") -> list[int]:
    return [entry.seq for entry in await journal.entries(0, 10_000, graph)]


async def met(journal: Journal) -> None:
    """Both graphs answered, and hold nothing of this journal yet."""
    for graph in GRAPHS:
        await journal.reconcile(graph, 0)


async def store(journal: Journal, seq: int) -> None:
    await journal.mark_synced("user", seq)
    await journal.mark_synced("agent", seq)


# --- in and out ---------------------------------------------------------------------------------


async def test_entries_come_out_in_order_as_they_went_in(journal: Journal) -> None:
    records = [said("a"), said("b", "naïve \x00 “quotes” 子猫 🐈"), ForgetRecord("me", "entity", "Emma")]
    appended = [await journal.append(record) for record in records]

    read = await journal.entries(0, 10, "user")

    assert read == appended
    assert [entry.record for entry in read] == records
    assert await journal.entries(read[0].seq, 1, "user") == [read[1]]
    assert read == await journal.entries(0, 10, "agent")


async def test_what_was_appended_is_there_after_reopening_under_the_same_journal_id(path: Path) -> None:
    async with opened(path) as journal:
        entry, first_id = await journal.append(said("a")), journal.id
    async with opened(path) as journal:
        assert await journal.entries(0, 10, "agent") == [entry]
        assert journal.id == first_id
        assert len(journal.backlog("user")) == len(journal.backlog("agent")) == journal.unsynced == 1
        assert (await journal.append(said("b"))).seq > entry.seq


async def test_two_journals_have_different_ids(tmp_path: Path) -> None:
    async with opened(tmp_path / "one") as one, opened(tmp_path / "two") as two:
        assert one.id != two.id


async def test_an_entry_goes_only_to_the_graphs_it_names(journal: Journal) -> None:
    entry = await journal.append(said("a"), targets=("agent",))

    assert entry.targets == ("agent",)
    assert await seqs(journal, "user") == []
    assert await journal.entries(0, 10, "agent") == [entry]
    assert await journal.status(entry.seq) == {"agent": "accepted"}


async def test_appends_that_arrive_together_share_commits(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commits: list[str] = []
    open_file = journal_file.open_file

    def traced(at: Path) -> sqlite3.Connection:
        db = open_file(at)
        db.set_trace_callback(lambda sql: commits.append(sql) if sql == "COMMIT" else None)
        return db

    monkeypatch.setattr(journal_file, "open_file", traced)
    async with opened(path) as journal:
        entries = await asyncio.gather(*(journal.append(said(str(number))) for number in range(200)))
        assert len(commits) < 50
    assert sorted(entry.seq for entry in entries) == list(range(1, 201))


async def test_order_is_by_number_when_the_clock_jumps_back(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, now in enumerate((2e9, 1e9, 3e9, 0.0)):
        monkeypatch.setattr(journal_file.time, "time", lambda now=now: now)
        await journal.append(said(str(number)))

    assert [entry.record.turn.id for entry in await journal.entries(0, 10, "user")] == ["0", "1", "2", "3"]
    assert 0 <= journal.backlog("user").oldest_age_s < 3600


async def test_ages_after_a_restart_count_from_the_receipt_and_are_never_negative(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time()
    async with opened(path) as journal:
        monkeypatch.setattr(journal_file.time, "time", lambda: now - 7200)
        early = await journal.append(said("early"))
        monkeypatch.setattr(journal_file.time, "time", lambda: now + 7200)
        late = await journal.append(said("late"))
    monkeypatch.undo()
    async with opened(path) as journal:
        assert journal.backlog("user").age_s(early.seq) >= 7199
        assert 0 <= journal.backlog("user").age_s(late.seq) < 3600


@pytest.mark.parametrize(
    "record",
    [
        said("a", "half a pair: \ud800"),
        said("\udfff"),
        replace(said("a"), turn=replace(said("a").turn, said_at=math.nan)),
        replace(said("a"), turn=replace(said("a").turn, said_at=math.inf)),
    ],
)
async def test_a_record_that_could_not_be_read_back_is_refused(journal: Journal, record: object) -> None:
    with pytest.raises(RecordRejected) as refused:
        await journal.append(record)
    assert refused.value.code == "record_rejected"
    assert "half a pair" not in str(refused.value)
    assert journal.unsynced == 0


# --- the same turn again ------------------------------------------------------------------------


async def test_a_client_that_retries_gets_the_earlier_entry(path: Path) -> None:
    async with opened(path) as journal:
        first = await journal.append(said("a"))
        assert await journal.append(said("a")) == first
        await store(journal, first.seq)
        assert (await journal.append(said("a"))).seq == first.seq
    async with opened(path) as journal:
        assert (await journal.append(said("a"))).seq == first.seq
        assert await seqs(journal) == []


async def test_retries_at_the_same_moment_make_one_entry(journal: Journal) -> None:
    entries = await asyncio.gather(*(journal.append(said("a")) for _ in range(20)))
    assert len({entry.seq for entry in entries}) == journal.unsynced == 1


async def test_an_id_used_again_for_other_words_is_an_error_not_a_loss(journal: Journal) -> None:
    await journal.append(said("1", "I moved to Porto"))
    with pytest.raises(TurnIdReused) as reused:
        await journal.append(said("1", "I have a dog"))
    assert reused.value.code == "turn_id_reused"
    assert len(await seqs(journal)) == 1


async def test_two_users_may_use_the_same_turn_id(journal: Journal) -> None:
    mine, yours = await journal.append(said("1", user="me")), await journal.append(said("1", user="you"))
    assert mine.seq != yours.seq


# --- stored and erased --------------------------------------------------------------------------


async def test_what_both_graphs_have_is_erased_from_the_disk(path: Path) -> None:
    async with opened(path) as journal:
        kept = await journal.append(said("a", "the marmalade is hidden"))
        gone = await journal.append(said("b", "the password is xyzzy"))
        await journal.mark_synced("user", gone.seq)
        await journal.mark_synced("agent", kept.seq - 1)
        assert await journal.status(gone.seq) == {"user": "stored", "agent": "accepted"}
        await journal.mark_synced("agent", gone.seq)
        again = await journal.append(said("c", "the marmalade is hidden"))
        assert await journal.status(gone.seq) == BOTH_STORED
    assert b"xyzzy" not in contents(path.parent)
    assert b"marmalade" in contents(path.parent)
    async with opened(path) as journal:
        assert await journal.status(kept.seq) == await journal.status(gone.seq) == BOTH_STORED
        assert await seqs(journal) == [again.seq]


async def test_a_quiet_moment_erases_without_waiting_for_the_end(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    erased = threading.Event()
    tidy = Journal._tidy

    def observed(journal: Journal, db: sqlite3.Connection) -> None:
        tidy(journal, db)
        if b"xyzzy" not in contents(path.parent):
            erased.set()

    monkeypatch.setattr("daemon.memory.journal_writer.IDLE_S", 0.01)
    monkeypatch.setattr(Journal, "_tidy", observed)
    async with opened(path) as journal:
        await store(journal, (await journal.append(said("a", "the password is xyzzy"))).seq)
        assert await asyncio.to_thread(erased.wait, 20)


async def test_rows_of_stored_turns_go_after_thirty_days_and_waiting_ones_never(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(path) as journal:
        monkeypatch.setattr(journal_file.time, "time", lambda: 1e9)
        old = await journal.append(said("old"))
        await store(journal, old.seq)
        waiting = await journal.append(said("waiting"))
        monkeypatch.undo()
        recent = await journal.append(said("recent"), targets=("agent",))
        await journal.mark_synced("agent", recent.seq)
    async with opened(path) as journal:
        with pytest.raises(UnknownEntry):
            await journal.status(old.seq)
        assert await journal.status(recent.seq) == {"agent": "stored"}
        assert await seqs(journal, "user") == [waiting.seq]
        assert (await journal.append(said("new"))).seq > recent.seq


async def test_waiting_for_stored_ends_when_both_graphs_have_it(journal: Journal) -> None:
    entry = await journal.append(said("a"))
    assert await journal.wait_stored(entry.seq, 0.01) == {"user": False, "agent": False}
    await journal.mark_synced("user", entry.seq)
    assert await journal.wait_stored(entry.seq, 0.01) == {"user": True, "agent": False}

    waiting = asyncio.create_task(journal.wait_stored(entry.seq, 60))
    await journal.mark_synced("agent", entry.seq)

    assert await waiting == {"user": True, "agent": True}


async def test_waiting_for_an_entry_that_never_was_is_an_error(journal: Journal) -> None:
    with pytest.raises(UnknownEntry):
        await journal.wait_stored(7, 60)


# --- backpressure -------------------------------------------------------------------------------


@pytest.fixture
async def narrow(path: Path) -> AsyncIterator[Journal]:
    async with opened(path, JournalSettings(max_unsynced=3, admission_timeout_s=0.05, group_commit_ms=1.0)) as journal:
        yield journal


async def test_a_crowd_does_not_pass_the_bound_together(narrow: Journal) -> None:
    outcomes = await asyncio.gather(*(narrow.append(said(str(n))) for n in range(30)), return_exceptions=True)

    refused = [outcome for outcome in outcomes if isinstance(outcome, Backpressure)]
    assert (len(refused), narrow.unsynced) == (27, 3)
    assert {error.code for error in refused} == {"too_many_unsynced"}


async def test_a_client_waits_for_room_and_then_gets_in(path: Path) -> None:
    async with opened(path, JournalSettings(max_unsynced=1, admission_timeout_s=60, group_commit_ms=0)) as journal:
        first = await journal.append(said("a"))
        waiting = asyncio.create_task(journal.append(said("b")))
        await journal.mark_synced("user", first.seq)
        assert not waiting.done()
        await journal.mark_synced("agent", first.seq)
        assert (await waiting).seq == first.seq + 1


async def test_a_full_journal_still_knows_a_retry_and_still_takes_a_wish_to_forget(narrow: Journal) -> None:
    entries = [await narrow.append(said(str(n))) for n in range(3)]
    assert (await narrow.append(said("1"))).seq == entries[1].seq
    assert (await narrow.append(ForgetRecord("me", "everything"))).seq > entries[2].seq


async def test_a_client_that_goes_away_during_its_append_leaves_the_counts_right(journal: Journal) -> None:
    append = asyncio.create_task(journal.append(said("a")))
    await asyncio.sleep(0)  # it is submitted, and not yet on disk
    append.cancel()
    with pytest.raises(asyncio.CancelledError):
        await append
    assert await seqs(journal) == [1]
    assert journal.unsynced == 1
    await store(journal, 1)
    assert journal.unsynced == 0


# --- dead letters -------------------------------------------------------------------------------


async def test_a_dead_letter_is_kept_shown_and_can_be_sent_again(journal: Journal) -> None:
    entry = await journal.append(said("a"))
    await journal.mark_synced("agent", entry.seq)
    await journal.dead(entry.seq, "user", GraphRefused("no such label"))

    (letter,) = await journal.dead_letters()
    assert (letter.seq, letter.graph, letter.code, letter.record) == (entry.seq, "user", "graph_refused", entry.record)
    assert "no such label" in letter.error
    assert await journal.status(entry.seq) == {"user": "dead", "agent": "stored"}
    assert (journal.unsynced, journal.backlog("user").dead) == (0, 1)

    again = await journal.retry(entry.seq, "user")
    assert (again.targets, again.record) == (("user",), entry.record)
    assert await journal.entries(0, 10, "user") == [again]
    assert await journal.dead_letters() == []
    assert await journal.status(entry.seq) == {"user": "accepted", "agent": "stored"}

    await journal.mark_synced("user", again.seq)
    assert await journal.wait_stored(entry.seq, 0.01) == {"user": True, "agent": True}
    assert journal.backlog("user").dead == 0


async def test_the_cursor_passing_a_dead_letter_does_not_make_it_stored(journal: Journal) -> None:
    dead, alive = await journal.append(said("a")), await journal.append(said("b"))
    await journal.dead(dead.seq, "user", GraphRefused("no"))
    await store(journal, alive.seq)
    await journal.reconcile("user", alive.seq)
    assert await journal.status(dead.seq) == {"user": "dead", "agent": "stored"}
    assert [letter.seq for letter in await journal.dead_letters()] == [dead.seq]


async def test_a_discarded_dead_letter_is_erased(path: Path) -> None:
    async with opened(path) as journal:
        entry = await journal.append(said("a", "the password is xyzzy"), targets=("user",))
        await journal.dead(entry.seq, "user", GraphRefused("refused: the password is xyzzy"))
        await journal.discard(entry.seq, "user")
        assert await journal.status(entry.seq) == {"user": "discarded"}
        assert await journal.dead_letters() == []
    assert b"xyzzy" not in contents(path.parent)


async def test_dead_letters_outlive_a_restart(path: Path) -> None:
    async with opened(path) as journal:
        entry = await journal.append(said("a"))
        await journal.dead(entry.seq, "user", ValueError("projection bug"))
    async with opened(path) as journal:
        assert journal.backlog("user").dead == 1
        assert [letter.code for letter in await journal.dead_letters()] == ["projection_failed"]
        assert await seqs(journal, "user") == []
        assert await seqs(journal, "agent") == [entry.seq]


async def test_only_a_dead_letter_can_be_retried_or_discarded(journal: Journal) -> None:
    entry = await journal.append(said("a"))
    for call in (journal.retry, journal.discard):
        for seq, graph in ((entry.seq, "user"), (99, "agent")):
            with pytest.raises(UnknownEntry):
                await call(seq, graph)
    await journal.mark_synced("user", entry.seq)
    with pytest.raises(UnknownEntry):
        await journal.dead(entry.seq, "user", GraphRefused("no"))
    assert await journal.status(entry.seq) == {"user": "stored", "agent": "accepted"}


@pytest.mark.parametrize(
    ("wish", "left"),
    [
        (ForgetRecord("me", "everything"), ["yours"]),
        (ForgetRecord("me", "session", "s1"), ["other", "yours"]),
        (ForgetRecord("me", "entity", "rex"), ["emma", "other", "yours"]),
        (ForgetRecord("me", "entity", "my dog", ("Rexy", "rex")), ["emma", "other", "yours"]),
        (ForgetRecord("me", "entity", "Re"), ["rex", "emma", "other", "yours"]),
    ],
)
async def test_a_wish_to_forget_takes_the_dead_letters_along(
    journal: Journal, wish: ForgetRecord, left: list[str]
) -> None:
    for record in (
        said("rex", "Rex bit Bob"),
        said("emma"),
        said("other", session="s2"),
        said("yours", "Rex is fine", user="you"),
    ):
        await journal.dead((await journal.append(record)).seq, "user", GraphRefused("no"))

    await journal.append(wish)

    assert [letter.record.turn.id for letter in await journal.dead_letters()] == left
    assert journal.backlog("user").dead == len(left)


async def test_a_turn_that_dies_after_the_wish_to_forget_it_leaves_no_dead_letter(path: Path) -> None:
    async with opened(path) as journal:
        rex, other = await journal.append(said("rex", "Rex bit Bob")), await journal.append(said("other", session="s2"))
        yours = await journal.append(said("yours", "Rex is fine", user="you"))
        await journal.append(ForgetRecord("me", "entity", "Rex"))
        later = await journal.append(said("later", "Rex again"))
        for entry in (rex, other, yours, later):
            await journal.dead(entry.seq, "user", GraphRefused("no"))
        assert [letter.record.turn.id for letter in await journal.dead_letters()] == ["other", "yours", "later"]
        assert journal.backlog("user").dead == 3
        assert (await journal.status(rex.seq))["user"] == "discarded"
        with pytest.raises(UnknownEntry):
            await journal.retry(rex.seq, "user")


async def test_everything_forgotten_takes_along_what_cannot_be_read(path: Path) -> None:
    async with opened(path) as journal:
        for name in ("dead", "dying"):
            await journal.append(said(name))
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        db.execute("""UPDATE entries SET payload = '{"turn": 5}'""")
    async with opened(path) as journal:
        await journal.dead(1, "user", GraphRefused("no"))
        await journal.append(ForgetRecord("me", "everything"))
        await seqs(journal, "user")
        assert await journal.dead_letters() == []


async def test_an_entry_that_cannot_be_read_becomes_a_dead_letter_and_blocks_nobody(path: Path) -> None:
    async with opened(path) as journal:
        for name in ("a", "b", "c"):
            await journal.append(said(name))
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        db.execute("""UPDATE entries SET payload = '{"turn": 5}' WHERE seq = 2""")
    async with opened(path) as journal:
        assert await seqs(journal, "user") == [1, 3]
        (letter,) = await journal.dead_letters()
        assert (letter.seq, letter.graph, letter.code, letter.record) == (2, "user", "record_rejected", None)
        with pytest.raises(RecordRejected):
            await journal.retry(2, "user")
        await journal.discard(2, "user")
        assert journal.backlog("user").dead == 0


# --- the graph's cursor is the truth ------------------------------------------------------------


async def test_a_commit_that_was_never_noted_is_learned_from_the_graph(path: Path) -> None:
    async with opened(path) as journal:
        await met(journal)
        entries = [await journal.append(said(name)) for name in ("a", "b", "c")]
    async with opened(path) as journal:
        await journal.reconcile("user", entries[1].seq)
        assert await seqs(journal, "user") == [entries[2].seq]
        assert await seqs(journal, "agent") == [entry.seq for entry in entries]


async def test_what_a_graph_lost_is_sent_again_where_it_is_still_here(journal: Journal) -> None:
    erased, kept = await journal.append(said("a")), await journal.append(said("b"))
    await store(journal, erased.seq)
    await journal.mark_synced("user", kept.seq)

    await journal.reconcile("user", 0)

    assert await seqs(journal, "user") == [kept.seq]
    assert kept.seq in journal.backlog("user")
    assert await journal.status(erased.seq) == BOTH_STORED


async def test_an_older_copy_of_the_journal_hides_nothing_behind_the_graphs_cursors(path: Path) -> None:
    async with opened(path) as journal:
        await met(journal)
        await journal.append(said("a"))
    copy = path.with_name("copy.sqlite")
    shutil.copy(path, copy)
    async with opened(path) as journal:  # lives on, and both graphs with it, unevenly
        for number in range(10):
            await journal.append(said(f"later {number}"))
    async with opened(copy) as journal:
        new = await journal.append(said("new"))
        await journal.reconcile("user", 11)
        (renewed,) = await journal.entries(0, 10, "user")
        assert renewed.seq > 11
        assert renewed.record.turn.id == "new"
        await journal.reconcile("agent", 9)
        (renewed,) = await journal.entries(0, 10, "agent")
        assert renewed.seq > 11
        assert await journal.status(new.seq) == {"user": "accepted", "agent": "accepted"}
        after = await journal.append(said("after"))
        assert await seqs(journal, "user") == [12, after.seq]
        await journal.reconcile("user", after.seq)
        assert await seqs(journal, "user") == []


async def test_an_older_copy_hides_nothing_although_it_started_twice_before_a_graph_came_back(path: Path) -> None:
    async with opened(path) as journal:
        await met(journal)
        await store(journal, (await journal.append(said("a"))).seq)
    async with opened(path) as journal:
        new = [(await journal.append(said(name))).seq for name in ("b", "c")]
        await journal.reconcile("agent", 9)
    async with opened(path) as journal:
        assert await seqs(journal, "user") == new
        await journal.reconcile("user", 9)
        assert [entry.record.turn.id for entry in await journal.entries(0, 10, "user")] == ["b", "c"]
        assert min(await seqs(journal, "user")) > 9
        assert min(await seqs(journal, "agent")) > 9
        await journal.mark_synced("user", max(await seqs(journal, "user")))
    async with opened(path) as journal:
        last = await journal.append(said("d"))
        await journal.reconcile("user", last.seq - 1)
        assert await seqs(journal, "user") == [last.seq]


# --- the file -----------------------------------------------------------------------------------


async def test_only_its_owner_may_read_the_file(path: Path) -> None:
    async with opened(path) as journal:
        await journal.append(said("a"))
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
        assert set(modes.values()) == {0o600}
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


async def test_a_second_process_is_refused(path: Path) -> None:
    async with opened(path) as journal:
        with pytest.raises(HomeInUse):
            await Journal(path, ROOMY).open()
        await journal.append(said("a"))


async def test_a_closed_journal_refuses_and_closes_again(path: Path) -> None:
    async with opened(path) as journal:
        pass
    await journal.close()
    with pytest.raises(JournalUnavailable):
        await journal.append(said("a"))
    with pytest.raises(JournalUnavailable):
        await Journal(path, ROOMY).append(said("a"))


async def test_a_folder_that_cannot_be_written_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(JournalUnavailable) as unavailable:
        await Journal(tmp_path / "file" / "journal.sqlite", ROOMY).open()
    assert unavailable.value.code == "journal_unavailable"


async def filled(path: Path) -> None:
    async with opened(path) as journal:
        await asyncio.gather(*(journal.append(said(str(number), "word " * 100)) for number in range(60)))


@pytest.mark.parametrize("share", [0.0, 0.001, 0.1, 0.3, 0.5, 0.9, 0.999])
async def test_a_truncated_file_is_reported_and_left_as_it_is(path: Path, share: float) -> None:
    await filled(path)
    damage(path, lambda file, size: file.truncate(int(size * share)))
    await assert_corrupt(path)


@pytest.mark.parametrize("page", [0, 1, 3, 8])
async def test_a_page_of_rubbish_is_reported_and_left_as_it_is(path: Path, page: int) -> None:
    await filled(path)
    damage(path, lambda file, _size: (file.seek(page * 4096), file.write(b"\xa5" * 4096)))
    await assert_corrupt(path)


def damage(path: Path, how: Callable[[BinaryIO, int], object]) -> None:
    with path.open("r+b") as file:
        how(file, path.stat().st_size)


async def assert_corrupt(path: Path) -> None:
    before = contents(path.parent)
    with pytest.raises(JournalCorrupt) as corrupt:
        await Journal(path, ROOMY).open()
    assert corrupt.value.code == "journal_corrupt"
    assert contents(path.parent) == before


async def test_some_other_database_is_no_journal(path: Path) -> None:
    path.parent.mkdir()
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        db.execute("CREATE TABLE entries (seq INTEGER)")
    with pytest.raises(JournalCorrupt, match="no journal of Shoal"):
        await Journal(path, ROOMY).open()


async def test_a_journal_of_a_later_version_is_not_touched(path: Path) -> None:
    await filled(path)
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(JournalCorrupt, match="newer Shoal"):
        await Journal(path, ROOMY).open()


async def test_a_write_ahead_log_without_its_journal_is_not_taken_for_a_fresh_start(path: Path) -> None:
    path.parent.mkdir()
    path.with_name(path.name + "-wal").write_bytes(b"pages")
    with pytest.raises(JournalCorrupt, match="missing"):
        await Journal(path, ROOMY).open()
    assert contents(path.parent) == b"pages"


async def test_a_crash_while_the_journal_was_made_leaves_no_damage(path: Path) -> None:
    path.parent.mkdir()
    path.with_name(path.name + ".new").write_bytes(b"half a journal")
    async with opened(path) as journal:
        assert (await journal.append(said("a"))).seq == 1
    assert [file.name for file in path.parent.iterdir()] == [path.name]


# --- a full disk --------------------------------------------------------------------------------


async def test_a_full_disk_acknowledges_nothing_loses_nothing_and_passes(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pages = 40
    limit: list[sqlite3.Connection] = []
    open_file = journal_file.open_file

    def small_disk(at: Path) -> sqlite3.Connection:
        db = open_file(at)
        db.execute(f"PRAGMA max_page_count = {pages}")
        limit.append(db)
        return db

    monkeypatch.setattr(journal_file, "open_file", small_disk)
    async with opened(path) as journal:
        outcomes = await asyncio.gather(
            *(journal.append(said(str(n), "word " * 200)) for n in range(200)), return_exceptions=True
        )
        accepted = [outcome for outcome in outcomes if not isinstance(outcome, BaseException)]
        refused = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        assert accepted
        assert {type(error) for error in refused} == {JournalFull}
        assert refused[0].code == "journal_full"
        assert await journal.entries(0, 1000, "user") == accepted
        assert journal.unsynced == len(accepted)

        await store(journal, accepted[-1].seq)  # the graphs take them, and that makes room
        assert journal.unsynced == 0
        entry = await journal.append(said("after", "word " * 200))
        assert await seqs(journal) == [entry.seq]
