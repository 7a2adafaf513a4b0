"""What a person wants forgotten leaves the user graph: an entity, a session, or everything."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import replace

from config.schema import Schema
from daemon.memory.draft import Draft
from daemon.memory.facts import ASSERTED, OPEN, Fact, Known, keys, rivals
from daemon.memory.records import Edge
from daemon.memory.resolution import EntityIndex
from daemon.memory.rows import ENTITY, MENTIONS, UTTERANCE, fact_edge, fact_of
from daemon.memory.statements import NAMES


async def everything(draft: Draft, user: str) -> None:
    """Every node of a user, and with them every edge."""
    for kind in (ENTITY, UTTERANCE):
        for node in await draft.nodes(kind, user=user):
            draft.delete_node(node.id)


async def entity(draft: Draft, index: EntityIndex, name: str, names: Collection[str] = ()) -> None:
    """Every entity of these names, those known only as theirs ("Tom's wife"), and every utterance that speaks of them.

    By `name` it is whoever is meant, by `names` only who is called that.

    Facts about others stay where something else that was said tells them.
    """
    meant = [*index.named(name), *(found for known in (name, *names) for found in index.called(known))]
    gone = {found.id: found for found in meant if found.role in ("", "name")}
    todo = list(gone)
    while todo:
        for owned in index.owned_by(todo.pop()):
            if owned.id not in gone:
                gone[owned.id] = owned
                todo.append(owned.id)
    if not gone:
        return
    words = {n for found in gone.values() if not found.unnamed for n in (found.name, *found.aliases)}
    gone |= {found.id: found for word in words for found in index.called(word) if found.role == "name"}
    mentions = await draft.edges((entity_id, MENTIONS) for entity_id in gone)
    utterances = {edge.start for edge in mentions}
    for node in await draft.nodes(UTTERANCE, user=index.user):
        if _speaks_of(str(node.properties["text"]), words):
            utterances.add(node.id)
    for entity_id in gone:
        draft.delete_node(entity_id)
        index.remove(entity_id)
    for found in list(index):
        if set(found.aliases) & words and found.role:
            index.drop_name(found.id, words)
    touched = {edge.end for edge in await draft.edges((utterance, MENTIONS) for utterance in utterances)}
    for fact in await _facts_from(draft, utterances):
        left = _without(fact.utterances, utterances)
        if not left:
            draft.delete_edge(fact.id)
        elif left != fact.utterances:
            draft.put_edge(fact_edge(replace(fact, utterances=left)))
    for utterance in utterances:
        draft.delete_node(utterance)
    await _drop_unsupported(draft, index, touched)


async def session(draft: Draft, index: EntityIndex, schema: Schema, name: str) -> None:
    """A session's utterances, the facts said only there, and the entities of which nothing is left.

    A fact that the session closed is open again, unless something else has taken its place.
    """
    nodes = await draft.nodes(UTTERANCE, user=index.user)
    utterances = {node.id for node in nodes if node.properties["session"] == name}
    touched = {edge.end for edge in await draft.edges((utterance, MENTIONS) for utterance in utterances)}
    facts = {fact.id: fact for fact in await _facts_from(draft, utterances)}
    near = await draft.edges({key for fact in facts.values() for key in keys(schema, fact, correcting=False)})
    facts |= {edge.id: fact_of(edge) for edge in near}
    known = Known(schema)
    for fact in facts.values():
        if set(fact.sessions) <= {name}:
            draft.delete_edge(fact.id)
            if fact.predicate == NAMES and fact.subject in index and fact.object in index:
                index.drop_name(fact.subject, {index[fact.object].name})
        else:
            known.load([_without_session(fact, name, utterances)])
    for fact in known:
        reopened = fact
        if fact.closed_by in utterances and fact.opened_as in OPEN:
            reopened = replace(fact, status=fact.opened_as, valid_to=None, closed_by=None, closed_at=None)
        if not any(rival.status == ASSERTED for rival in rivals(known, fact)):
            fact = reopened
            known.put(fact)
        if fact != facts[fact.id]:
            draft.put_edge(fact_edge(fact))
    for utterance in utterances:
        draft.delete_node(utterance)
    await _drop_unsupported(draft, index, touched)
    texts = {node.id: str(node.properties["text"]) for node in nodes}
    forgotten = [texts[utterance] for utterance in utterances]
    for entity_id in sorted(touched):
        if entity_id in index and not index[entity_id].role:
            left = [texts[edge.start] for edge in await draft.edges([(entity_id, MENTIONS)]) if edge.start in texts]
            names = {index[entity_id].name, *index[entity_id].aliases}
            said = {name for name in names if any(_speaks_of(text, [name]) for text in forgotten)}
            if lost := {name for name in said if not any(_speaks_of(text, [name]) for text in left)}:
                index.drop_name(entity_id, lost)


async def _drop_unsupported(draft: Draft, index: EntityIndex, touched: Collection[str]) -> None:
    """Entities of which nothing is left, and names that nobody bears any more."""
    for entity_id in sorted(touched):
        if entity_id in index and index[entity_id].role in ("", "name"):
            left = await draft.edges([(entity_id, None)])
            if not left or (index[entity_id].role == "name" and all(edge.type == MENTIONS for edge in left)):
                draft.delete_node(entity_id)
                index.remove(entity_id)


async def _facts_from(draft: Draft, utterances: Collection[str]) -> list[Fact]:
    """Every fact of the entities that the utterances mention: a fact has at least one end that is no role."""
    touched = {edge.end for edge in await draft.edges((utterance, MENTIONS) for utterance in utterances)}
    found: Iterable[Edge] = await draft.edges((entity_id, None) for entity_id in touched)
    return [fact_of(edge) for edge in found if edge.type != MENTIONS]


def _without_session(fact: Fact, name: str, utterances: Collection[str]) -> Fact:
    lost = set(fact.utterances) & set(utterances)
    return replace(
        fact,
        utterances=_without(fact.utterances, lost),
        sessions=_without(fact.sessions, {name}),
        times_said=max(1, fact.times_said - len(lost)),
    )


def _speaks_of(text: str, names: Collection[str]) -> bool:
    lowered = text.casefold()
    return any(re.search(rf"(?<!\w){re.escape(name.casefold())}(?!\w)", lowered) for name in names)


def _without(ids: tuple[str, ...], gone: Collection[str]) -> tuple[str, ...]:
    return tuple(found for found in ids if found not in gone)
