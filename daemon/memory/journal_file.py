"""The journal's SQLite file: how it is made, opened and checked, and the statements that run on it.

Everything here is synchronous and runs on the journal's one writer thread.
"""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
import time
import uuid
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from pydantic import TypeAdapter, ValidationError

from daemon.errors import (
    DaemonError,
    HomeInUse,
    JournalCorrupt,
    JournalFull,
    JournalUnavailable,
    RecordRejected,
    TurnIdReused,
    UnknownEntry,
)
from daemon.memory.records import Entry, ForgetRecord, GraphName, Record, TurnRecord

GRAPHS: tuple[GraphName, ...] = get_args(GraphName)
KEPT_AFTER_STORED_S = 30 * 86_400.0
"""How long a row without its payload stays, so that a late retry is known and `status` can still answer."""

Delivery: TypeAlias = Literal["accepted", "stored", "dead", "discarded"]
"""How far an entry is on its way to one graph: on disk, committed there, set aside, or given up by a person."""

_ADAPTERS: dict[str, TypeAdapter[Any]] = {"turn": TypeAdapter(TurnRecord), "forget": TypeAdapter(ForgetRecord)}
_VERSION = 1
_APPLICATION_ID = 0x53484F4C  # "SHOL"
_SCHEMA = f"""
CREATE TABLE journal (id TEXT NOT NULL);
CREATE TABLE entries (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    recorded_at REAL NOT NULL,
    kind TEXT NOT NULL,
    user TEXT NOT NULL,
    turn TEXT,
    fingerprint INTEGER,
    payload BLOB
);
CREATE UNIQUE INDEX turns ON entries (user, turn) WHERE turn IS NOT NULL;
CREATE TABLE deliveries (
    seq INTEGER NOT NULL REFERENCES entries ON DELETE CASCADE,
    graph TEXT NOT NULL,
    state TEXT NOT NULL DEFAULT 'accepted',
    code TEXT,
    error TEXT,
    died_at REAL,
    successor INTEGER,
    PRIMARY KEY (seq, graph)
) WITHOUT ROWID;
CREATE INDEX waiting ON deliveries (graph, seq) WHERE state = 'accepted';
CREATE INDEX dead ON deliveries (graph, seq) WHERE state = 'dead';
PRAGMA application_id = {_APPLICATION_ID};
PRAGMA user_version = {_VERSION};
"""
# Beside the version's schema: an older Shoal has no use for it, and a file that was made by one gets it here.
_UNMET = "CREATE TABLE IF NOT EXISTS unmet (graph TEXT PRIMARY KEY, opened_at INTEGER NOT NULL) WITHOUT ROWID"


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A write that a graph never took. `record` is None where the journal itself can no longer read it."""

    seq: int
    graph: GraphName
    code: str
    error: str
    recorded_at: float
    died_at: float
    record: Record | None


@dataclass(frozen=True, slots=True)
class Reconciled:
    """What the journal learned from a graph's cursor: entries it now knows stored, must send again, or cannot."""

    stored: tuple[int, ...] = ()
    again: tuple[tuple[int, float], ...] = ()
    renewed: tuple[tuple[int, int], ...] = ()
    lost: int = 0


# --- opening ------------------------------------------------------------------------------------


def open_file(path: Path) -> sqlite3.Connection:
    """Open the journal, or make one where there is none; only this process may use it until it is closed.

    Raises:
        JournalCorrupt: the file is damaged, truncated, or no journal of this version.
        HomeInUse: another process has it open.
        JournalFull, JournalUnavailable: it cannot be made or opened.
    """
    with translated(path):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not path.exists():
            _create(path)
        if missing := _missing_bytes(path):
            raise JournalCorrupt(_damaged(path, f"{missing} bytes are missing at its end"))
        path.chmod(0o600)
        db = _connect(path)
        try:
            _check(db, path)
            db.execute(_UNMET)
        except BaseException:
            db.close()
            raise
        return db


def _create(path: Path) -> None:
    """Made under another name and renamed when whole: a crash half-way leaves no file that looks damaged."""
    wal = path.with_name(path.name + "-wal")
    if wal.exists() and wal.stat().st_size:
        raise JournalCorrupt(_damaged(path, f"it is missing, but {wal.name} is there"))
    staged = path.with_name(path.name + ".new")
    for leftover in (staged, staged.with_name(staged.name + "-wal")):
        leftover.unlink(missing_ok=True)
    os.close(os.open(staged, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    db = _connect(staged)
    try:
        db.executescript(_SCHEMA)
        db.execute("INSERT INTO journal VALUES (?)", (str(uuid.uuid4()),))
    finally:
        db.close()  # the last connection folds the write-ahead log into the file
    staged.rename(path)
    _sync_folder(path.parent)


def _missing_bytes(path: Path) -> int:
    """How much was cut off. SQLite takes the missing end of a last page for zeros, and says nothing."""
    wal = path.with_name(path.name + "-wal")
    size = path.stat().st_size
    if size >= 100 and wal.exists() and wal.stat().st_size:
        return 0  # the end may be in the log; `quick_check` sees the two together
    with path.open("rb") as file:
        header = file.read(100)
    page_size = int.from_bytes(header[16:18]) or 4096
    return max(0, max(int.from_bytes(header[28:32]), 1) * page_size - size)


def _connect(path: Path) -> sqlite3.Connection:
    # Opened on one thread and used on another, never by two at once.
    db = sqlite3.connect(path, timeout=0.5, isolation_level=None, check_same_thread=False)
    try:
        for pragma in (
            "locking_mode = EXCLUSIVE",
            "journal_mode = WAL",
            "synchronous = FULL",
            "fullfsync = ON",  # macOS: fsync alone does not reach the platter
            "secure_delete = ON",  # what is forgotten is overwritten, not just unlinked
            "foreign_keys = ON",
        ):
            db.execute(f"PRAGMA {pragma}")
    except BaseException:
        db.close()
        raise
    return db


def _check(db: sqlite3.Connection, path: Path) -> None:
    faults = [row[0] for row in db.execute("PRAGMA quick_check(3)")]
    if faults != ["ok"]:
        raise JournalCorrupt(_damaged(path, "; ".join(faults)))
    application, version = db.execute("PRAGMA application_id").fetchone()[0], db.execute("PRAGMA user_version")
    if application != _APPLICATION_ID:
        raise JournalCorrupt(_damaged(path, "it is an SQLite file, but no journal of Shoal's"))
    if (found := version.fetchone()[0]) != _VERSION:
        raise JournalCorrupt(
            f"{path} is a journal of version {found}, this Shoal reads {_VERSION}: use the newer Shoal"
        )


def _damaged(path: Path, detail: str) -> str:
    return (
        f"{path} is damaged: {detail}. Nothing was changed. To save what it holds: sqlite3 {path.name} .recover; "
        f"to begin a new one: move {path.name} and {path.name}-wal away and start again"
    )


def _sync_folder(folder: Path) -> None:
    """Make a rename in `folder` survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def translated(path: Path) -> Iterator[None]:
    """SQLite's and the operating system's errors as the daemon's."""
    try:
        yield
    except sqlite3.Error as error:
        raise _as_daemon_error(error, path) from error
    except OSError as error:
        raise JournalUnavailable(f"{path}: {error.strerror or error}") from error


def _as_daemon_error(error: sqlite3.Error, path: Path) -> DaemonError:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the low byte is the primary code
    if code == sqlite3.SQLITE_FULL:
        return JournalFull(f"the disk that holds {path} is full: free some space and say it again")
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return JournalCorrupt(_damaged(path, str(error)))
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return HomeInUse(f"{path} is open in another process: stop it first (shoal stop)")
    return JournalUnavailable(f"{path}: {error}")


# --- records ------------------------------------------------------------------------------------


def encode(record: Record) -> tuple[str, bytes]:
    """A record's kind and its JSON, which is read back: nothing is acknowledged that could not be read again.

    Raises:
        RecordRejected: it holds what JSON cannot (lone surrogates, numbers that are not finite).
    """
    kind = "turn" if isinstance(record, TurnRecord) else "forget"
    try:
        payload = _ADAPTERS[kind].dump_json(record)
        decode(kind, payload)
    except ValidationError as error:  # its own text quotes what was said
        fault = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in fault["loc"])
        raise RecordRejected(f"this {kind} cannot be journaled: {where}: {fault['msg']}") from None
    except ValueError as error:
        raise RecordRejected(f"this {kind} cannot be journaled: {error}") from None
    return kind, payload


def decode(kind: str, payload: bytes) -> Record:
    """Raises: ValueError."""
    record: Record = _ADAPTERS[kind].validate_json(payload)
    return record


# --- statements ---------------------------------------------------------------------------------


def identity(db: sqlite3.Connection) -> str:
    """The journal's id, made with the file."""
    return str(db.execute("SELECT id FROM journal").fetchone()[0])


def last_seq(db: sqlite3.Connection) -> int:
    """The highest sequence number ever given, 0 before the first."""
    row = db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'entries'").fetchone()
    return int(row[0]) if row else 0


def last_recorded_at(db: sqlite3.Connection) -> float:
    """The latest time at which an entry was recorded, 0 before the first."""
    return float(db.execute("SELECT max(recorded_at) FROM entries").fetchone()[0] or 0.0)


def unmet_since(db: sqlite3.Connection) -> dict[GraphName, int]:
    """For each graph the last number that was given before this file was opened to wait for it.

    Noted on disk until `reconcile`: the process that meets a graph need not be the one that first gave out numbers.
    """
    db.executemany("INSERT OR IGNORE INTO unmet VALUES (?, ?)", [(graph, last_seq(db)) for graph in GRAPHS])
    return dict(db.execute("SELECT graph, opened_at FROM unmet").fetchall())


def find_turn(db: sqlite3.Connection, record: Record) -> Entry | None:
    """The entry of the same user's turn with the same id. Raises: TurnIdReused when that one said something else."""
    if not isinstance(record, TurnRecord):
        return None
    row = db.execute(
        "SELECT seq, recorded_at, fingerprint FROM entries WHERE user = ? AND turn = ?",
        (record.turn.user, record.turn.id),
    ).fetchone()
    if row is None:
        return None
    if row[2] != _fingerprint(record.turn.text):
        raise TurnIdReused(f"turn id {record.turn.id!r} was used before, for another text: give each turn its own id")
    targets = {graph for (graph,) in db.execute("SELECT graph FROM deliveries WHERE seq = ?", (row[0],))}
    return Entry(row[0], row[1], record, tuple(graph for graph in GRAPHS if graph in targets), repeated=True)


def insert(db: sqlite3.Connection, record: Record, payload: tuple[str, bytes], targets: Sequence[GraphName]) -> Entry:
    """Write one entry. A wish to forget takes the dead letters it covers along, or a retry would bring them back."""
    turn = record.turn if isinstance(record, TurnRecord) else None
    user = record.turn.user if isinstance(record, TurnRecord) else record.user
    recorded_at = time.time()
    seq = db.execute(
        "INSERT INTO entries (recorded_at, kind, user, turn, fingerprint, payload) VALUES (?, ?, ?, ?, ?, ?)"
        " RETURNING seq",
        (recorded_at, payload[0], user, turn and turn.id, turn and _fingerprint(turn.text), payload[1]),
    ).fetchone()[0]
    db.executemany("INSERT INTO deliveries (seq, graph) VALUES (?, ?)", [(seq, graph) for graph in targets])
    if isinstance(record, ForgetRecord):
        dead = db.execute(
            "SELECT seq, graph, kind, payload FROM deliveries JOIN entries USING (seq)"
            " WHERE state = 'dead' AND user = ?",
            (user,),
        ).fetchall()
        discard(db, [(letter, graph) for letter, graph, kind, payload in dead if _covers(record, kind, payload)])
    return Entry(seq, recorded_at, record, tuple(targets))


def _covers(wish: ForgetRecord, kind: str, payload: bytes) -> bool:
    """Whether an entry of the same user's is a turn that is to be forgotten."""
    if wish.scope == "everything":
        return kind == "turn"  # even one that cannot be read
    try:
        record = decode(kind, payload)
    except ValueError:
        return False
    if not isinstance(record, TurnRecord):
        return False
    if wish.scope == "session":
        return record.turn.session == wish.name
    said = [record.turn.text, *(argument.name for argument in record.mentioned)]
    said += [side.name for statement in record.statements for side in (statement.subject, statement.object)]
    texts = [text.casefold() for text in said]
    for wanted in (wish.name.casefold(), *(name.casefold() for name in wish.names)):
        name = re.escape(wanted)
        # Scripts without spaces have no word's end to look for: there any occurrence counts.
        pattern = re.compile(rf"(?<!\w){name}(?!\w)" if wanted.isascii() else name)
        if any(map(pattern.search, texts)):
            return True
    return False


def waiting(db: sqlite3.Connection, graph: GraphName) -> list[tuple[int, float]]:
    """Every entry on its way to a graph, in order, with when it was recorded."""
    return db.execute(
        "SELECT seq, recorded_at FROM deliveries JOIN entries USING (seq)"
        " WHERE graph = ? AND state = 'accepted' ORDER BY seq",
        (graph,),
    ).fetchall()


def read(
    db: sqlite3.Connection, graph: GraphName, after: int, limit: int
) -> list[tuple[int, float, str, bytes, frozenset[str]]]:
    """Waiting rows after `after`, in order: seq, recorded_at, kind, payload, targets."""
    rows = db.execute(
        "SELECT seq, recorded_at, kind, payload,"
        " (SELECT group_concat(graph) FROM deliveries AS every WHERE every.seq = deliveries.seq)"
        " FROM deliveries JOIN entries USING (seq)"
        " WHERE graph = ? AND state = 'accepted' AND seq > ? ORDER BY seq LIMIT ?",
        (graph, after, limit),
    )
    return [(seq, at, kind, payload, frozenset(every.split(","))) for seq, at, kind, payload, every in rows]


def mark_stored(db: sqlite3.Connection, graph: GraphName, through: int) -> list[int]:
    """All of a graph's waiting entries up to `through` are stored: which, in order. Erases what nobody needs."""
    seqs = [
        seq
        for (seq,) in db.execute(
            "SELECT seq FROM deliveries WHERE graph = ? AND state = 'accepted' AND seq <= ? ORDER BY seq",
            (graph, through),
        )
    ]
    db.executemany("UPDATE deliveries SET state = 'stored' WHERE seq = ? AND graph = ?", [(seq, graph) for seq in seqs])
    _erase(db, seqs)
    return seqs


def mark_dead(db: sqlite3.Connection, seq: int, graph: GraphName, code: str, error: str) -> None:
    """Set one waiting entry aside; one that is to be forgotten by now is given up, or a retry would bring it back.

    Raises:
        UnknownEntry: it does not wait for this graph.
    """
    changed = db.execute(
        "UPDATE deliveries SET state = 'dead', code = ?, error = ?, died_at = ?"
        " WHERE seq = ? AND graph = ? AND state = 'accepted'",
        (code, error, time.time(), seq, graph),
    )
    if changed.rowcount != 1:
        raise UnknownEntry(f"entry {seq} does not wait for the {graph} graph")
    user, kind, payload = db.execute("SELECT user, kind, payload FROM entries WHERE seq = ?", (seq,)).fetchone()
    wishes = db.execute(
        "SELECT payload FROM entries WHERE seq > ? AND kind = 'forget' AND user = ? AND payload IS NOT NULL",
        (seq, user),
    )
    for (wish,) in wishes.fetchall():
        with contextlib.suppress(ValueError):  # a wish that cannot be read is set aside in its turn
            if _covers(_ADAPTERS["forget"].validate_json(wish), kind, payload):
                discard(db, [(seq, graph)])
                break


def dead_rows(
    db: sqlite3.Connection, graph: GraphName | None = None, seq: int | None = None
) -> list[tuple[int, GraphName, str, str, float, float, str, bytes]]:
    """Dead letters in order, all or those of one graph and one entry, the record still encoded."""
    return db.execute(
        "SELECT seq, graph, code, error, recorded_at, died_at, kind, payload FROM deliveries JOIN entries USING (seq)"
        " WHERE state = 'dead' AND graph = coalesce(?, graph) AND seq = coalesce(?, seq) ORDER BY seq, graph",
        (graph, seq),
    ).fetchall()


def dead_counts(db: sqlite3.Connection) -> dict[GraphName, int]:
    """How many dead letters each graph has."""
    counts = dict(db.execute("SELECT graph, count(*) FROM deliveries WHERE state = 'dead' GROUP BY graph").fetchall())
    return {graph: counts.get(graph, 0) for graph in GRAPHS}


def renew(db: sqlite3.Connection, seq: int, graph: GraphName) -> tuple[int, float]:
    """Append an entry again, for one graph, and let the old one point to it: the new number and time."""
    recorded_at = time.time()
    new = db.execute(
        "INSERT INTO entries (recorded_at, kind, user, payload)"
        " SELECT ?, kind, user, payload FROM entries WHERE seq = ? RETURNING seq",
        (recorded_at, seq),
    ).fetchone()[0]
    db.execute("INSERT INTO deliveries (seq, graph) VALUES (?, ?)", (new, graph))
    db.execute("UPDATE deliveries SET state = 'renewed', successor = ? WHERE seq = ? AND graph = ?", (new, seq, graph))
    _erase(db, [seq])
    return new, recorded_at


def discard(db: sqlite3.Connection, letters: Iterable[tuple[int, GraphName]]) -> int:
    """Give dead letters up for good; how many there were."""
    gone = 0
    for seq, graph in letters:
        gone += db.execute(
            "UPDATE deliveries SET state = 'discarded' WHERE seq = ? AND graph = ? AND state = 'dead'", (seq, graph)
        ).rowcount
        _erase(db, [seq])
    return gone


def delivery(db: sqlite3.Connection, seq: int) -> dict[GraphName, tuple[Delivery, int]]:
    """Per graph how far an entry is, and under which sequence number (a retried one has a later).

    Raises:
        UnknownEntry: there is no such entry, or it was stored so long ago that its row is gone.
    """
    found: dict[GraphName, tuple[Delivery, int]] = {}
    for graph, state, successor in db.execute("SELECT graph, state, successor FROM deliveries WHERE seq = ?", (seq,)):
        found[graph] = delivery(db, successor)[graph] if state == "renewed" else (state, seq)
    if not found:
        raise UnknownEntry(f"the journal holds no entry {seq}")
    return found


def reconcile(
    db: sqlite3.Connection, graph: GraphName, cursor: int, opened_at: int | None = None, newest: int = 0
) -> Reconciled:
    """Believe the graph's own cursor over what this journal noted.

    Up to the cursor, entries are stored. Beyond it the graph has lost what was noted as stored: that waits again where
    its payload is still here. `opened_at` is `unmet_since` at the first contact with the graph: the cursor cannot have
    seen later entries, so where it covers them this file is an older copy of the journal, and they are appended again
    under numbers that the graph has not seen. A copy that was made while its entries waited cannot tell whether they
    were stored since: rather twice than never. `newest` is the highest number that any journal has brought to the
    graph: this one counts on from there, since a graph is read from its newest number down.
    """
    renewed = []
    if last_seq(db) < max(cursor, newest):
        db.execute("DELETE FROM sqlite_sequence WHERE name = 'entries'")
        db.execute("INSERT INTO sqlite_sequence (name, seq) VALUES ('entries', ?)", (max(cursor, newest),))
    if opened_at is not None and cursor > opened_at:
        for seq, _ in waiting(db, graph):
            if opened_at < seq <= cursor:
                renewed.append((seq, renew(db, seq, graph)[0]))
    db.execute("DELETE FROM unmet WHERE graph = ?", (graph,))
    stored = mark_stored(db, graph, cursor)
    again = db.execute(
        "SELECT seq, recorded_at FROM deliveries JOIN entries USING (seq)"
        " WHERE graph = ? AND state = 'stored' AND seq > ? AND payload IS NOT NULL ORDER BY seq",
        (graph, cursor),
    ).fetchall()
    db.executemany(
        "UPDATE deliveries SET state = 'accepted' WHERE seq = ? AND graph = ?", [(seq, graph) for seq, _ in again]
    )
    lost = db.execute(
        "SELECT count(*) FROM deliveries WHERE graph = ? AND state = 'stored' AND seq > ?", (graph, cursor)
    ).fetchone()[0]
    return Reconciled(tuple(stored), tuple(again), tuple(renewed), lost)


def prune(db: sqlite3.Connection, before: float) -> None:
    """Drop rows recorded before `before` (Unix time) whose payload is erased."""
    db.execute("DELETE FROM entries WHERE payload IS NULL AND recorded_at < ?", (before,))


def _erase(db: sqlite3.Connection, seqs: Iterable[int]) -> None:
    """Erase what was said, and errors that may quote it, once no graph needs it any more."""
    settled = [
        (seq,)
        for seq in seqs
        if db.execute(
            "SELECT NOT EXISTS (SELECT 1 FROM deliveries WHERE seq = ? AND state IN ('accepted', 'dead'))", (seq,)
        ).fetchone()[0]
    ]
    db.executemany("UPDATE entries SET payload = NULL WHERE seq = ?", settled)
    db.executemany("UPDATE deliveries SET error = NULL WHERE seq = ? AND error IS NOT NULL", settled)


def _fingerprint(text: str) -> int:
    """Sixteen bits: enough to notice that an id was used twice, too few to tell what was said once it is erased."""
    return zlib.crc32(text.encode()) & 0xFFFF
