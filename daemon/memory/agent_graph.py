"""The agent graph: what the agent has lived through with a user, and what it has learned of them.

    (:Session)-[:HAS_EPISODE]->(:Episode)-[:ABOUT]->(:Topic)
                               (:Episode)-[:LEARNED]->(:Preference)
                               (:Episode)-[:CORRECTED_BY]->(:Correction)

An episode is a stretch of a session without a long silence. Ids follow from what they name, so that a batch reads only
the few nodes it touches, and no cache is needed.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from hashlib import blake2b
from typing import Any

from daemon.memory.draft import Draft, Reads
from daemon.memory.facts import ASSERTED, ENDED, MAX_CONFIDENCE, NEGATED
from daemon.memory.records import Argument, Edge, Entry, ForgetRecord, Node, Statement, TurnRecord, Writes
from daemon.memory.rows import id_stem, utterance_id
from daemon.memory.spelling import name_key
from daemon.memory.statements import GROUP, is_nominal, takes_back

SESSION, EPISODE, TOPIC, PREFERENCE, CORRECTION = "Session", "Episode", "Topic", "Preference", "Correction"
HAS_EPISODE, ABOUT, LEARNED, CORRECTED_BY = "HAS_EPISODE", "ABOUT", "LEARNED", "CORRECTED_BY"
KINDS = (SESSION, EPISODE, TOPIC, PREFERENCE, CORRECTION)
STANCES = {"likes": "taste", "dislikes": "taste", "wants": "wish"}
"""The predicates that tell a preference; of two of one sort about one thing the later holds."""

Row = dict[str, Any]


class AgentGraphProjection:
    """Decides what entries change in the agent graph (`context_sync.Projection`). Keeps nothing between builds."""

    def __init__(self, session_idle_s: float) -> None:
        self._session_idle_s = session_idle_s

    async def build(self, tx: Reads, entries: Sequence[Entry]) -> Writes:
        """See `context_sync.Projection.build`."""
        draft = Draft(tx)
        for _, run in itertools.groupby(entries, key=lambda entry: type(entry.record)):
            batch = list(run)
            turns = [(entry, entry.record) for entry in batch if isinstance(entry.record, TurnRecord)]
            if turns:
                await _Batch(draft, self._session_idle_s).take_in(turns)
            for entry in batch:
                if isinstance(entry.record, ForgetRecord):
                    await _forget(draft, entry.record)
        return draft.writes()

    def committed(self, writes: Writes) -> None:
        """See `context_sync.Projection.committed`."""

    def reset(self) -> None:
        """See `context_sync.Projection.reset`."""


class _Batch:
    """The rows that some turns touch, by id: read at once, changed here, written at the end."""

    def __init__(self, draft: Draft, session_idle_s: float) -> None:
        self._draft = draft
        self._session_idle_s = session_idle_s
        self._rows: dict[str, tuple[str, Row]] = {}
        self._edges: dict[str, Edge] = {}

    async def take_in(self, turns: Sequence[tuple[Entry, TurnRecord]]) -> None:
        records = [record for _, record in turns]
        await self._read(SESSION, {_session_id(record) for record in records})
        await self._read(EPISODE, {str(row["episode"]) for kind, row in self._rows.values() if kind == SESSION})
        await self._read(TOPIC, {topic for record in records for topic in _topics(record)})
        await self._read(PREFERENCE, {_preference_id(r.turn.user, s) for r in records for s in _stances(r)})
        episodes = [row_id for row_id, (kind, _) in self._rows.items() if kind == EPISODE]
        self._edges = {edge.id: edge for edge in await self._draft.edges((episode, ABOUT) for episode in episodes)}
        for entry, record in turns:
            self._live(entry, record)
        for row_id, (kind, row) in self._rows.items():
            self._draft.put_node(Node(kind, row_id, {**row, "id": row_id}))
        for edge in self._edges.values():
            self._draft.put_edge(edge)

    async def _read(self, kind: str, ids: Collection[str]) -> None:
        for node in await self._draft.nodes(kind, ids=sorted(ids)):
            self._rows[node.id] = (kind, _row(node))

    def _live(self, entry: Entry, record: TurnRecord) -> None:
        stem = id_stem(entry, record)
        episode_id, episode = self._episode(stem, record)
        category = record.classification.category if record.classification else ""
        if category:
            counts = Counter(dict(_counted(item) for item in episode.get("categories") or ()))
            counts[category] += 1
            episode["categories"] = [f"{name}={count}" for name, count in sorted(counts.items())]
        for topic_id, (name, sort) in _topics(record).items():
            self._topic(episode_id, topic_id, name, sort, record)
        for statement in _stances(record):
            preference_id = _preference_id(record.turn.user, statement)
            self._prefer(preference_id, statement, record, utterance_id(stem))
            if preference_id in self._rows:
                self._join(LEARNED, episode_id, preference_id, record.turn.user)
        if takes_back(record):
            self._rows[f"c-{stem}"] = (CORRECTION, _correction(record, utterance_id(stem)))
            self._join(CORRECTED_BY, episode_id, f"c-{stem}", record.turn.user)

    def _episode(self, stem: str, record: TurnRecord) -> tuple[str, Row]:
        """The session's episode under way, or a new one after a long silence."""
        turn, session_id = record.turn, _session_id(record)
        _, session = self._rows.setdefault(
            session_id,
            (SESSION, {"user": turn.user, "session": turn.session, "started_at": turn.said_at, "last_at": turn.said_at,
                       "turns": 0, "episode": ""}),
        )  # fmt: skip
        silent_s = turn.said_at - session["last_at"]
        episode_id = str(session["episode"])
        if episode_id not in self._rows or silent_s > self._session_idle_s:
            episode_id = f"ep-{stem}"
            self._rows[episode_id] = (
                EPISODE,
                {"user": turn.user, "session": turn.session, "started_at": turn.said_at, "ended_at": turn.said_at,
                 "turns": 0, "categories": []},
            )  # fmt: skip
            self._join(HAS_EPISODE, session_id, episode_id, turn.user)
        _, episode = self._rows[episode_id]
        session.update(
            episode=episode_id,
            turns=session["turns"] + 1,
            started_at=min(session["started_at"], turn.said_at),
            last_at=max(session["last_at"], turn.said_at),
        )
        episode.update(
            turns=episode["turns"] + 1,
            started_at=min(episode["started_at"], turn.said_at),
            ended_at=max(episode["ended_at"], turn.said_at),
        )
        return episode_id, episode

    def _topic(self, episode_id: str, topic_id: str, name: str, sort: str, record: TurnRecord) -> None:
        turn = record.turn
        new = {
            "user": turn.user,
            "name": name,
            "sort": sort,
            "turns": 0,
            "first_at": turn.said_at,
            "last_at": turn.said_at,
        }
        _, topic = self._rows.setdefault(topic_id, (TOPIC, new))
        topic.update(
            turns=topic["turns"] + 1,
            first_at=min(topic["first_at"], turn.said_at),
            last_at=max(topic["last_at"], turn.said_at),
        )
        edge_id = _edge_id(ABOUT, episode_id, topic_id)
        turns = _row(self._edges[edge_id])["turns"] if edge_id in self._edges else 0
        self._join(ABOUT, episode_id, topic_id, turn.user, turns=turns + 1)

    def _prefer(self, preference_id: str, statement: Statement, record: TurnRecord, utterance: str) -> None:
        """What the user likes, dislikes or wants: said again it grows stronger, said otherwise it turns."""
        turn, stance = record.turn, statement.predicate
        known = self._rows.get(preference_id)
        if statement.status != ASSERTED:
            # "I don't like jazz any more": what nobody knew of needs no taking back.
            if known and known[1]["stance"] == stance and turn.said_at >= known[1]["last_at"]:
                known[1].update(held=False, last_at=turn.said_at)
            return
        if known is None:
            row: Row = {"user": turn.user, "about": label(statement.object), "type": statement.object.type,
                   "first_at": turn.said_at, "last_at": turn.said_at, "times_said": 0, "strength": 0.0, "held": True,
                   "stance": stance, "sessions": [], "utterances": []}  # fmt: skip
            self._rows[preference_id] = (PREFERENCE, row)
        else:
            row = known[1]
            turned = row["stance"] != stance or not row["held"]
            if turned and turn.said_at < row["last_at"]:
                return
            if turned:
                row.update(stance=stance, held=True, strength=0.0, times_said=0)
        row.update(
            strength=min(MAX_CONFIDENCE, 1 - (1 - row["strength"]) * (1 - statement.confidence)),
            times_said=row["times_said"] + 1,
            last_at=max(row["last_at"], turn.said_at),
            sessions=list(dict.fromkeys([*row["sessions"], turn.session])),
            utterances=list(dict.fromkeys([*row["utterances"], utterance])),
        )

    def _join(self, type_: str, start: str, end: str, user: str, **properties: int) -> None:
        edge_id = _edge_id(type_, start, end)
        self._edges[edge_id] = Edge(type_, edge_id, start, end, {"id": edge_id, "user": user, **properties})


def label(argument: Argument) -> str:
    """What an argument is called where no graph tells who it is: "Emma", "the user's sister", "Tom's wife"."""
    if argument.role:
        return {"user": "the user", GROUP: "the user and others", "agent": "the agent"}.get(
            argument.role, argument.name
        )
    if not (argument.owner and is_nominal(argument)):
        return argument.name
    path = ["the user" if part == "user" else part for part in argument.owner.split(">")]
    return "".join(f"{part}'s " for part in path) + argument.nominal


def _correction(record: TurnRecord, utterance: str) -> Row:
    turn = record.turn
    right = [_told(s) for s in record.statements if s.status == ASSERTED]
    wrong = [_told(s) for s in record.statements if s.status in (ENDED, NEGATED)]
    wrong = wrong or [said.text for said in turn.context[-1:]]
    return {
        "user": turn.user, "session": turn.session, "said_at": turn.said_at, "utterance": utterance,
        "wrong": "; ".join(wrong), "right": "; ".join(right) or turn.text,
    }  # fmt: skip


def _told(statement: Statement) -> str:
    return f"{label(statement.subject)} {statement.predicate} {label(statement.object)}"


def _topics(record: TurnRecord) -> Mapping[str, tuple[str, str]]:
    """What a turn is about: id -> name and sort ("category" or "entity")."""
    found = [(label(argument), "entity") for argument in record.mentioned]
    if record.classification and record.classification.category:
        found.append((record.classification.category, "category"))
    return {_id("tp", record.turn.user, sort, name_key(name)): (name, sort) for name, sort in found}


def _stances(record: TurnRecord) -> list[Statement]:
    """The statements that tell what the user likes, dislikes or wants, for sure."""
    return [
        statement
        for statement in record.statements
        if statement.predicate in STANCES
        and statement.subject.role in ("user", GROUP)
        and statement.status in (ASSERTED, ENDED, NEGATED)
    ]


def _preference_id(user: str, statement: Statement) -> str:
    return _id("pf", user, STANCES[statement.predicate], name_key(label(statement.object)))


def _session_id(record: TurnRecord) -> str:
    return _id("s", record.turn.user, record.turn.session)


def _id(prefix: str, *parts: str) -> str:
    return f"{prefix}-{blake2b(chr(0).join(parts).encode(), digest_size=10).hexdigest()}"


def _edge_id(type_: str, start: str, end: str) -> str:
    return f"{type_}-{start}-{end}"


def _row(stored: Node | Edge) -> Row:
    return dict(stored.properties)


def _counted(item: str) -> tuple[str, int]:
    name, _, count = item.rpartition("=")
    return name, int(count)


# --- forgetting -------------------------------------------------------------------------------------


async def _forget(draft: Draft, record: ForgetRecord) -> None:
    if record.scope == "everything":
        for kind in KINDS:
            for node in await draft.nodes(kind, user=record.user):
                draft.delete_node(node.id)
    elif record.scope == "session":
        await _forget_session(draft, record)
    else:
        await _forget_entity(draft, record)


async def _forget_session(draft: Draft, record: ForgetRecord) -> None:
    """The session, its episodes and corrections; topics and preferences that no other session brought."""
    gone: dict[str, str] = {}
    for kind in (SESSION, EPISODE, CORRECTION):
        for node in await draft.nodes(kind, user=record.user):
            if node.properties["session"] == record.name:
                gone[node.id] = kind
    about = await draft.edges((node_id, ABOUT) for node_id, kind in gone.items() if kind == EPISODE)
    for node_id in gone:
        draft.delete_node(node_id)
    topics = {node.id: node for node in await draft.nodes(TOPIC, ids=sorted({edge.end for edge in about}))}
    for topic_id, topic in topics.items():
        if not await draft.edges([(topic_id, ABOUT)]):
            draft.delete_node(topic_id)
            continue
        lost = sum(_row(edge)["turns"] for edge in about if edge.end == topic_id)
        turns = _row(topic)["turns"]
        draft.put_node(Node(TOPIC, topic_id, {**topic.properties, "turns": turns - lost}))
    for node in await draft.nodes(PREFERENCE, user=record.user):
        sessions = list(_row(node)["sessions"])
        if sessions == [record.name]:
            draft.delete_node(node.id)
        elif record.name in sessions:
            sessions.remove(record.name)
            draft.put_node(Node(PREFERENCE, node.id, {**node.properties, "sessions": sessions}))


async def _forget_entity(draft: Draft, record: ForgetRecord) -> None:
    """Topics and preferences of its names, or of what is only theirs, and corrections that speak of it."""
    names = (record.name, *record.names)
    keys = {name_key(name) for name in names}
    keys |= {name_key(f"the user's {record.name}"), name_key(f"the user's {record.name.removeprefix('my ')}")}
    theirs = tuple(f"{name.casefold()}'s " for name in names)
    for kind, property_ in ((TOPIC, "name"), (PREFERENCE, "about")):
        for node in await draft.nodes(kind, user=record.user):
            name = str(node.properties[property_])
            if name_key(name) in keys or name.casefold().startswith(theirs):
                draft.delete_node(node.id)
    word = re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, names))})(?!\w)", re.IGNORECASE)
    for node in await draft.nodes(CORRECTION, user=record.user):
        if word.search(f"{node.properties['wrong']} {node.properties['right']}"):
            draft.delete_node(node.id)
