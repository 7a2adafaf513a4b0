"""What a reply tells of a turn: the shape of `understood`, its JSON Schema, how the small models' results become it.

The shapes are the edge's own: what is journaled and stored may change without them. Confidences are 0 to 1; `start` and
`end` are character offsets into the turn's text.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Annotated, Any, NotRequired

import numpy as np
import structlog
from pydantic import ConfigDict, Field, with_config
from pydantic_core import from_json, to_json
from typing_extensions import TypedDict  # pydantic reads typing's own from Python 3.12 on only

from actors.messages import Answer, Encoding, Extraction, Relation
from config.schema import Schema
from daemon.memory.records import Statement

Confidence = Annotated[float, Field(ge=0, le=1)]
Offset = Annotated[int, Field(ge=0)]

_log = structlog.get_logger(__name__)


class Entity(TypedDict):
    """An entity mention. `wire_type` is its type among the nine of the plain wire schema."""

    text: str
    type: str
    wire_type: str
    start: Offset
    end: Offset
    confidence: Confidence


class Link(TypedDict):
    """A pronoun or definite nominal, and the text of the entity it stands for."""

    text: str
    start: Offset
    end: Offset
    antecedent: str
    confidence: Confidence


class TextRelation(TypedDict):
    """A relation in the turn's own words.

    Subject and object are "speaker", "speaker_group", "listener", an entity's text or a link's antecedent; `time` is
    the text that dates it.
    """

    subject: str
    predicate: str
    object: str
    status: str
    confidence: Confidence
    time: NotRequired[str]


class StandIn(TypedDict):
    """The version that answered in another's place, and the code of what hindered that."""

    model: str
    code: str


class Extracted(TypedDict):
    """What the extractor found.

    `confidence` is the share of all this that is expected to be right: the mean over the relations, over the entities
    where there is no relation; it is absent where nothing was found. `correction` is the probability that the turn
    takes something back.
    """

    entities: list[Entity]
    links: list[Link]
    relations: list[TextRelation]
    confidence: NotRequired[Confidence]
    correction: Confidence
    stood_in: NotRequired[StandIn]


class Classified(TypedDict):
    """What answering the turn needs, and why, in words."""

    needs_research: bool
    research_confidence: Confidence
    needs_memory: bool
    memory_confidence: Confidence
    category: str
    category_confidence: Confidence
    reason: str


class Side(TypedDict):
    """A statement's subject or object, resolved as far as the turn tells; see `daemon.memory.records.Argument`."""

    name: str
    type: str
    role: str
    owner: str
    nominal: str


class Stated(TypedDict):
    """A relation as it will be stored: resolved, in the canonical direction, `time` an ISO 8601 date."""

    subject: Side
    predicate: str
    object: Side
    status: str
    confidence: Confidence
    time_text: NotRequired[str]
    time: NotRequired[str]


@with_config(ConfigDict(extra="allow"))
class Understood(TypedDict):
    """All that was understood. Further small models appear under their names.

    `text` is the turn as it was read: what offsets count in.
    """

    statements: list[Stated]
    extractor: NotRequired[Extracted]
    classifier: NotRequired[Classified]
    text: NotRequired[str]


def tell(answers: Mapping[str, Answer], statements: Iterable[Statement], schema: Schema) -> dict[str, Any]:
    """The small models' results as `Understood`, without the encoder's vectors.

    A result is a dataclass or a JSON value; one that JSON cannot hold is left out, since the turn is journaled by now.
    """
    told: dict[str, Any] = {"statements": [_known(asdict(statement)) for statement in statements]}
    for slm, answer in answers.items():
        if isinstance(answer.result, Extraction):
            told[slm] = extracted(answer.result, schema)
        elif not isinstance(answer.result, Encoding):
            try:
                told[slm] = from_json(
                    to_json(answer.result, bytes_mode="base64", inf_nan_mode="null", fallback=_listed)
                )
            except Exception as error:  # whatever a result's own code raises
                _log.warning("untold_result", slm=slm, model=answer.model, error=type(error).__name__)
    return told


def extracted(extraction: Extraction, schema: Schema) -> dict[str, Any]:
    """An extraction as `Extracted`. Predicates get their canonical names; what the schema does not know stays out."""
    entities = [
        {**asdict(mention), "wire_type": schema.wire_type(mention.type), "confidence": _share(mention.confidence)}
        for mention in extraction.mentions
        if mention.type in schema.entity_types
    ]
    relations = list(_relations(extraction.relations, schema))
    told: dict[str, Any] = {
        "entities": entities,
        "links": [{**asdict(link), "confidence": _share(link.confidence)} for link in extraction.links],
        "relations": relations,
        "correction": _share(extraction.correction),
    }
    if extraction.stood_in:
        told["stood_in"] = asdict(extraction.stood_in)
    if found := relations or entities:
        told["confidence"] = round(sum(each["confidence"] for each in found) / len(found), 4)
    return told


def describe(json_schema: dict[str, Any], schema: Schema) -> dict[str, Any]:
    """A reply's JSON Schema, with the names that the knowledge schema has instead of any text."""
    types = list(schema.entity_types)
    names = {
        ("Entity", "type"): types,
        ("Entity", "wire_type"): sorted({schema.wire_type(name) for name in types}, key=types.index),
        **{(shape, "predicate"): list(schema.predicates) for shape in ("TextRelation", "Stated")},
        **{(shape, "status"): list(schema.statuses) for shape in ("TextRelation", "Stated")},
    }
    for (shape, field), allowed in names.items():
        json_schema["$defs"][shape]["properties"][field]["enum"] = allowed
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **json_schema}


def _relations(relations: Sequence[Relation], schema: Schema) -> Iterator[dict[str, Any]]:
    for relation in relations:
        canonical = schema.canonical(relation.predicate)
        if canonical is None or relation.status not in schema.statuses:
            continue
        told = {**_known(asdict(relation)), "predicate": canonical.name, "confidence": _share(relation.confidence)}
        if canonical.flipped:
            told |= {"subject": relation.object, "object": relation.subject}
        yield told


def _listed(value: object) -> object:
    # What a network computes is seldom Python's own.
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise TypeError(f"JSON holds no {type(value).__name__}")


def _known(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _share(confidence: float) -> float:
    # Sums of float32 may end a hair outside.
    return min(1.0, max(0.0, confidence))
