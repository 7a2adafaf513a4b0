"""What is journaled, and what is read from and written to a graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from actors.messages import Classification, Extraction, Turn

GraphName: TypeAlias = Literal["user", "agent"]
Properties: TypeAlias = Mapping[str, str | int | float | bool | list[str] | None]

SHOWN_ROLES = {"user": "you", "group": "you and others", "agent": "the assistant"}
"""How an `Argument`'s role is told to the user."""


@dataclass(frozen=True, slots=True)
class Argument:
    """One side of a statement, resolved as far as the turn alone tells.

    `role` is "user", "group" (the user and others), "agent", "name" (a name as such: the object of has_name), or "" for
    everybody and everything else. A nominal ("sister" in "my sister", "wife" in "Tom's wife") says in `owner` whose it
    is: "user", a name, or a path to another nominal ("user>roommate"); "" when nobody's. `nominal` is the noun that
    introduces a name ("sister" in "my sister Emma"), or a nominal's own name, with what tells it from others of its
    kind ("older brother").
    """

    name: str
    type: str
    role: str = ""
    owner: str = ""
    nominal: str = ""


@dataclass(frozen=True, slots=True)
class Statement:
    """One relation of a turn. `time` is an ISO 8601 date as precise as it was said: "2019", "2019-05", "2019-05-04"."""

    subject: Argument
    predicate: str
    object: Argument
    status: str
    confidence: float
    time_text: str | None = None
    time: str | None = None


@dataclass(frozen=True, slots=True)
class TurnRecord:
    """An accepted turn. `missing` names the small models that gave nothing, `models` the versions that answered."""

    turn: Turn
    statements: tuple[Statement, ...] = ()
    mentioned: tuple[Argument, ...] = ()
    extraction: Extraction | None = None
    classification: Classification | None = None
    models: Mapping[str, str] = field(default_factory=dict)
    missing: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ForgetRecord:
    """A person's wish that something be gone: one entity (by name), one session, or all of a user's memory.

    `names` are all by which the entity is known; each graph and the journal know it by others.
    """

    user: str
    scope: Literal["entity", "session", "everything"]
    name: str = ""
    names: tuple[str, ...] = ()


Record: TypeAlias = TurnRecord | ForgetRecord


@dataclass(frozen=True, slots=True)
class Entry:
    """One journaled record: `seq` grows by one, `recorded_at` is Unix time in seconds.

    `repeated` says that the journal had this turn already: it tells of one append, and is no part of the entry.
    """

    seq: int
    recorded_at: float
    record: Record
    targets: tuple[GraphName, ...] = ("user", "agent")
    repeated: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True)
class Node:
    """A node of a graph: `kind` is its label ("Entity", "Utterance", …), `id` is unique in the graph."""

    kind: str
    id: str
    properties: Properties


@dataclass(frozen=True, slots=True)
class Edge:
    """A relationship: `type` is a predicate or a structural name in capitals, `id` is unique in the graph."""

    type: str
    id: str
    start: str
    end: str
    properties: Properties


@dataclass(frozen=True, slots=True)
class Writes:
    """Changes to one graph, applied in one transaction: deletions first, then nodes, then edges.

    A node or edge whose id exists has its properties replaced. Deleting a node deletes its edges.
    """

    nodes: tuple[Node, ...] = ()
    edges: tuple[Edge, ...] = ()
    deleted_nodes: tuple[str, ...] = ()
    deleted_edges: tuple[str, ...] = ()
