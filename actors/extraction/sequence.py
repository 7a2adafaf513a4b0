"""How a turn and what came before it become one sequence of tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tokenizers import Tokenizer

from actors.messages import KnownEntity, Utterance

# Free entries of the BERT vocabulary, which training gives a meaning.
_ROLE_TOKENS = ("[unused10]", "[unused11]", "[unused12]")
_SAME_SPEAKER, _OTHER_SPEAKER, _KNOWN = "[unused20]", "[unused21]", "[unused22]"

_CHARACTERS_PER_TOKEN = 16
_SENTENCE_ENDS = frozenset(".!?…。！？")

ROLE_POSITIONS = (1, 2, 3)
"""Where the tokens of messages.ROLES stand in every sequence."""
CASINGS = 3
TOKEN_TYPES = 2 * CASINGS
"""Token types are segment * CASINGS + casing: the vocabulary is lower case, so case travels beside it."""
TURN = 0
"""The source number of the turn itself; earlier texts count from 1."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How many tokens a window of the turn, its context and known entities may take; how many windows a turn."""

    turn: int = 128
    context: int = 48
    known: int = 16
    windows: int = 16


@dataclass(frozen=True, slots=True)
class Word:
    """A word of a source text: characters [start, end), tokens [first, last]."""

    source: int
    start: int
    end: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class TokenSequence:
    """Token ids and types of equal length, the words they spell in order, and the texts that the words stand in."""

    ids: list[int]
    types: list[int]
    words: list[Word]
    sources: list[str]

    def text(self, first: Word, last: Word) -> str:
        """What stands from one word to a later one of the same source."""
        return self.sources[first.source][first.start : last.end]


@dataclass(frozen=True, slots=True)
class _Piece:
    """Tokens of one text; `words` number them as Word does, from zero."""

    ids: list[int]
    casings: list[int]
    words: list[Word]


class SequenceBuilder:
    """Builds sequences with one version's tokenizer: `[CLS] roles context [SEP] turn [SEP]`."""

    def __init__(self, tokenizer: Tokenizer, limits: Limits) -> None:
        tokenizer.no_padding()
        tokenizer.no_truncation()
        self._tokenizer = tokenizer
        self._limits = limits
        self._cls, self._sep = self._id("[CLS]"), self._id("[SEP]")
        self._roles = [self._id(token) for token in _ROLE_TOKENS]

    def build(
        self, text: str, same_speaker: Sequence[bool], context: Sequence[Utterance], known: Sequence[KnownEntity] = ()
    ) -> TokenSequence:
        """The sequence of a turn that fits one window; tokens beyond the limits are left out, the oldest first.

        Of the known entities, latest first, those stand before the context that neither it nor the turn names.
        """
        ids, types = [self._cls, *self._roles], [CASINGS] * (1 + len(self._roles))
        words: list[Word] = []
        sources = [text]
        named = "\n".join([text, *(said.text for said in context)])
        names = self._names([entity for entity in known if entity.name not in named])
        for marker, said, piece in [*names, *self._earlier(same_speaker, context)]:
            ids.append(self._id(marker))
            types.append(CASINGS)
            _append(piece, len(sources), CASINGS, ids, types, words)
            sources.append(said)
        ids.append(self._sep)
        types.append(CASINGS)
        _append(self._piece(text, self._limits.turn), TURN, 0, ids, types, words)
        ids.append(self._sep)
        types.append(0)
        return TokenSequence(ids, types, words, sources)

    def windows(self, text: str) -> tuple[list[tuple[int, int]], int]:
        """Character ranges of `text` that fit a window each, and how many characters are left over after the last.

        Windows end with a sentence where there is one that ends in them.
        """
        # No token is longer than a word, and few words are this long: what lies beyond is not worth tokenizing.
        read = text[: self._limits.turn * self._limits.windows * _CHARACTERS_PER_TOKEN]
        words = self._piece(read).words
        ranges: list[tuple[int, int]] = []
        at = 0
        while at < len(words) and len(ranges) < self._limits.windows:
            end = at
            while end < len(words) and words[end].last - words[at].first < self._limits.turn:
                end += 1
            end = max(end, at + 1)
            if end < len(words):
                stops = [i + 1 for i in range(at, end) if read[words[i].start : words[i].end] in _SENTENCE_ENDS]
                end = stops[-1] if stops else end
            ranges.append((words[at].start, words[end - 1].end))
            at = end
        unread = len(text[ranges[-1][1] :].strip()) if ranges else 0
        return ranges, unread

    def _names(self, known: Sequence[KnownEntity]) -> list[tuple[str, str, _Piece]]:
        """Marker, text and tokens of the known entities that fit, the first ones nearest to the turn."""
        budget = self._limits.known
        fitting: list[tuple[str, str, _Piece]] = []
        for entity in known:
            piece = self._piece(entity.name)
            if piece.ids and len(piece.ids) < budget:
                budget -= len(piece.ids) + 1
                fitting.append((_KNOWN, entity.name, piece))
        return fitting[::-1]

    def _earlier(self, same_speaker: Sequence[bool], context: Sequence[Utterance]) -> list[tuple[str, str, _Piece]]:
        """Marker, text and tokens of what was said before the turn, oldest first."""
        budget = self._limits.context
        kept: list[tuple[str, str, _Piece]] = []
        for same, said in zip(reversed(same_speaker), reversed(context), strict=True):
            if budget <= 1:
                break
            piece = self._piece(said.text, budget - 1, from_end=True)
            kept.append((_SAME_SPEAKER if same else _OTHER_SPEAKER, said.text, piece))
            budget -= 1 + len(piece.ids)
        return kept[::-1]

    def _piece(self, text: str, limit: int | None = None, *, from_end: bool = False) -> _Piece:
        # Of a long text before the turn only the end is worth tokenizing; characters count from the text's beginning.
        skipped = max(0, len(text) - limit * _CHARACTERS_PER_TOKEN) if limit is not None and from_end else 0
        # A lone surrogate cannot be tokenized; one character stands for it, so offsets stay right.
        encoding = self._tokenizer.encode(text[skipped:].encode("utf-8", "replace").decode(), add_special_tokens=False)
        words: list[Word] = []
        previous = None
        # Each of the encoding's properties makes its whole list anew.
        for token, (number, (start, end)) in enumerate(zip(encoding.word_ids, encoding.offsets, strict=True)):
            if words and number == previous:
                words[-1] = Word(TURN, words[-1].start, skipped + end, words[-1].first, token)
            else:
                words.append(Word(TURN, skipped + start, skipped + end, token, token))
            previous = number
        ids = encoding.ids
        if limit is not None and len(ids) > limit:
            if from_end:
                words = [word for word in words if word.first >= len(ids) - limit]
            else:
                words = [word for word in words if word.last < limit]
            first = words[0].first if words else 0
            ids = ids[first : words[-1].last + 1] if words else []
            words = [Word(TURN, w.start, w.end, w.first - first, w.last - first) for w in words]
        casings = [0] * len(ids)
        for word in words:
            casings[word.first : word.last + 1] = [_casing(text[word.start : word.end])] * (word.last - word.first + 1)
        return _Piece(ids, casings, words)

    def _id(self, token: str) -> int:
        number = self._tokenizer.token_to_id(token)
        if number is None:
            raise ValueError(f"the tokenizer has no {token}")
        return int(number)


def _append(piece: _Piece, source: int, segment: int, ids: list[int], types: list[int], words: list[Word]) -> None:
    shift = len(ids)
    ids += piece.ids
    types += [segment + casing for casing in piece.casings]
    words += [Word(source, w.start, w.end, w.first + shift, w.last + shift) for w in piece.words]


def _casing(word: str) -> int:
    """0 for lower case or no letters, 1 for an initial capital, 2 for capitals throughout."""
    if not word[:1].isupper():
        return 0
    return 2 if len(word) > 1 and word.isupper() else 1
