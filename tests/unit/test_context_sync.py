"""The sync: every entry reaches its graph once, in order, whatever the graph, the projection or the process does.

The store here keeps the promises of `GraphStore` in memory; tests/contract proves that the real one keeps them too.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, MutableMapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st

from config.settings import SyncSettings
from daemon.errors import GraphRefused, GraphUnavailable, JournalFull
from daemon.memory.context_sync import COMPLETION_ATTEMPTS, ContextSync, SyncState
from daemon.memory.journal import Journal
from daemon.memory.records import Entry, GraphName, Node, TurnRecord, Writes
from tests.unit.spoken import ROOMY, said

QUICK = SyncSettings(batch_turns=4, gather_s=0, retry_min_s=0.0001, retry_max_s=0.001, attempts=3)


class MemoryStore:
    """A graph in memory. `faults` are raised by the next calls, `lost_replies` after the next commits."""

    def __init__(self) -> None:
        self.cursors: dict[str, int] = {}
        self.nodes: list[str] = []
        self.faults: list[Exception] = []
        self.lost_replies = 0
        self.down = False
        self.read_only = False
        self.opened = 0
        self.refuses: Callable[[Writes], bool] = lambda _writes: False
        self.applied_sizes: list[int] = []

    def _answer(self) -> None:
        if self.down:
            raise GraphUnavailable("down")
        if self.faults:
            raise self.faults.pop(0)

    async def open(self) -> None:
        self._answer()
        self.opened += 1

    async def cursor(self, journal_id: str) -> int:
        self._answer()
        return self.cursors.get(journal_id, 0)

    async def newest_seq(self) -> int:
        self._answer()
        return max(self.cursors.values(), default=0)

    async def apply(self, journal_id: str, last_seq: int, build: Callable[[object, int], Awaitable[Writes]]) -> Writes:
        self._answer()
        if self.read_only:  # the real one locks its cursor by a write, before anything else
            raise GraphRefused("read only")
        cursor = self.cursors.get(journal_id, 0)
        if cursor >= last_seq:
            return Writes()
        await build(self, cursor)  # a database retries transactions: what was built first comes to nothing
        writes = await build(self, cursor)
        if self.refuses(writes):
            raise GraphRefused("not these")
        self.nodes += [node.id for node in writes.nodes]
        self.applied_sizes.append(len(writes.nodes))
        self.cursors[journal_id] = last_seq
        if self.lost_replies:
            self.lost_replies -= 1
            raise GraphUnavailable("the connection broke after the commit")
        return writes


class OneNodePerTurn:
    """Writes each turn's id and text; cannot cope with a turn that says so."""

    def __init__(self) -> None:
        self.committed_ids: list[str] = []
        self.resets = 0

    async def build(self, _tx: object, entries: Sequence[Entry]) -> Writes:
        nodes = []
        for entry in entries:
            turn = entry.record.turn
            if "poison" in turn.text:
                raise ZeroDivisionError("a bug in the projection")
            understood = "understood" if entry.record.statements else "utterance"
            nodes.append(Node("Utterance", f"{turn.id} {understood}", {}))
        return Writes(nodes=tuple(nodes))

    def committed(self, writes: Writes) -> None:
        self.committed_ids += [node.id for node in writes.nodes]

    def reset(self) -> None:
        self.resets += 1


async def no_completion(record: TurnRecord) -> TurnRecord:
    raise AssertionError(f"nothing is missing from {record.turn.id}")


class Scene:
    """A journal, two graphs and the sync between them."""

    def __init__(self, path: Path, sync: SyncSettings = QUICK) -> None:
        self.journal, self.settings = Journal(path, ROOMY), sync
        self.stores: dict[GraphName, MemoryStore] = {"user": MemoryStore(), "agent": MemoryStore()}
        self.projections = {"user": OneNodePerTurn(), "agent": OneNodePerTurn()}
        self.heard: list[tuple[GraphName, int, float]] = []
        self.complete: Callable[[TurnRecord], Awaitable[TurnRecord]] = no_completion
        self.sync: ContextSync | None = None

    @property
    def user(self) -> MemoryStore:
        return self.stores["user"]

    def start(self) -> None:
        self.sync = ContextSync(
            self.journal,
            self.stores,
            self.projections,
            self.settings,
            lambda record: self.complete(record),
            lambda graph, entry, age_s: self.heard.append((graph, entry.seq, age_s)),
        )
        self.sync.start()

    def state(self, graph: GraphName = "user") -> SyncState:
        assert self.sync is not None
        return next(state for state in self.sync.states() if state.graph == graph)

    async def drained(self) -> None:
        assert self.sync is not None
        assert await self.sync.drain(30)

    async def until(self, reached: Callable[[], bool]) -> None:
        """Give the workers turns of the loop until a condition holds."""
        async with asyncio.timeout(30):
            while not reached():
                await asyncio.sleep(0)


@pytest.fixture(autouse=True)
def logged() -> Iterator[list[MutableMapping[str, Any]]]:
    """What is logged; above the debug level it never holds what was said."""
    with structlog.testing.capture_logs() as lines:
        yield lines
    for line in lines:
        if line["log_level"] != "debug":
            assert not [word for word in ("Emma", "Lisbon", "poison", "not these") if word in str(line)]


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    scene = Scene(tmp_path / "journal.sqlite")
    await scene.journal.open()
    yield scene
    if scene.sync is not None:
        await scene.sync.stop()
    await scene.journal.close()


async def say(scene: Scene, *ids: str, text: str = "Emma lives in Lisbon") -> list[Entry]:
    return [await scene.journal.append(said(turn, text)) for turn in ids]


def understood(*ids: str) -> list[str]:
    return [f"{turn} understood" for turn in ids]


# --- the good way -------------------------------------------------------------------------------


async def test_a_new_journal_counts_on_from_what_the_graph_holds(scene: Scene) -> None:
    scene.user.cursors["another journal"] = 40
    scene.start()
    await scene.sync.tried(30)
    (entry,) = await say(scene, "a")
    await scene.drained()
    assert entry.seq == 41
    assert scene.user.nodes == understood("a")


@pytest.mark.parametrize("down", [False, True])
async def test_a_start_can_wait_until_the_graphs_were_tried(scene: Scene, down: bool) -> None:
    scene.user.down = down
    scene.start()
    assert scene.sync is not None
    await scene.sync.tried(30)
    assert [state.connected for state in scene.sync.states()] == [not down, True]


async def test_turns_reach_both_graphs_in_order_and_once(scene: Scene) -> None:
    scene.start()
    ids = [str(number) for number in range(25)]
    entries = await say(scene, *ids)
    await scene.drained()

    for graph, store in scene.stores.items():
        assert store.nodes == understood(*ids)
        assert scene.projections[graph].committed_ids == store.nodes
        assert [seq for heard, seq, _ in scene.heard if heard == graph] == [entry.seq for entry in entries]
        state = scene.state(graph)
        assert (state.connected, state.applied, state.depth, state.retries) == (True, 25, 0, 0)
    assert all(age_s > 0 for _, _, age_s in scene.heard)
    assert await scene.journal.status(entries[-1].seq) == {"user": "stored", "agent": "stored"}


async def test_what_waits_goes_in_batches_of_at_most_the_setting(scene: Scene) -> None:
    await say(scene, *"abcdefghij")
    scene.start()
    await scene.drained()
    assert scene.user.applied_sizes == [4, 4, 2]


async def test_a_burst_is_few_batches(scene: Scene) -> None:
    scene.settings = QUICK.model_copy(update={"batch_turns": 64, "gather_s": 0.5})
    scene.start()
    await scene.until(lambda: scene.state().connected)
    await say(scene, *"abcdefghij")
    await scene.drained()
    assert scene.user.nodes == understood(*"abcdefghij")
    assert scene.state().batches <= 3


async def test_a_full_batch_goes_at_once(scene: Scene) -> None:
    scene.settings = QUICK.model_copy(update={"gather_s": 3600.0})
    await say(scene, *"abcd")
    scene.start()
    await scene.drained()
    assert scene.user.applied_sizes == [4]


async def test_a_turn_for_one_graph_does_not_reach_the_other(scene: Scene) -> None:
    scene.start()
    await scene.journal.append(said("a"), targets=("agent",))
    await scene.drained()
    assert (scene.user.nodes, scene.stores["agent"].nodes) == ([], understood("a"))


async def test_one_graph_down_leaves_the_other_up_to_date(scene: Scene) -> None:
    scene.user.down = True
    scene.start()
    await say(scene, "a", "b")
    await scene.until(lambda: scene.stores["agent"].nodes == understood("a", "b"))
    await scene.until(lambda: scene.state().retries > 3)

    assert not await scene.sync.drain(0.01)
    state = scene.state()
    assert (state.connected, state.depth, state.dead) == (False, 2, 0)
    assert state.last_error == "graph_unavailable: down"
    assert state.oldest_age_s > 0

    scene.user.down = False
    await scene.drained()
    assert scene.user.nodes == understood("a", "b")


async def test_stopping_leaves_the_rest_in_the_journal_for_the_next_start(scene: Scene) -> None:
    scene.user.down = True
    scene.start()
    await say(scene, "a", "b")
    await scene.sync.stop()
    await scene.sync.stop()
    assert scene.user.nodes == []
    scene.user.down = False
    scene.start()
    await scene.drained()
    assert scene.user.nodes == understood("a", "b")


# --- exactly once -------------------------------------------------------------------------------


async def test_a_reply_lost_after_the_commit_does_not_write_twice(scene: Scene) -> None:
    await say(scene, *"abcdefghij")
    scene.user.lost_replies = 2
    scene.start()
    await scene.drained()
    assert scene.user.nodes == understood(*"abcdefghij")
    assert scene.projections["user"].resets >= 2


async def test_a_crash_between_the_commit_and_its_note_does_not_write_twice(tmp_path: Path) -> None:
    first = Scene(tmp_path / "journal.sqlite")
    await first.journal.open()
    await first.journal.reconcile("user", 0)
    await say(first, "a", "b", "c")
    first.user.cursors[first.journal.id] = 2  # committed; the process died before it told the journal
    first.user.nodes = understood("a", "b")
    await first.journal.close()

    second = Scene(tmp_path / "journal.sqlite")
    second.stores = first.stores
    await second.journal.open()
    second.start()
    await second.drained()
    await second.sync.stop()
    await second.journal.close()
    assert second.user.nodes == understood("a", "b", "c")


async def test_a_journal_that_cannot_note_a_commit_does_not_write_twice_nor_blame_the_turn(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark_synced, failures = scene.journal.mark_synced, [JournalFull("full"), JournalFull("full")]

    async def failing(graph: GraphName, seq: int) -> None:
        if graph == "user" and failures:
            raise failures.pop()
        await mark_synced(graph, seq)

    monkeypatch.setattr(scene.journal, "mark_synced", failing)
    scene.start()
    await say(scene, "a")
    await scene.drained()
    await say(scene, "b")
    await scene.drained()
    assert scene.user.nodes == understood("a", "b")
    assert await scene.journal.dead_letters() == []


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_any_mixture_of_outages_loses_and_doubles_nothing(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Outages before and after commits, bugs on chosen turns, restarts of the sync, at drawn moments."""
    poisoned = data.draw(st.sets(st.integers(0, 11), max_size=3), label="poisoned")
    events = data.draw(
        st.lists(st.sampled_from(["say", "say", "say", "fault", "lost reply", "restart", "let run"]), max_size=30)
    )

    async def play() -> None:
        scene = Scene(tmp_path_factory.mktemp("play") / "journal.sqlite")
        await scene.journal.open()
        scene.start()
        spoken: list[str] = []
        for event in events:
            if event == "say" and len(spoken) < 12:
                text = "poison" if len(spoken) in poisoned else "fine"
                spoken.append(str(len(spoken)))
                await say(scene, spoken[-1], text=text)
            elif event == "fault":
                scene.user.faults.append(GraphUnavailable("away"))
            elif event == "lost reply":
                scene.user.lost_replies += 1
            elif event == "restart":
                await scene.sync.stop()
                scene.start()
            else:
                for _ in range(5):
                    await asyncio.sleep(0)
        scene.user.faults.clear()
        await scene.drained()
        await scene.sync.stop()
        letters = await scene.journal.dead_letters()
        await scene.journal.close()

        fine = [turn for number, turn in enumerate(spoken) if number not in poisoned]
        for store in scene.stores.values():
            assert store.nodes == understood(*fine)
        dead = [turn for number, turn in enumerate(spoken) if number in poisoned]
        for graph in scene.stores:
            assert [letter.record.turn.id for letter in letters if letter.graph == graph] == dead

    asyncio.run(play())


# --- what can never be written ------------------------------------------------------------------


async def test_a_bug_over_one_turn_sets_that_turn_aside_and_no_other(scene: Scene) -> None:
    await say(scene, "a", "b")
    (poison,) = await say(scene, "c", text="poison")
    await say(scene, "d")
    scene.start()
    await scene.drained()

    assert scene.user.nodes == scene.stores["agent"].nodes == understood("a", "b", "d")
    letters = await scene.journal.dead_letters()
    assert [(letter.seq, letter.graph, letter.code) for letter in letters] == [
        (poison.seq, "agent", "projection_failed"),
        (poison.seq, "user", "projection_failed"),
    ]
    assert scene.state().dead_lettered == scene.state().dead == 1
    assert scene.user.cursors[scene.journal.id] == 4


async def test_a_refused_write_is_tried_as_often_as_the_setting_says(scene: Scene) -> None:
    tried: list[str] = []

    def refuses(writes: Writes) -> bool:
        refused = any("b" in node.id.split()[0] for node in writes.nodes)
        if refused and len(writes.nodes) == 1:
            tried.append(writes.nodes[0].id)
        return refused

    scene.user.refuses = refuses
    await say(scene, "a", "b", "c")
    scene.start()
    await scene.drained()
    assert len(tried) == QUICK.attempts
    assert scene.user.nodes == understood("a", "c")
    assert [letter.code for letter in await scene.journal.dead_letters()] == ["graph_refused"]


async def test_a_dead_letter_that_is_retried_arrives_once_its_cause_is_gone(scene: Scene) -> None:
    scene.user.refuses = lambda writes: bool(writes.nodes)
    scene.start()
    (entry,) = await say(scene, "a")
    await scene.drained()
    assert await scene.journal.status(entry.seq) == {"user": "dead", "agent": "stored"}

    scene.user.refuses = lambda _writes: False
    await scene.journal.retry(entry.seq, "user")
    assert await scene.journal.wait_stored(entry.seq, 30) == {"user": True, "agent": True}
    assert scene.user.nodes == scene.stores["agent"].nodes == understood("a")


async def test_a_graph_that_refuses_everything_is_at_fault_itself_and_nothing_is_set_aside(scene: Scene) -> None:
    scene.user.read_only = True
    scene.start()
    await say(scene, "a", "b")
    await scene.until(lambda: scene.state().retries > 4 * QUICK.attempts)
    assert scene.state().dead_lettered == 0
    assert scene.state().depth == 2

    scene.user.read_only = False
    await scene.drained()
    assert scene.user.nodes == understood("a", "b")


# --- understanding that came too late -----------------------------------------------------------


def not_understood(turn: str) -> TurnRecord:
    return replace(said(turn), statements=(), mentioned=(), missing=("extractor", "classifier"))


async def test_a_turn_that_timed_out_is_understood_before_the_user_graph_gets_it(scene: Scene) -> None:
    asked: list[str] = []

    async def complete(record: TurnRecord) -> TurnRecord:
        asked.append(record.turn.id)
        return replace(said(record.turn.id), missing=("classifier",))

    scene.complete = complete
    scene.user.faults = [GraphUnavailable("away")] * 4  # what was understood is kept for the next attempt
    scene.start()
    await say(scene, "a")
    await scene.journal.append(not_understood("b"))
    await scene.drained()
    assert scene.user.nodes == ["a understood", "b understood"]
    assert scene.stores["agent"].nodes == ["a understood", "b utterance"]
    assert asked == ["b"]
    assert scene.state().incomplete == 0


@pytest.mark.parametrize("way", ["raises", "misses it again"])
async def test_a_turn_that_cannot_be_understood_is_stored_as_an_utterance_and_counted(scene: Scene, way: str) -> None:
    asked: list[str] = []

    async def complete(record: TurnRecord) -> TurnRecord:
        asked.append(record.turn.id)
        if way == "raises":
            raise TimeoutError
        return record

    scene.complete = complete
    scene.start()
    await scene.journal.append(not_understood("a"))
    await say(scene, "b")
    await scene.drained()
    assert asked == ["a"] * COMPLETION_ATTEMPTS
    assert scene.user.nodes == ["a utterance", "b understood"]
    assert scene.state().incomplete == 1
    assert await scene.journal.dead_letters() == []
