"""The user graph: turns become utterances, entities and facts; what a person wants forgotten goes."""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from actors.messages import AGENT, USER, Turn
from config.schema import Schema
from daemon.memory import forgetting
from daemon.memory.directory import Directory
from daemon.memory.draft import Draft, Reads
from daemon.memory.facts import ASSERTED, DOUBT_MARGIN, LATELY_S, Correction, Known, Said, keys, merge, rewire
from daemon.memory.possession import is_relational
from daemon.memory.records import Edge, Entry, ForgetRecord, Node, Statement, TurnRecord, Writes
from daemon.memory.resolution import EntityIndex, Merged
from daemon.memory.rows import (
    ENTITY,
    MENTIONS,
    UTTERANCE,
    entity_node,
    entity_of,
    fact_edge,
    fact_of,
    fact_ref,
    id_stem,
    utterance_id,
)
from daemon.memory.statements import NAMES, shipped_schema, takes_back

_LONGEST_NAME = 4
_LOADED_AT_ONCE = 256


@dataclass(frozen=True, slots=True)
class _Step:
    """One turn with its entities found: what to do to the facts, in this order."""

    merged: tuple[Merged, ...]
    said: tuple[Said, ...]
    correction: Correction | None
    mentioned: tuple[str, ...]
    utterance: str


class UserGraphProjection:
    """Decides what entries change in the user graph (`context_sync.Projection`).

    Each user's entities are read once and kept. A build changes that cache at once; should its transaction not be
    committed, the next build reads afresh.
    """

    def __init__(
        self,
        schema: Schema | None = None,
        doubt_margin: float = DOUBT_MARGIN,
        directory: Directory | None = None,
    ) -> None:
        """`directory` follows what this projection commits."""
        self._schema = schema or shipped_schema()
        self._doubt_margin = doubt_margin
        self._directory = directory or Directory()
        self._indexes: dict[str, EntityIndex] = {}
        self._uncommitted: set[str] = set()

    async def build(self, tx: Reads, entries: Sequence[Entry]) -> Writes:
        """See `context_sync.Projection.build`."""
        for user in self._uncommitted:
            self._indexes.pop(user, None)
        self._uncommitted.clear()
        draft = Draft(tx)
        for _, run in itertools.groupby(entries, key=lambda entry: type(entry.record)):
            batch = list(run)
            turns = [(entry, entry.record) for entry in batch if isinstance(entry.record, TurnRecord)]
            if turns:
                await self._take_in(draft, turns)
            for entry in batch:
                if isinstance(entry.record, ForgetRecord):
                    await self._forget(draft, entry.record)
        return draft.writes()

    def committed(self, writes: Writes) -> None:
        """See `context_sync.Projection.committed`."""
        self._uncommitted.clear()
        self._directory.committed(writes)

    def reset(self) -> None:
        """See `context_sync.Projection.reset`."""
        self._indexes.clear()
        self._uncommitted.clear()
        self._directory.reset()

    async def _index(self, draft: Draft, user: str) -> EntityIndex:
        self._uncommitted.add(user)
        index = self._indexes.get(user)
        if index is None:
            index = EntityIndex(user)
            nodes = await draft.nodes(ENTITY, user=user)
            for start in range(0, len(nodes), _LOADED_AT_ONCE):
                index.load(map(entity_of, nodes[start : start + _LOADED_AT_ONCE]))
                await asyncio.sleep(0)  # turns go on being answered while a large memory is read
            self._indexes[user] = index
        return index

    # --- turns ------------------------------------------------------------------------------------

    async def _take_in(self, draft: Draft, turns: Sequence[tuple[Entry, TurnRecord]]) -> None:
        steps: list[_Step] = []
        indexes: dict[str, EntityIndex] = {}
        created: set[str] = set()
        for entry, record in turns:
            turn = record.turn
            index = indexes[turn.user] = await self._index(draft, turn.user)
            stem = id_stem(entry, record)
            steps.append(self._resolve(index, entry, record, stem, created))
        stored = await draft.edges(self._keys(steps, created))
        facts = map(fact_of, (edge for edge in stored if edge.type != MENTIONS))
        known = Known(self._schema, facts, self._doubt_margin)
        mentions = {(edge.start, edge.end) for edge in stored if edge.type == MENTIONS}
        for step, (entry, record) in zip(steps, turns, strict=True):
            for merged in step.merged:
                rewire(known, merged.gone, merged.kept)
            merge(known, step.said, step.correction)
            # At once, before later turns of the batch change them: how turns are batched must make no difference.
            changed = map(known.__getitem__, known.changed)
            told = sorted(fact_ref(fact) for fact in changed if step.utterance in fact.utterances)
            draft.put_node(_utterance(step.utterance, entry.seq, record.turn, told))
            mentions |= {(step.utterance, entity) for entity in step.mentioned}
        for fact_id in known.deleted:
            draft.delete_edge(fact_id)
        for index in indexes.values():
            _write_entities(draft, index)
            for utterance, entity in sorted(mentions):
                if (kept := index.current(entity)) in index:
                    draft.put_edge(_mention(utterance, kept, index.user))
            index.changed.clear()
            index.merged.clear()
        for fact_id in known.changed:
            draft.put_edge(fact_edge(known[fact_id]))

    def _resolve(self, index: EntityIndex, entry: Entry, record: TurnRecord, stem: str, created: set[str]) -> _Step:
        turn, numbers = record.turn, itertools.count(1)
        merged_before = len(index.merged)

        def new_id() -> str:
            entity_id = f"e-{stem}-{next(numbers)}"
            created.add(entity_id)
            return entity_id

        correcting = takes_back(record)
        said: list[Said] = []
        # Names first: "my sister's name is Emma and Emma lives in Oslo" speaks of one person.
        for at, statement in sorted(
            enumerate(record.statements), key=lambda pair: (pair[1].predicate != NAMES, pair[0])
        ):
            subject = index.resolve(statement.subject, turn.said_at, new_id)
            object_ = index.resolve(statement.object, turn.said_at, new_id)
            if statement.predicate == NAMES and statement.status == ASSERTED:
                self._rename(index, subject, statement, turn.said_at, correcting=correcting)
            said.append(
                Said(
                    f"f-{stem}-{at + 1}", turn.user, subject, statement.predicate, object_, statement.status,
                    statement.confidence, utterance_id(stem), turn.session, turn.said_at, entry.recorded_at,
                    statement.time_text, statement.time, tuple(sorted(record.models.values())),
                )
            )  # fmt: skip
        mentioned = [index.resolve(argument, turn.said_at, new_id) for argument in record.mentioned]
        said = [replace(s, subject=index.current(s.subject), object=index.current(s.object)) for s in said]
        ends = [end for statement in said for end in (statement.subject, statement.object)]
        heard = tuple(dict.fromkeys(index.current(entity) for entity in [*ends, *mentioned]))
        for entity_id in heard:
            index.heard(entity_id, turn.said_at)
        return _Step(
            merged=tuple(index.merged[merged_before:]),
            said=tuple(s for s in said if s.subject != s.object),
            correction=_correction(index, turn) if correcting else None,
            mentioned=tuple(entity_id for entity_id in heard if index[entity_id].role in ("", "name")),
            utterance=utterance_id(stem),
        )

    def _rename(
        self, index: EntityIndex, entity_id: str, statement: Statement, said_at: float, *, correcting: bool
    ) -> None:
        """Take in a name that is told. As with facts, what was probably misheard takes no known name's place."""
        entity, name = index[entity_id], statement.object.name
        if said_at < entity.named_at and not correcting:
            index.add_alias(entity_id, name)
            return
        if statement.confidence < entity.name_is_sure - self._doubt_margin and not correcting:
            return
        # What was said just before was a slip; a name in use for longer is still theirs, whatever they are called now.
        lately = said_at - (entity.named_at or entity.created_at) <= LATELY_S
        index.rename(entity_id, name, said_at, statement.confidence, mistaken=correcting and lately)

    def _keys(self, steps: Sequence[_Step], created: set[str]) -> set[tuple[str, str | None]]:
        wanted: set[tuple[str, str | None]] = set()
        for step in steps:
            for said in step.said:
                wanted |= keys(self._schema, said, correcting=step.correction is not None)
            for merged in step.merged:
                wanted |= {(merged.gone, None), (merged.kept, None)}
        return {(entity, predicate) for entity, predicate in wanted if entity not in created}

    # --- forgetting -------------------------------------------------------------------------------

    async def _forget(self, draft: Draft, record: ForgetRecord) -> None:
        index = await self._index(draft, record.user)
        if record.scope == "everything":
            await forgetting.everything(draft, record.user)
            self._indexes[record.user] = EntityIndex(record.user)
            return
        if record.scope == "session":
            await forgetting.session(draft, index, self._schema, record.name)
        else:
            await forgetting.entity(draft, index, record.name, record.names)
        _write_entities(draft, index)
        index.changed.clear()


def _utterance(utterance_id: str, seq: int, turn: Turn, facts: list[str]) -> Node:
    return Node(
        UTTERANCE,
        utterance_id,
        {
            "id": utterance_id, "user": turn.user, "session": turn.session, "speaker": turn.speaker,
            "text": turn.text, "said_at": turn.said_at, "seq": seq,
            "facts": facts,
        },
    )  # fmt: skip


def _write_entities(draft: Draft, index: EntityIndex) -> None:
    for merged in index.merged:
        draft.delete_node(merged.gone)
    for entity_id in index.changed:
        draft.put_node(entity_node(index[entity_id]))


def _mention(utterance: str, entity: str, user: str) -> Edge:
    edge_id = f"m-{utterance}-{entity}"
    return Edge(MENTIONS, edge_id, utterance, entity, {"id": edge_id, "user": user})


def _correction(index: EntityIndex, turn: Turn) -> Correction:
    lately = {said.speaker: said.text for said in turn.context if said.speaker in (USER, AGENT, turn.speaker)}
    before = {found for text in lately.values() for found in _named_in(index, text)} if turn.context else None
    return Correction(frozenset(_named_in(index, turn.text)), before, lambda entity: index[entity].type)


def _named_in(index: EntityIndex, text: str) -> Iterator[str]:
    """The entities that some words of a text name."""
    words = re.findall(r"[\w'’-]+", text)
    for start in range(len(words)):
        for end in range(start + 1, min(len(words), start + _LONGEST_NAME) + 1):
            phrase = re.sub(r"['’]s$", "", " ".join(words[start:end]))
            for entity in index.named(phrase):
                # "My brother" names the one that has no other name, not every brother.
                if entity.unnamed or not is_relational(phrase):
                    yield entity.id
