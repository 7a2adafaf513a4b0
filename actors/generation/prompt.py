"""What a language model is asked: the knowledge schema as instructions, a turn as the question, the answer's shape."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from actors.generator import Message
from actors.messages import ROLES, Turn
from config.schema import ANY, Predicate, Schema

MAX_TEXT = 80
MAX_ITEMS = 24
"""Bounds of an answer, so that a model that is held to it comes to an end."""

_TASK = """\
You read one turn of a conversation and say what it states, as one JSON object and nothing else:
{"entities": [{"text", "type"}], "links": [{"text", "antecedent"}],
 "relations": [{"subject", "predicate", "object", "status", "time", "confidence"}], "correction": true or false}

entities: every mention that stands in a relation, copied letter by letter from the turn.
links: every pronoun or other word that stands for an entity, with that entity as it was said in the turn or before.
relations: what the turn itself states. Subject and object are copied texts of entities or antecedents, or:
  speaker (I, me, my), speaker_group (we, us, our), listener (you, your). time is the turn's text that dates the
  relation, or null. confidence is from 0 to 1.
correction: whether the turn takes back something that was said before.
Never add what was not said. A turn that states nothing has empty lists."""


class Prompt:
    """The chat that asks about a turn. All of it but the last message is the same for every turn."""

    def __init__(self, schema: Schema, examples: Sequence[Message] = ()) -> None:
        self._opening: list[Message] = [{"role": "system", "content": "\n".join(_instructions(schema))}, *examples]

    def messages(self, turn: Turn) -> list[Message]:
        """The chat for one turn."""
        question = "\n".join(_question(turn))
        # A lone surrogate is no UTF-8, and stops a runtime; one character stands for it.
        return [*self._opening, {"role": "user", "content": question.encode("utf-8", "replace").decode()}]


def answer_schema(schema: Schema) -> dict[str, Any]:
    """The JSON Schema that an answer is held to where the runtime can do that."""
    text = {"type": "string", "minLength": 1, "maxLength": MAX_TEXT}
    return _object(
        entities=_list(_object(text=text, type={"enum": list(schema.entity_types)})),
        links=_list(_object(text=text, antecedent=text)),
        relations=_list(
            _object(
                subject=text,
                predicate={"enum": list(schema.predicates)},
                object=text,
                status={"enum": list(schema.statuses)},
                time={"anyOf": [text, {"type": "null"}]},
                confidence={"type": "number", "minimum": 0, "maximum": 1},
            )
        ),
        correction={"type": "boolean"},
    )


def _instructions(schema: Schema) -> Iterator[str]:
    yield _TASK
    yield "\nEntity types:"
    yield from (f"{name}: {says}" for name, says in schema.entity_types.items())
    yield "\nPredicates, with the types of subject and object:"
    yield from (f"{name} ({_types(predicate)}): {predicate.says}" for name, predicate in schema.predicates.items())
    yield "\nStatuses:"
    yield from (f"{name}: {says}" for name, says in schema.status_says.items())


def _types(predicate: Predicate) -> str:
    return " -> ".join("/".join(sorted(side)) or ANY for side in (predicate.domain, predicate.range))


def _question(turn: Turn) -> Iterator[str]:
    if turn.context:
        yield "Said before:"
        yield from (f"{said.speaker}: {said.text}" for said in turn.context)
    if turn.known:
        yield "Known: " + "; ".join(f"{entity.name} ({entity.type})" for entity in turn.known)
    yield f"The turn, by {turn.speaker}, who is {ROLES[0]}:"
    yield turn.text


def _object(**properties: Any) -> dict[str, Any]:
    return {
        "type": "object", "properties": properties, "required": list(properties), "additionalProperties": False,
    }  # fmt: skip


def _list(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "maxItems": MAX_ITEMS, "items": items}
