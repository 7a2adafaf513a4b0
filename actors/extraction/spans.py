"""The nodes of a turn: what may be an argument, as the pair scorer sees it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from actors.extraction.sequence import ROLE_POSITIONS
from config.schema import Schema

if TYPE_CHECKING:
    from numpy.typing import NDArray

DISTANCES = 13
"""How many classes of distance there are between two nodes."""
_ROLE_DISTANCE = 12


@dataclass(frozen=True, slots=True)
class Labels:
    """Numbers for what the network tells apart: labels of spans (entity types, then pronoun), predicates, statuses."""

    types: tuple[str, ...]
    predicates: tuple[str, ...]
    statuses: tuple[str, ...]

    @classmethod
    def of(cls, schema: Schema) -> Labels:
        return cls(tuple(schema.entity_types), tuple(schema.predicates), schema.statuses)

    @property
    def pronoun(self) -> int:
        return len(self.types)

    @property
    def tags(self) -> int:
        """No span, and two tags for each type and for pronouns."""
        return 1 + 2 * (len(self.types) + 1)

    @property
    def node_types(self) -> int:
        """Types, pronoun, and one for each role."""
        return len(self.types) + 1 + len(ROLE_POSITIONS)


@dataclass(frozen=True, slots=True)
class Node:
    """Tokens [first, last] of a sequence and a node type: a label number, or a role's."""

    first: int
    last: int
    type: int


def role_nodes(labels: Labels) -> list[Node]:
    """The nodes that every turn has, in the order of messages.ROLES."""
    return [Node(at, at, labels.pronoun + 1 + number) for number, at in enumerate(ROLE_POSITIONS)]


def distances(nodes: Sequence[Node]) -> NDArray[np.int64]:
    """Classes of token distance from subject to object, shape [nodes, nodes]; a role is near everything."""
    first = np.array([node.first for node in nodes], dtype=np.int64)
    gap = first[None, :] - first[:, None]
    size = np.minimum(np.log2(np.abs(gap) + 1.0).astype(np.int64), 5)
    classes = np.where(gap >= 0, size, 6 + size)
    is_role = (first >= ROLE_POSITIONS[0]) & (first <= ROLE_POSITIONS[-1])
    return np.where(is_role[None, :] | is_role[:, None], _ROLE_DISTANCE, classes)
