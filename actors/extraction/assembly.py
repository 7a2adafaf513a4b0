"""From the network's scores to an extraction: whom pronouns mean, which relations hold, how sure that is."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from actors.extraction.decoding import TaggedSpan
from actors.extraction.sequence import TURN, TokenSequence, Word
from actors.extraction.spans import Labels, Node, role_nodes
from actors.messages import ROLES, Extraction, Mention, PronounLink, Relation
from config.schema import Schema

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]
    Flags = NDArray[np.bool_]

_ANTECEDENT_WORDS = 8
_SELF = 0
"""Node 0 is the speaker, who dates nothing: a relation dated by it has no time."""
_LEAST = 1e-6
_LEAST_SHARE = 1e-3
CONSIDERED = -4.0
"""Log odds of the scorer below which a relation is not worth a thought."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """How a relation's score becomes the probability that it is right, and from which one on it is told.

    Right are its subject, predicate and object; its status and time are not part of that, and measured apart.

    The log odds are `bias + score * relation + span * span_odds(confidence of both arguments)`. Of a turn that goes on
    a relation is told from `partial_threshold` on.
    """

    score: float = 1.0
    span: float = 1.0
    bias: float = 0.0
    threshold: float = 0.5
    partial_threshold: float = 0.5


def span_odds(confidence: float) -> float:
    """What doubt about a relation's arguments takes off its log odds."""
    return math.log(max(confidence, _LEAST))


@dataclass(frozen=True, slots=True)
class PairScores:
    """Logits of nodes: relation [N, N, predicates], status [N, N, statuses], time [N, N, N], link [N, 2, tokens]."""

    relation: Floats
    status: Floats
    time: Floats
    link: Floats


@dataclass(frozen=True, slots=True)
class _Argument:
    """What a node stands for: the text that names it, its type where that is known, how sure both are."""

    key: str
    type: str | None
    confidence: float


@dataclass(frozen=True, slots=True)
class Found:
    """A relation with what its confidence is computed from."""

    relation: Relation
    score: float
    span_confidence: float


class Assembler:
    """Assembles extractions under one schema.

    `time_types` are the entity types that may date a relation, `role_type` is what a speaker or listener is.
    """

    def __init__(
        self, schema: Schema, time_types: frozenset[str], role_type: str | None, calibration: Calibration
    ) -> None:
        self.schema, self.labels = schema, Labels.of(schema)
        self._time_types, self._role_type, self._calibration = time_types, role_type, calibration
        self._roles = role_nodes(self.labels)
        kinds = self.labels.types
        predicates = [schema.predicates[name] for name in self.labels.predicates]
        # The last row and column stand for a type that is not known.
        self._allowed: Flags = np.ones((len(kinds) + 1, len(kinds) + 1, len(predicates)), dtype=np.bool_)
        for one, subject in enumerate(kinds):
            for other, object_ in enumerate(kinds):
                self._allowed[one, other] = [p.joins(subject, object_) for p in predicates]
            self._allowed[one, -1] = [not p.domain or subject in p.domain for p in predicates]
            self._allowed[-1, one] = [not p.range or subject in p.range for p in predicates]
        self._type_number = {kind: number for number, kind in enumerate(kinds)}

    def nodes(self, words: Sequence[Word], spans: Sequence[TaggedSpan]) -> list[Node]:
        """The nodes to be scored: the roles, then the spans."""
        return [*self._roles, *(Node(words[s.first].first, words[s.last].last, s.label) for s in spans)]

    def mentions(self, sequence: TokenSequence, words: Sequence[Word], spans: Sequence[TaggedSpan]) -> list[Mention]:
        """The spans that are entity mentions, in order."""
        return [
            Mention(
                sequence.text(words[span.first], words[span.last]),
                self.labels.types[span.label],
                words[span.first].start,
                words[span.last].end,
                span.confidence,
            )
            for span in spans
            if span.label != self.labels.pronoun
        ]

    def assemble(
        self,
        sequence: TokenSequence,
        words: Sequence[Word],
        spans: Sequence[TaggedSpan],
        scores: PairScores,
        correction: float,
    ) -> Extraction:
        """Everything that the scores say of one window of a turn."""
        links = self._links(sequence, words, spans, scores.link)
        found = self.relations(sequence, words, spans, links, scores)
        relations = [one.relation for one in found if one.relation.confidence >= self._calibration.threshold]
        pronouns = [link for link in links if link is not None]
        return Extraction(tuple(self.mentions(sequence, words, spans)), tuple(pronouns), tuple(relations), correction)

    def lasting(self, extraction: Extraction) -> Extraction:
        """An extraction of a turn that goes on, without the relations that may not outlast it."""
        sure = (r for r in extraction.relations if r.confidence >= self._calibration.partial_threshold)
        return replace(extraction, relations=tuple(sure))

    def candidates(
        self, sequence: TokenSequence, words: Sequence[Word], spans: Sequence[TaggedSpan], scores: PairScores
    ) -> list[Found]:
        """Every relation that is considered, told or not: for calibration."""
        return self.relations(sequence, words, spans, self._links(sequence, words, spans, scores.link), scores)

    def relations(
        self,
        sequence: TokenSequence,
        words: Sequence[Word],
        spans: Sequence[TaggedSpan],
        links: Sequence[PronounLink | None],
        scores: PairScores,
    ) -> list[Found]:
        """The likeliest relation of every two arguments that the schema lets stand in one."""
        arguments = self._arguments(sequence, words, spans, links)
        unknown = len(self.labels.types)
        numbers = np.array([self._type_number.get(a.type or "", unknown) if a else unknown for a in arguments])
        allowed = self._allowed[numbers[:, None], numbers[None, :]]
        logits = np.where(allowed, scores.relation, -np.inf)
        likeliest, highest = logits.argmax(axis=-1), logits.max(axis=-1)
        dating = [
            node
            for node, span in enumerate(spans, len(ROLES))
            if span.label != self.labels.pronoun and self.labels.types[span.label] in self._time_types
        ]
        best: dict[frozenset[str], Found] = {}
        for one, other in np.argwhere(highest > CONSIDERED).tolist():
            subject, object_ = arguments[one], arguments[other]
            if subject is None or object_ is None or subject.key == object_.key:
                continue
            score, sure = float(highest[one, other]), subject.confidence * object_.confidence
            confidence = self._confidence(score, sure)
            # Two arguments stand in one relation: the surest, in either direction, of any of their mentions.
            pair = frozenset((subject.key, object_.key))
            if pair in best and best[pair].relation.confidence >= confidence:
                continue
            options = [_SELF, *dating]
            when = arguments[options[int(scores.time[one, other, options].argmax())]]
            relation = Relation(
                subject.key,
                self.labels.predicates[likeliest[one, other]],
                object_.key,
                self.labels.statuses[int(scores.status[one, other].argmax())],
                confidence,
                when.key if when is not None and when is not arguments[_SELF] else None,
            )
            best[pair] = Found(relation, score, sure)
        return list(best.values())

    def _confidence(self, score: float, sure: float) -> float:
        scale = self._calibration
        odds = scale.bias + scale.score * score + scale.span * span_odds(sure)
        return 1 / (1 + math.exp(-max(-30.0, min(30.0, odds))))

    def _arguments(
        self,
        sequence: TokenSequence,
        words: Sequence[Word],
        spans: Sequence[TaggedSpan],
        links: Sequence[PronounLink | None],
    ) -> list[_Argument | None]:
        """What every node stands for; None for a pronoun that means nobody known.

        None as well for the word "speaker" and the like: by its text nobody could tell it from the role.
        """
        mentions = self.mentions(sequence, words, spans)
        types = {mention.text: mention.type for mention in mentions}
        arguments: list[_Argument | None] = [_Argument(role, self._role_type, 1.0) for role in ROLES]
        in_order = iter(mentions)
        for span, link in zip(spans, links, strict=True):
            if span.label != self.labels.pronoun:
                mention = next(in_order)
                arguments.append(_Argument(mention.text, mention.type, mention.confidence))
            elif link is not None:
                arguments.append(_Argument(link.antecedent, types.get(link.antecedent), link.confidence))
            else:
                arguments.append(None)
        said = (None if argument and argument.key in ROLES else argument for argument in arguments[len(ROLES) :])
        return [*arguments[: len(ROLES)], *said]

    def _links(
        self, sequence: TokenSequence, words: Sequence[Word], spans: Sequence[TaggedSpan], scores: Floats
    ) -> list[PronounLink | None]:
        """For every span the link of its pronoun: None for mentions, and where there is nothing to link to."""
        if all(span.label != self.labels.pronoun for span in spans):
            return [None] * len(spans)
        options = list(self._antecedents(sequence, words, spans))
        begins = [sequence.words[first].first for first, _ in options]
        ends = [sequence.words[last].first for _, last in options]
        links: list[PronounLink | None] = []
        for node, span in enumerate(spans, len(ROLES)):
            if span.label != self.labels.pronoun or not options:
                links.append(None)
                continue
            odds = scores[node, 0, begins] + scores[node, 1, ends]
            shares = np.exp(odds - odds.max())
            by_text: dict[str, float] = {}
            for at in np.flatnonzero(shares > _LEAST_SHARE).tolist():
                text = sequence.text(*(sequence.words[end] for end in options[at]))
                by_text[text] = by_text.get(text, 0.0) + float(shares[at])
            antecedent = max(by_text, key=by_text.__getitem__)
            first, last = words[span.first], words[span.last]
            confidence = span.confidence * min(1.0, by_text[antecedent] / float(shares.sum()))
            links.append(PronounLink(sequence.text(first, last), first.start, last.end, antecedent, confidence))
        return links

    def _antecedents(
        self, sequence: TokenSequence, words: Sequence[Word], spans: Sequence[TaggedSpan]
    ) -> Iterator[tuple[int, int]]:
        """Ranges of words that a pronoun may mean: the turn's mentions, and any few words said before."""
        shift = len(sequence.words) - len(words)  # the turn's words come last
        for span in spans:
            if span.label != self.labels.pronoun:
                yield shift + span.first, shift + span.last
        earlier = [number for number, word in enumerate(sequence.words) if word.source != TURN]
        for first in earlier:
            for last in range(first, min(first + _ANTECEDENT_WORDS, shift)):
                if sequence.words[last].source != sequence.words[first].source:
                    break
                yield first, last
