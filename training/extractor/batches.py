"""Examples as tensors: what the network reads and what it should say."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from actors.extraction.decoding import TaggedSpan, begin_tag, inside_tag
from actors.extraction.sequence import TURN, SequenceBuilder, TokenSequence, Word
from actors.extraction.spans import Labels, Node, distances, role_nodes
from actors.messages import ROLES, Utterance
from config.schema import Schema
from training.annotation import Example

IGNORED = -100
_FUNCTION_WORDS = frozenset(
    "a an the and or but nor so if as at by for from in into of off on onto out over to up with within without "
    "after before since until during while when where which who whom whose that is are was were be been being am "
    "has have had having do does did will would can could may might shall should must not also then than both "
    "either about under between through because although".split()
)
SPEAKER = "A"
"""Who says the turn, among the speakers of its context."""


@dataclass(frozen=True, slots=True)
class Target:
    """A relation to be found: the argument's keys, and numbers of predicate and status."""

    subject: str
    predicate: int
    object: str
    status: int
    time: str | None


@dataclass(frozen=True, slots=True)
class Labelled:
    """An example's sequence and labels.

    `keys[i]` names what node i stands for: nodes of one key are one argument. `antecedents` maps a node to the tokens
    where its antecedent begins and ends. `known` are the numbers of the predicates that were looked for, None for all.
    """

    sequence: TokenSequence
    words: list[Word]
    tags: list[int]
    nodes: list[Node]
    keys: list[str]
    spans: dict[tuple[int, int], int]
    targets: list[Target]
    antecedents: dict[int, tuple[list[int], list[int]]]
    correction: float
    known: frozenset[int] | None = None


@dataclass(frozen=True, slots=True)
class EncoderBatch:
    """ids, types [B, T], mask added to attention scores [B, 1, 1, T], word tokens and tags [B, W], correction [B]."""

    ids: Tensor
    types: Tensor
    mask: Tensor
    words: Tensor
    tags: Tensor
    correction: Tensor


@dataclass(frozen=True, slots=True)
class PairBatch:
    """Nodes [B, N], and per target relation its example, predicate, the pairs that may carry it [R, N, N] and labels.

    `possible` [B, N, N] are pairs of different arguments, `positive` [B, N, N, P] what some target says of them, and
    `known` [B, N, N, P], or None for everything, of what it is known whether it holds.
    `links` [L, 2] are example and node, `antecedents` [L, 2, T] the tokens that begin and end the antecedent.
    """

    first: Tensor
    last: Tensor
    types: Tensor
    distance: Tensor
    possible: Tensor
    positive: Tensor
    known: Tensor | None
    owner: Tensor
    predicate: Tensor
    pairs: Tensor
    status: Tensor
    time: Tensor
    links: Tensor
    antecedents: Tensor


class Labeller:
    """Labels examples for one tokenizer and schema."""

    def __init__(self, builder: SequenceBuilder, schema: Schema) -> None:
        self._builder, self._schema = builder, schema
        self.labels = Labels.of(schema)
        self._types = {name: number for number, name in enumerate(self.labels.types)}
        self._predicates = {name: number for number, name in enumerate(self.labels.predicates)}
        self._statuses = {name: number for number, name in enumerate(self.labels.statuses)}
        self.symmetric = frozenset(
            number for name, number in self._predicates.items() if schema.predicates[name].symmetric
        )

    def label(self, example: Example) -> Labelled:
        """Spans that do not begin and end with a word cannot be learned and are left out, with what needs them."""
        same = [_same(said) for said in example.context]
        sequence = self._builder.build(example.text, same, example.context, example.known)
        words = [word for word in sequence.words if word.source == TURN]
        starts = {word.start: number for number, word in enumerate(words)}
        ends = {word.end: number for number, word in enumerate(words)}
        whole = example.annotated is None
        tags = [0 if whole or _is_no_name(word, example.text) else IGNORED for word in words]
        nodes, keys = role_nodes(self.labels), list(ROLES)
        spans: dict[tuple[int, int], int] = {}
        antecedents: dict[int, tuple[list[int], list[int]]] = {}
        labelled = [(m.start, m.end, self._types[m.type], m.text) for m in example.gold.mentions]
        labelled += [(k.start, k.end, self.labels.pronoun, k.antecedent) for k in example.gold.links]
        for start, end, label, key in labelled:
            if start not in starts or end not in ends:
                continue
            first, last = starts[start], ends[end]
            tags[first : last + 1] = [begin_tag(label)] + [inside_tag(label)] * (last - first)
            spans[first, last] = len(nodes)
            nodes.append(Node(words[first].first, words[last].last, label))
            keys.append(key)
            if label == self.labels.pronoun and (found := _occurrences(sequence, key, words[first])):
                antecedents[spans[first, last]] = found
        targets = [
            Target(
                r.subject,
                self._predicates[r.predicate],
                r.object,
                self._statuses[r.status] if whole else IGNORED,
                r.time,
            )
            for r in example.gold.relations
            if r.subject in keys and r.object in keys and r.subject != r.object
        ]
        known = None if example.annotated is None else frozenset(self._predicates[name] for name in example.annotated)
        return Labelled(sequence, words, tags, nodes, keys, spans, targets, antecedents, example.gold.correction, known)


def encoder_batch(examples: Sequence[Labelled]) -> EncoderBatch:
    """Pad to the longest sequence and to the most words."""
    length = max(len(example.sequence.ids) for example in examples)
    most_words = max(1, *(len(example.words) for example in examples))
    mask = torch.zeros(len(examples), 1, 1, length)
    for row, example in enumerate(examples):
        mask[row, ..., len(example.sequence.ids) :] = -1e4
    return EncoderBatch(
        _padded([example.sequence.ids for example in examples], length, 0),
        _padded([example.sequence.types for example in examples], length, 0),
        mask,
        _padded([[word.first for word in example.words] for example in examples], most_words, 0),
        _padded([example.tags for example in examples], most_words, IGNORED),
        torch.tensor([example.correction for example in examples]),
    )


def pair_batch(
    examples: Sequence[Labelled],
    predicted: Sequence[Sequence[TaggedSpan]],
    labels: Labels,
    symmetric: frozenset[int],
    length: int,
) -> PairBatch:
    """Gold nodes, and spans that the tagger found in error: the pair scorer has to live with them."""
    all_nodes = [[*e.nodes, *_errors(e, spans)] for e, spans in zip(examples, predicted, strict=True)]
    batch, most = len(examples), max(map(len, all_nodes))
    first, last, types = (torch.zeros(batch, most, dtype=torch.long) for _ in range(3))
    distance = torch.zeros(batch, most, most, dtype=torch.long)
    possible = torch.zeros(batch, most, most, dtype=torch.bool)
    positive = torch.zeros(batch, most, most, len(labels.predicates), dtype=torch.bool)
    owner, predicate, status, time, pairs, links, antecedents = [], [], [], [], [], [], []
    for row, (example, nodes) in enumerate(zip(examples, all_nodes, strict=True)):
        count = len(nodes)
        first[row, :count] = torch.tensor([node.first for node in nodes])
        last[row, :count] = torch.tensor([node.last for node in nodes])
        types[row, :count] = torch.tensor([node.type for node in nodes])
        distance[row, :count, :count] = torch.from_numpy(distances(nodes))
        places: dict[str, list[int]] = {}
        for number, key in enumerate(example.keys):
            places.setdefault(key, []).append(number)
        possible[row, :count, :count] = True
        for same in places.values():
            for one, other in product(same, same):
                possible[row, one, other] = False
        possible[row].fill_diagonal_(False)
        for target in example.targets:
            carriers = torch.zeros(most, most, dtype=torch.bool)
            for one, other in product(places[target.subject], places[target.object]):
                carriers[one, other] = True
                if target.predicate in symmetric:
                    carriers[other, one] = True
            positive[row, :, :, target.predicate] |= carriers
            owner.append(row)
            predicate.append(target.predicate)
            pairs.append(carriers)
            status.append(target.status)
            # Node 0 is the speaker, who dates nothing: it stands for "no time".
            no_time = 0 if example.known is None else IGNORED
            time.append(places.get(target.time, [no_time])[0] if target.time else no_time)
        for node, (begins, ends) in example.antecedents.items():
            tokens = torch.zeros(2, length, dtype=torch.bool)
            tokens[0, begins] = True
            tokens[1, ends] = True
            links.append((row, node))
            antecedents.append(tokens)
    known = None
    if any(example.known is not None for example in examples):
        looked_for = torch.ones(batch, len(labels.predicates), dtype=torch.bool)
        for row, example in enumerate(examples):
            if example.known is not None:
                looked_for[row] = False
                looked_for[row, sorted(example.known)] = True
        told = positive.any(-1)
        # What is said of two arguments is all that is said of them, either way round.
        known = (told | told.transpose(1, 2)).unsqueeze(-1) | looked_for[:, None, None]
    return PairBatch(
        first, last, types, distance, possible, positive, known,
        torch.tensor(owner, dtype=torch.long), torch.tensor(predicate, dtype=torch.long),
        torch.stack(pairs) if pairs else torch.zeros(0, most, most, dtype=torch.bool),
        torch.tensor(status, dtype=torch.long), torch.tensor(time, dtype=torch.long),
        torch.tensor(links, dtype=torch.long).view(-1, 2),
        torch.stack(antecedents) if antecedents else torch.zeros(0, 2, length, dtype=torch.bool),
    )  # fmt: skip


def _is_no_name(word: Word, text: str) -> bool:
    """Whether a word can be no part of a mention: a mark, or one of the words that join others."""
    said = text[word.start : word.end]
    return not said[0].isalnum() or said in _FUNCTION_WORDS


def _errors(example: Labelled, predicted: Sequence[TaggedSpan]) -> Iterator[Node]:
    for span in predicted:
        if (span.first, span.last) not in example.spans:
            yield Node(example.words[span.first].first, example.words[span.last].last, span.label)


def _occurrences(sequence: TokenSequence, text: str, excluded: Word) -> tuple[list[int], list[int]] | None:
    """Tokens where words begin and end `text`, anywhere in the sequence but at `excluded`."""
    begins, ends = [], []
    for source, said in enumerate(sequence.sources):
        words = [word for word in sequence.words if word.source == source and word != excluded]
        starts = {word.start: word.first for word in words}
        stops = {word.end: word.first for word in words}
        at = said.find(text)
        while at >= 0:
            if at in starts and at + len(text) in stops:
                begins.append(starts[at])
                ends.append(stops[at + len(text)])
            at = said.find(text, at + 1)
    return (begins, ends) if begins else None


def _padded(rows: Sequence[Sequence[int]], length: int, filling: int) -> Tensor:
    return torch.tensor([[*row, *[filling] * (length - len(row))] for row in rows], dtype=torch.long)


def _same(said: Utterance) -> bool:
    return said.speaker == SPEAKER
