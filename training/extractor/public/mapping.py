"""From facts about a text, given by what they say of which words, to an example under a schema."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict

from actors.messages import ROLES, Extraction, Mention, PronounLink, Relation, Utterance
from config.schema import Schema
from training.annotation import Example

MAPPING = Path(__file__).parents[2] / "data" / "public" / "mapping.yaml"
STYLE = "complex"
_PRONOUNS = {
    **dict.fromkeys(("he", "him", "his", "himself"), "unnamed-he"),
    **dict.fromkeys(("she", "her", "hers", "herself"), "unnamed-she"),
    **dict.fromkeys(("it", "its", "itself"), "unnamed-it"),
}
"""What a pronoun means whose antecedent the text does not hold: nobody known, but one and the same throughout."""
_ROLE_WORDS = {
    **dict.fromkeys(("i", "me", "my", "myself"), ROLES[0]),
    **dict.fromkeys(("we", "us", "our", "ourselves"), ROLES[1]),
    **dict.fromkeys(("you", "your", "yourself"), ROLES[2]),
}
_NO_ARGUMENT = {"who", "whom", "whose", "which", "that", "where", "they", "them", "their", "themselves", "when"}
_HONORIFIC = re.compile(r"(?<!\w)(?:Mr|Mrs|Ms|Dr|Prof|Sir|Professor|President|Senator|Judge)\.? $")
_ARTICLE = re.compile(r"^(?:the|a|an) ", re.IGNORECASE)
_ENDING = re.compile(r"(?:['’]s?|[\s,;:.\"”)])+$")


class Mapped(BaseModel):
    """What a foreign relation becomes; see `mapping.yaml`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    predicate: str | None = None
    flipped: bool = False
    subject: str | None = None
    object: str | None = None
    instead: Mapping[str, str] = {}
    yields: bool = False

    @property
    def predicates(self) -> frozenset[str]:
        """Every predicate that it may become."""
        return frozenset(self.instead) | ({self.predicate} if self.predicate else set())


@dataclass(frozen=True, slots=True)
class Fact:
    """What a set says of a text: the words of subject and object, and its own name of the relation."""

    subject: str
    property: str
    object: str


class MappingFile(BaseModel):
    """`mapping.yaml`, as it describes itself."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    person: str
    sets: Mapping[str, Mapping[str, Mapped]]


def load_mapping(path: Path = MAPPING) -> MappingFile:
    """Read a mapping."""
    return MappingFile.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))


def example_of(
    id_: str,
    text: str,
    facts: Sequence[Fact],
    asked: Iterable[str],
    mapping: Mapping[str, Mapped],
    person: str,
    schema: Schema,
) -> Example | None:
    """`text` with `facts` as an example; None where a fact's words cannot be found or stand in one another.

    It is annotated for the predicates of the relations that were `asked` for, and for the pairs that it says a
    relation of. Roles are of the type `person`.
    """
    facts = [fact for fact in facts if fact.property in mapping and _is_sayable(fact, mapping[fact.property], person)]
    kinds: dict[str, Counter[str]] = {}
    for fact in facts:
        entry = mapping[fact.property]
        for words, type_ in ((fact.subject, entry.subject), (fact.object, entry.object)):
            if type_ is not None:
                kinds.setdefault(_trimmed(words), Counter())[type_] += 1
    spans = _Spans(text)
    for words in sorted(kinds, key=lambda w: (-len(w), w)):
        if not spans.mark(words, kinds[words].most_common(1)[0][0]):
            return None
    meant = _antecedents(facts)
    relations: dict[tuple[str, str], tuple[bool, Relation]] = {}
    for fact in facts:
        entry = mapping[fact.property]
        subject, object_ = (_argument(words, meant, spans) for words in (fact.subject, fact.object))
        if subject is None or object_ is None or entry.predicate is None or subject == object_:
            continue
        predicate = _predicate(entry, text, _trimmed(fact.object))
        if entry.flipped:
            subject, object_ = object_, subject
        key = (subject, object_)
        if schema.predicates[predicate].symmetric and key[::-1] in relations:
            continue
        if key not in relations or (relations[key][0] and not entry.yields):
            relations[key] = entry.yields, Relation(subject, predicate, object_, schema.statuses[0], 1.0)
    told = tuple(relation for _, relation in relations.values())
    mentions, links = spans.labels(meant)
    category = schema.predicates[told[0].predicate].category if told else schema.categories[0]
    annotated = frozenset().union(*(mapping[name].predicates for name in asked if name in mapping))
    return Example(id_, category, STYLE, (), text, Extraction(mentions, links, told, 0.0), annotated=annotated)


def link_example(
    id_: str, context: Sequence[str], text: str, pronoun: tuple[int, int], antecedent: str, names: Iterable[str],
    type_: str, schema: Schema,
) -> Example | None:  # fmt: skip
    """A pronoun that means `antecedent`, said by one speaker; of relations it says nothing.

    `names` are those of type `type_` that `text` may hold. None where the names stand in one another.
    """
    spans = _Spans(text)
    start, end = pronoun
    if not spans.mark_at(start, end, None):
        return None
    for name in sorted(set(names), key=lambda n: (-len(n), n)):
        spans.mark(name, type_)
    mentions, _ = spans.labels({})
    links = (PronounLink(text[start:end], start, end, antecedent, 1.0),)
    earlier = tuple(Utterance("A", said) for said in context)
    gold = Extraction(mentions, links, (), 0.0)
    return Example(id_, schema.categories[0], STYLE, earlier, text, gold, annotated=frozenset())


class _Spans:
    """The labels of a text while they are found: None is the type of a pronoun."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._found: dict[tuple[int, int], str | None] = {}
        self.named: dict[str, str] = {}
        """The text of the mention that words stand for: with the title before them."""

    def mark(self, words: str, type_: str) -> bool:
        """Mark every place where `words` stand; False where there is none that is free."""
        if words.lower() in _ROLE_WORDS:
            return True
        pronoun = words.lower() in _PRONOUNS
        done = False
        for found in re.finditer(rf"(?<!\w){re.escape(words)}(?!\w)", self.text):
            start = found.start()
            if not pronoun and (title := _HONORIFIC.search(self.text[:start])):
                start = title.start()
            if self.mark_at(start, found.end(), None if pronoun else type_):
                self.named.setdefault(words, self.text[start : found.end()])
                done = True
        return done

    def mark_at(self, start: int, end: int, type_: str | None) -> bool:
        """Mark one place, unless it is taken."""
        if any(start < other_end and end > other for other, other_end in self._found):
            return False
        self._found[start, end] = type_
        return True

    def labels(self, meant: Mapping[str, str]) -> tuple[tuple[Mention, ...], tuple[PronounLink, ...]]:
        """Mentions and links in order; `meant` names what pronouns mean where that is known."""
        mentions, links = [], []
        for (start, end), type_ in sorted(self._found.items()):
            said = self.text[start:end]
            if type_ is not None:
                mentions.append(Mention(said, type_, start, end, 1.0))
            elif (nobody := _PRONOUNS.get(said.lower())) is not None:
                name = meant.get(said.lower())
                links.append(PronounLink(said, start, end, self.named.get(name, name) if name else nobody, 1.0))
        return tuple(mentions), tuple(links)


def _argument(words: str, meant: Mapping[str, str], spans: _Spans) -> str | None:
    trimmed = _trimmed(words)
    small = trimmed.lower()
    if small in _ROLE_WORDS:
        return _ROLE_WORDS[small]
    if small in _PRONOUNS:
        name = meant.get(small)
        return spans.named.get(name, name) if name else _PRONOUNS[small]
    return spans.named.get(trimmed)


def _antecedents(facts: Sequence[Fact]) -> dict[str, str]:
    """For pronouns the longest name of which the same is said, from the same side, of the same others."""
    said: dict[str, set[tuple[str, bool, str]]] = {}
    for fact in facts:
        subject, object_ = _trimmed(fact.subject), _trimmed(fact.object)
        said.setdefault(subject, set()).add((fact.property, True, _same(object_)))
        said.setdefault(object_, set()).add((fact.property, False, _same(subject)))
    meant: dict[str, str] = {}
    for words, things in said.items():
        if words.lower() not in _PRONOUNS:
            continue
        names = [name for name, others in said.items() if others == things and not _is_small(name)]
        if names:
            meant[words.lower()] = max(sorted(names), key=len)
    return meant


def _same(words: str) -> str:
    return _PRONOUNS.get(words.lower(), words)


def _is_small(words: str) -> bool:
    return words.lower() in _PRONOUNS or words.lower() in _ROLE_WORDS


def _predicate(entry: Mapped, text: str, object_: str) -> str:
    for predicate, pattern in entry.instead.items():
        at = text.find(object_)
        around = text[max(0, at - 60) : at + len(object_) + 30]
        if re.search(pattern, around, re.IGNORECASE):
            return predicate
    return entry.predicate or ""


def _is_sayable(fact: Fact, entry: Mapped, person: str) -> bool:
    """Whether its words may be arguments: "which" may not, nor may "we" where an organization should stand."""
    ends = ((fact.subject.lower(), entry.subject), (fact.object.lower(), entry.object))
    return not any(words in _NO_ARGUMENT or (words in _ROLE_WORDS and type_ != person) for words, type_ in ends)


def _trimmed(words: str) -> str:
    return _ARTICLE.sub("", _ENDING.sub("", words)) or words
