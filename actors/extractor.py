"""The extractor: one turn in; its mentions, pronoun links and relations out. One pass of the encoder, no decoding."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Self

import numpy as np
import structlog
from pydantic import BaseModel, ConfigDict, ValidationError

from actors.errors import ModelLoadError
from actors.extraction.assembly import Assembler, Calibration, Found, PairScores
from actors.extraction.decoding import TaggedSpan, decode_tags
from actors.extraction.hedging import Doubt
from actors.extraction.sequence import TURN, Limits, SequenceBuilder, TokenSequence, Word
from actors.extraction.spans import distances
from actors.messages import Extraction, KnownEntity, Relation, Request, Turn, Utterance
from actors.runtimes.onnx import open_session, open_tokenizer
from config.schema import Schema, SchemaError, load_schema
from config.settings import SlmSettings
from registry.versions import ModelVersion

if TYPE_CHECKING:
    from pathlib import Path

    import onnxruntime as ort
    from numpy.typing import NDArray

_log = structlog.get_logger(__name__)
_PARTIALS = 64
"""Growing turns whose last answer is kept."""
_NOTHING = Extraction((), (), ())
_GROWN = re.compile(r"\S(?=\s)|[.,;:!?…](?=$)")
_PROBE = "My sister Emma moved to Lisbon last week and she loves it there."


class ExtractorConfig(BaseModel):
    """`extractor.json` of a version: what training found out beside the weights."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    limits: Limits
    time_types: frozenset[str]
    role_type: str | None
    calibration: Calibration


class Extractor:
    """A MiniLM that tags words, and a pair scorer over what it tagged.

    Turns are run one by one: on a CPU the padding of a mixed batch costs more than the batch saves, and what is
    understood of a turn must not depend on the turns that happened to arrive with it.
    """

    def __init__(
        self,
        encoder: ort.InferenceSession,
        pairs: ort.InferenceSession,
        builder: SequenceBuilder,
        assembler: Assembler,
        doubt: Doubt,
    ) -> None:
        self._encoder, self._pairs = encoder, pairs
        self._builder, self._assembler = builder, assembler
        self._partials: OrderedDict[str, tuple[object, Extraction]] = OrderedDict()
        self._doubt = doubt

    @classmethod
    def load(cls, version: ModelVersion, settings: SlmSettings) -> Self:
        """Open `encoder.onnx`, `pairs.onnx`, `tokenizer.json`, `schema.yaml` and `extractor.json`.

        Raises:
            ModelLoadError: a file cannot be used, or the graphs do not run on a sentence.
        """
        folder: Path = version.path
        try:
            config = ExtractorConfig.model_validate_json((folder / "extractor.json").read_bytes())
            schema = load_schema(folder / "schema.yaml")
            builder = SequenceBuilder(open_tokenizer(folder / "tokenizer.json"), config.limits)
            doubt = Doubt(load_schema().hedges)  # of the language, not of the weights: one rule for every version
        except (OSError, ValueError, ValidationError, SchemaError) as error:
            raise ModelLoadError(f"{version}: {error}") from error
        extractor = cls(
            open_session(folder / "encoder.onnx", settings.threads),
            open_session(folder / "pairs.onnx", settings.threads),
            builder,
            Assembler(schema, config.time_types, config.role_type, config.calibration),
            doubt,
        )
        try:
            extractor.extract(_PROBE, "user")
        except Exception as error:  # onnxruntime's exceptions share no base below Exception
            raise ModelLoadError(f"{version}: does not run: {error}") from error
        return extractor

    @property
    def schema(self) -> Schema:
        """What the version was trained to say: its own schema, which need not be the shipped one."""
        return self._assembler.schema

    def run(self, requests: Sequence[Request]) -> Sequence[Extraction]:
        """One extraction per request, in order. Any text gives one, if an empty one."""
        return [self._of_turn(request.turn) for request in requests]

    def close(self) -> None:
        """The sessions' memory goes with the last reference to them."""
        del self._encoder, self._pairs

    def extract(
        self, text: str, speaker: str, context: Sequence[Utterance] = (), known: Sequence[KnownEntity] = ()
    ) -> Extraction:
        """What `text` says, a window at a time; each window is context to the next. Offsets are into `text`."""
        windows, left = self._builder.windows(text)
        if left:
            _log.warning("turn longer than the extractor reads", characters=len(text), unread=left)
        earlier = list(context)
        parts: list[Extraction] = []
        for start, end in windows:
            part = self._window(text[start:end], speaker, earlier, known)
            parts.append(_shifted(part, start))
            earlier.append(Utterance(speaker, text[start:end]))
        return self._doubt.lower(_joined(parts), text)

    def extract_partial(
        self,
        turn_id: str,
        text: str,
        speaker: str,
        context: Sequence[Utterance] = (),
        known: Sequence[KnownEntity] = (),
    ) -> Extraction:
        """What a turn has said so far: relations that what follows will hardly take back.

        The last word may still grow, so it is read once something follows it; until then the last answer holds.
        """
        settled = text[: _settled(text)]
        # An id is the client's: another user's turn may have it, and the same words mean others in another context.
        reading = (settled, speaker, tuple(context), tuple(known))
        read, told = self._partials.pop(turn_id, (None, _NOTHING))
        if read != reading:
            told = self._assembler.lasting(self.extract(settled, speaker, context, known)) if settled else _NOTHING
        self._partials[turn_id] = reading, told
        while len(self._partials) > _PARTIALS:
            self._partials.popitem(last=False)
        return told

    def candidates(self, text: str, speaker: str, context: Sequence[Utterance]) -> list[Found]:
        """Every relation that was weighed, told or not, with its scores: what calibration is fitted to."""
        sequence = self._builder.build(text, [said.speaker == speaker for said in context], context)
        words, spans, scores, _ = self._scores(sequence)
        return self._assembler.candidates(sequence, words, spans, scores) if words else []

    def _of_turn(self, turn: Turn) -> Extraction:
        if not turn.complete:
            return self.extract_partial(turn.id, turn.text, turn.speaker, turn.context, turn.known)
        self._partials.pop(turn.id, None)
        return self.extract(turn.text, turn.speaker, turn.context, turn.known)

    def _window(
        self, text: str, speaker: str, context: Sequence[Utterance], known: Sequence[KnownEntity]
    ) -> Extraction:
        sequence = self._builder.build(text, [said.speaker == speaker for said in context], context, known)
        words, spans, scores, correction = self._scores(sequence)
        return self._assembler.assemble(sequence, words, spans, scores, correction)

    def _scores(self, sequence: TokenSequence) -> tuple[list[Word], list[TaggedSpan], PairScores, float]:
        """The turn's words, the spans tagged in them, every pair's scores, and the probability of a correction."""
        words = [word for word in sequence.words if word.source == TURN]
        tags, correction, hidden, attention = self._encoder.run(
            ["tags", "correction", "hidden", "attention"], {"ids": _row(sequence.ids), "types": _row(sequence.types)}
        )
        spans = decode_tags(tags[0, [word.first for word in words]])
        nodes = self._assembler.nodes(words, spans)
        relation, status, time, link = self._pairs.run(
            ["relation", "status", "time", "link"],
            {
                "hidden": hidden,
                "attention": attention,
                "first": _row([node.first for node in nodes]),
                "last": _row([node.last for node in nodes]),
                "node_types": _row([node.type for node in nodes]),
                "distance": distances(nodes)[None],
            },
        )
        scores = PairScores(relation[0], status[0], time[0], link[0])
        return words, spans, scores, float(1 / (1 + np.exp(-correction[0])))


def _settled(text: str) -> int:
    """Where the words end that can grow no more: before the last one, unless a space or a mark follows it."""
    return max((found.end() for found in _GROWN.finditer(text)), default=0)


def _row(numbers: Sequence[int]) -> NDArray[np.int64]:
    return np.array([numbers], dtype=np.int64)


def _shifted(part: Extraction, by: int) -> Extraction:
    mentions = (replace(mention, start=mention.start + by, end=mention.end + by) for mention in part.mentions)
    links = (replace(link, start=link.start + by, end=link.end + by) for link in part.links)
    return replace(part, mentions=tuple(mentions), links=tuple(links))


def _joined(parts: Sequence[Extraction]) -> Extraction:
    """One extraction; of a relation that two windows tell, the surer one."""
    if len(parts) == 1:
        return parts[0]
    relations: dict[tuple[str, str, str], Relation] = {}
    for relation in (relation for part in parts for relation in part.relations):
        key = (relation.subject, relation.predicate, relation.object)
        if key not in relations or relation.confidence > relations[key].confidence:
            relations[key] = relation
    return Extraction(
        tuple(mention for part in parts for mention in part.mentions),
        tuple(link for part in parts for link in part.links),
        tuple(relations.values()),
        max((part.correction for part in parts), default=0.0),
    )
