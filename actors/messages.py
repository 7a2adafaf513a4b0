"""What crosses a process: frozen, slotted dataclasses, and nothing else."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

USER, AGENT = "user", "agent"
ROLES = ("speaker", "speaker_group", "listener")
"""Arguments that need no mention: I and me, we and us, you."""


@dataclass(frozen=True, slots=True)
class Utterance:
    """An earlier turn. `speaker` is "user", "agent" or a name."""

    speaker: str
    text: str


@dataclass(frozen=True, slots=True)
class KnownEntity:
    """An entity that the session or the graph already holds: a candidate for pronouns and nominals."""

    name: str
    type: str


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn as the small models see it. `context` is oldest first; `said_at` is Unix time in seconds.

    A turn that is not `complete` is what has been said of it so far.
    """

    id: str
    user: str
    session: str
    speaker: str
    text: str
    said_at: float
    context: tuple[Utterance, ...] = ()
    known: tuple[KnownEntity, ...] = ()
    complete: bool = True


@dataclass(frozen=True, slots=True)
class Encoding:
    """The shared encoder's view of a turn, in little-endian float32.

    `vector` has unit length and holds what is meant; `layers`, means of two earlier layers, hold how it is said.
    """

    vector: bytes
    layers: bytes = b""

    def array(self) -> NDArray[np.float32]:
        """The vector, shape [384]."""
        return np.frombuffer(self.vector, dtype="<f4")

    def layer_arrays(self) -> NDArray[np.float32]:
        """The layers, shape [2, 384]; [0, 384] from an encoder that gives none."""
        return np.frombuffer(self.layers, dtype="<f4").reshape(-1, 384)


@dataclass(frozen=True, slots=True)
class Mention:
    """An entity mention: `start` and `end` are character offsets into the turn's text, `confidence` 0 to 1."""

    text: str
    type: str
    start: int
    end: int
    confidence: float


@dataclass(frozen=True, slots=True)
class PronounLink:
    """A pronoun or definite nominal and the text of the entity it stands for."""

    text: str
    start: int
    end: int
    antecedent: str
    confidence: float


@dataclass(frozen=True, slots=True)
class Relation:
    """Subject and object are ROLES, a mention's or an antecedent's text; `time` is the dating mention's text."""

    subject: str
    predicate: str
    object: str
    status: str
    confidence: float
    time: str | None = None


@dataclass(frozen=True, slots=True)
class StandIn:
    """The version ("name@version") that answered in another's place, and the code of the error that hindered it."""

    model: str
    code: str


@dataclass(frozen=True, slots=True)
class Extraction:
    """What a turn says. `correction` is the probability that it takes back something said before."""

    mentions: tuple[Mention, ...]
    links: tuple[PronounLink, ...]
    relations: tuple[Relation, ...]
    correction: float = 0.0
    stood_in: StandIn | None = None


@dataclass(frozen=True, slots=True)
class Classification:
    """What answering a turn needs; `reason` says in words why. Confidences are calibrated, 0 to 1."""

    needs_research: bool
    research_confidence: float
    needs_memory: bool
    memory_confidence: float
    category: str
    category_confidence: float
    reason: str


Result: TypeAlias = Encoding | Extraction | Classification


@dataclass(frozen=True, slots=True)
class Request:
    """A turn for one small model, with the results of the models that its settings name in `after`.

    `deadline` is a `time.monotonic()` in seconds of the host's process: the host sets it from the time that is left.
    """

    turn: Turn
    upstream: Mapping[str, Result] = field(default_factory=dict)
    deadline: float = math.inf


@dataclass(frozen=True, slots=True)
class Answer:
    """A result, which version gave it ("name@version"), and the seconds it waited and computed in its host."""

    result: Result
    model: str
    waited_s: float
    computed_s: float


@dataclass(frozen=True, slots=True)
class HostHealth:
    """One replica of one host. `state` is "serving", "draining" or "down"; `hung` tells why: a batch never ends."""

    slm: str
    replica: int
    state: str
    model: str
    pid: int
    queued: int
    answered: int
    failed: int
    rss_bytes: int
    restarts: int = 0
    hung: bool = False
