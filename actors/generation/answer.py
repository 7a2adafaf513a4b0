"""What of a language model's answer is believed: repaired where it is broken, and only what was really said."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import json_repair
from jsonschema import Draft202012Validator

from actors.errors import GenerationInvalid
from actors.generator import GeneratorConfig
from actors.messages import ROLES, Extraction, Mention, PronounLink, Relation, Turn
from config.schema import Schema

MAX_CHARACTERS = 1 << 16
_THOUGHT_ENDS = "</think>"
_LISTS = ("entities", "links", "relations")

Item = Mapping[str, Any]


class AnswerReader:
    """Reads answers under one schema. `trust` is the confidence that a relation gets whose model is sure of it."""

    def __init__(self, schema: Schema, config: GeneratorConfig) -> None:
        self._schema, self._config = schema, config
        text = {"type": "string", "minLength": 1}
        self._shape = Draft202012Validator(
            {"type": "object", "anyOf": [{"required": [name]} for name in _LISTS], "additionalProperties": True}
        )
        # More lenient than what a model is held to: a missing status, or an alias for a predicate, does no harm.
        self._items = {
            name: Draft202012Validator({"type": "object", "properties": properties, "required": required})
            for name, properties, required in (
                ("entities", {"text": text, "type": {"enum": list(schema.entity_types)}}, ["text", "type"]),
                ("links", {"text": text, "antecedent": text}, ["text", "antecedent"]),
                (
                    "relations",
                    {
                        "subject": text,
                        "object": text,
                        "predicate": {"enum": list(schema.predicate_names)},
                        "status": {"enum": list(schema.statuses)},
                    },
                    ["subject", "predicate", "object"],
                ),
            )
        }

    def read(self, answer: str, turn: Turn) -> Extraction:
        """The extraction that an answer is.

        An item is left out that is malformed, names what nobody said, or joins types that its predicate does not.

        Raises:
            GenerationInvalid: the answer is no such object, or claims things and not one of them is left.
        """
        told = self._parse(answer)
        items = {name: list(self._valid(name, told.get(name))) for name in _LISTS}
        reading = _Reading(self._schema, self._config, turn)
        reading.add(**items)
        claimed = any(told.get(name) for name in _LISTS)
        if claimed and not (reading.mentions or reading.relations):
            raise GenerationInvalid("nothing that the answer claims was said")
        correction = self._config.trust if told.get("correction") is True else 0.0
        mentions = sorted(reading.mentions, key=lambda mention: mention.start)
        links = sorted(reading.links, key=lambda link: link.start)
        return Extraction(tuple(mentions), tuple(links), tuple(reading.relations.values()), correction)

    def _parse(self, answer: str) -> dict[str, Any]:
        if len(answer) > MAX_CHARACTERS:
            raise GenerationInvalid("the answer does not end")
        answer = answer.rpartition(_THOUGHT_ENDS)[2].strip()
        try:
            told: object = json.loads(answer)
        except (ValueError, RecursionError):
            try:
                told = json_repair.loads(answer, skip_json_loads=True)
            except (ValueError, RecursionError) as error:
                raise GenerationInvalid("the answer is no JSON, and cannot be mended") from error
        # Prose around an answer may hold more that looks like JSON: what comes last is meant.
        candidates = told if isinstance(told, list) else [told]
        for candidate in reversed(candidates):
            if isinstance(candidate, dict) and self._shape.is_valid(candidate):
                return candidate
        raise GenerationInvalid("the answer is not the object that was asked for")

    def _valid(self, name: str, listed: object) -> Iterator[Item]:
        if isinstance(listed, list):
            yield from (item for item in listed if self._items[name].is_valid(item))


class _Reading:
    """One answer, held against the turn that it is about."""

    def __init__(self, schema: Schema, config: GeneratorConfig, turn: Turn) -> None:
        self._schema, self._config, self._turn = schema, config, turn
        self._before = [said.text for said in reversed(turn.context)]
        self._known = {entity.name: entity.type for entity in turn.known}
        self._role_type = config.role_type if config.role_type in schema.entity_types else None
        self._time_type = config.time_type if config.time_type in schema.entity_types else None
        self.mentions: list[Mention] = []
        self.links: list[PronounLink] = []
        self.relations: dict[tuple[str, str, str], Relation] = {}

    def add(self, entities: Sequence[Item], links: Sequence[Item], relations: Sequence[Item]) -> None:
        """Take what of an answer's items holds; entities first, since the others refer to them."""
        for item in entities:
            self._mention(item["text"], item["type"])
        for item in links:
            self._link(item["text"], item["antecedent"])
        for item in relations:
            self._relation(item)

    def _mention(self, text: str, type_: str) -> Mention | None:
        span = self._free_span(text)
        if span is None:
            return None
        start, end = span
        mention = Mention(self._turn.text[start:end], type_, start, end, self._config.trust)
        self.mentions.append(mention)
        return mention

    def _link(self, text: str, antecedent: str) -> None:
        meant = self._argument(antecedent, frozenset())
        span = self._free_span(text)
        if meant is None or span is None or meant[0].casefold() == text.casefold():
            return
        start, end = span
        self.links.append(PronounLink(self._turn.text[start:end], start, end, meant[0], self._config.trust))

    def _relation(self, item: Item) -> None:
        canonical = self._schema.canonical(item["predicate"])
        assert canonical is not None  # noqa: S101 - the validator lets known names pass alone
        predicate = self._schema.predicates[canonical.name]
        ends = (item["object"], item["subject"]) if canonical.flipped else (item["subject"], item["object"])
        subject, object_ = (
            self._argument(text, allowed)
            for text, allowed in zip(ends, (predicate.domain, predicate.range), strict=True)
        )
        if subject is None or object_ is None or subject[0] == object_[0]:
            return
        if not (_fits(subject[1], predicate.domain) and _fits(object_[1], predicate.range)):
            return
        key = (subject[0], predicate.name, object_[0])
        status = item.get("status", self._schema.statuses[0])
        relation = Relation(*key, status, self._confidence(item.get("confidence")), self._time(item.get("time")))
        if key not in self.relations or self.relations[key].confidence < relation.confidence:
            self.relations[key] = relation

    def _argument(self, text: str, allowed: frozenset[str]) -> tuple[str, str | None] | None:
        """The text an argument is known by, with its type where that is known; None for what nobody said.

        What was said in the turn, but not told as an entity, becomes one where only one type is `allowed`.
        """
        if text in ROLES:
            # Where a loudspeaker is an entity of the turn, nobody can tell which of the two is meant.
            return None if any(mention.text == text for mention in self.mentions) else (text, self._role_type)
        for mention in self.mentions:
            if mention.text.casefold() == text.casefold():
                return _no_role(mention.text, mention.type)
        for link in self.links:
            if link.text.casefold() == text.casefold():
                return link.antecedent, self._known.get(link.antecedent)
        for name, type_ in self._known.items():
            if name.casefold() == text.casefold():
                return _no_role(name, type_)
        for said in self._before:
            for start, end in _places(text, said):
                return _no_role(said[start:end], None)
        mention_ = self._mention(text, next(iter(allowed))) if len(allowed) == 1 else None
        return _no_role(mention_.text, mention_.type) if mention_ else None

    def _time(self, text: object) -> str | None:
        if not isinstance(text, str) or not text:
            return None
        for mention in self.mentions:
            if mention.text.casefold() == text.casefold():
                return mention.text
        mention_ = self._mention(text, self._time_type) if self._time_type else None
        return mention_.text if mention_ else None

    def _confidence(self, told: object) -> float:
        sure = isinstance(told, int | float) and not isinstance(told, bool) and 0 <= told <= 1
        return self._config.trust * (float(told) if sure and isinstance(told, int | float) else 1.0)

    def _free_span(self, text: str) -> tuple[int, int] | None:
        """The first place of a text in the turn that no mention or link has taken."""
        taken = [(mention.start, mention.end) for mention in self.mentions]
        taken += [(link.start, link.end) for link in self.links]
        for start, end in _places(text, self._turn.text):
            if all(end <= other_start or start >= other_end for other_start, other_end in taken):
                return start, end
        return None


def _no_role(said: str, type_: str | None) -> tuple[str, str | None] | None:
    return None if said in ROLES else (said, type_)


def _fits(type_: str | None, allowed: frozenset[str]) -> bool:
    return type_ is None or not allowed or type_ in allowed


def _places(text: str, said: str) -> Iterator[tuple[int, int]]:
    """Where whole words of `said` are `text`: as it is spelt first, then in any case and spacing."""
    words = r"\s+".join(map(re.escape, text.split()))
    if not words:
        return
    found = [match.span() for match in re.finditer(rf"(?<!\w){words}(?!\w)", said, re.IGNORECASE)]
    yield from sorted(found, key=lambda span: said[slice(*span)] != text)
