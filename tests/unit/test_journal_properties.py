"""Whatever happens to a journal, in whatever order, it agrees with a model that is three dictionaries."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from daemon.errors import GraphRefused
from daemon.memory.journal import GRAPHS, Journal
from daemon.memory.records import GraphName
from tests.unit.spoken import ROOMY, said

T = TypeVar("T")
graphs = st.sampled_from(GRAPHS)


class JournalMachine(RuleBasedStateMachine):
    """`turns`: id -> seq; `states`: seq -> graph -> state; `texts`: what each entry said."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "journal.sqlite"
        self.runner = asyncio.Runner()
        self.turns: dict[str, int] = {}
        self.states: dict[int, dict[GraphName, str]] = {}
        self.texts: dict[int, str] = {}
        self.successor: dict[tuple[int, GraphName], int] = {}
        self._open()

    def _open(self) -> None:
        self.journal = Journal(self.path, ROOMY)
        self.runner.run(self.journal.open())

    def teardown(self) -> None:
        self.runner.run(self.journal.close())
        self.runner.close()
        self.folder.cleanup()

    def expected(self, graph: GraphName, state: str) -> list[int]:
        return [seq for seq, states in self.states.items() if states.get(graph) == state]

    @rule(
        name=st.sampled_from([f"turn {n}" for n in range(12)]),
        goes_to=st.sampled_from([("user",), ("agent",), ("user", "agent"), ("agent", "user")]),
    )
    def append(self, name: str, goes_to: tuple[GraphName, ...]) -> None:
        entry = self.runner.run(self.journal.append(said(name, f"text of {name}"), targets=goes_to))
        if name in self.turns:
            assert entry.seq == self.turns[name]
            return
        assert entry.seq == max(self.states, default=0) + 1
        self.turns[name] = entry.seq
        self.states[entry.seq] = dict.fromkeys(goes_to, "accepted")
        self.texts[entry.seq] = f"text of {name}"

    @rule(graph=graphs, share=st.floats(0, 1))
    def store(self, graph: GraphName, share: float) -> None:
        through = round(share * max(self.states, default=0))
        self.runner.run(self.journal.mark_synced(graph, through))
        for seq in self.expected(graph, "accepted"):
            if seq <= through:
                self.states[seq][graph] = "stored"

    @precondition(lambda self: any("accepted" in states.values() for states in self.states.values()))
    @rule(data=st.data())
    def die(self, data: st.DataObject) -> None:
        waiting = [(seq, graph) for graph in GRAPHS for seq in self.expected(graph, "accepted")]
        seq, graph = data.draw(st.sampled_from(waiting))
        self.runner.run(self.journal.dead(seq, graph, GraphRefused("no")))
        self.states[seq][graph] = "dead"

    @precondition(lambda self: any("dead" in states.values() for states in self.states.values()))
    @rule(data=st.data(), again=st.booleans())
    def settle_dead_letter(self, data: st.DataObject, again: bool) -> None:
        seq, graph = data.draw(
            st.sampled_from([(seq, graph) for graph in GRAPHS for seq in self.expected(graph, "dead")])
        )
        if not again:
            self.runner.run(self.journal.discard(seq, graph))
            self.states[seq][graph] = "discarded"
            return
        entry = self.runner.run(self.journal.retry(seq, graph))
        assert entry.targets == (graph,)
        self.states[seq][graph] = "renewed"
        self.successor[seq, graph] = entry.seq
        self.states[entry.seq] = {graph: "accepted"}
        self.texts[entry.seq] = self.texts[seq]

    @rule()
    def reopen(self) -> None:
        before = self.journal.id
        self.runner.run(self.journal.close())
        self._open()
        assert self.journal.id == before

    @invariant()
    def agrees(self) -> None:
        for graph in GRAPHS:
            entries = self.runner.run(self.journal.entries(0, 1000, graph))
            waiting = self.expected(graph, "accepted")
            assert [entry.seq for entry in entries] == waiting
            assert [entry.record.turn.text for entry in entries] == [self.texts[seq] for seq in waiting]
            backlog = self.journal.backlog(graph)
            assert len(backlog) == len(waiting)
            assert backlog.filled.is_set() == bool(waiting)
            assert backlog.dead == len(self.expected(graph, "dead"))
        assert self.journal.unsynced == sum("accepted" in states.values() for states in self.states.values())
        letters = self.runner.run(self.journal.dead_letters())
        assert {(letter.seq, letter.graph) for letter in letters} == {
            (seq, graph) for graph in GRAPHS for seq in self.expected(graph, "dead")
        }
        for seq in self.states:
            assert self.runner.run(self.journal.status(seq)) == {
                graph: self.final(seq, graph) for graph in self.states[seq]
            }

    def final(self, seq: int, graph: GraphName) -> str:
        while (seq, graph) in self.successor:
            seq = self.successor[seq, graph]
        return self.states[seq][graph]


TestJournalMachine = JournalMachine.TestCase
TestJournalMachine.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
