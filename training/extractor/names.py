"""Other names and nouns for those of an example, like for like: a sister stays a woman, a city stays a city."""

from __future__ import annotations

import random
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from training.annotation import Example
from training.extractor.edits import WORD, Edit, edit
from training.extractor.swaps import Swaps, city_names, load_swaps, people_names

_GENDERS = {"he": "he", "him": "he", "his": "he", "she": "she", "her": "she", "hers": "she"}
_GENDERED_SHARE = 0.25
_FULL_NAME = 2
_ARTICLE = re.compile(r"(?<!\w)([Aa])(n?) $")
_TRIES = 8
_PLURAL = re.compile(r"(?<!s)s$")


@dataclass(frozen=True, slots=True)
class _Kind:
    """What takes a mention's place: a list of the swaps by name, or other names of the data by type and mark."""

    type: str
    of: str
    listed: bool


class NameSwapper:
    """Swaps names and listed nouns; beside the lists it swaps in the names of the examples it was built from."""

    def __init__(self, examples: Sequence[Example], swaps: Swaps | None = None) -> None:
        swaps = swaps or load_swaps()
        self._people, self._firms = swaps.people, swaps.firms
        self._locales = [names for names in people_names() if names.family]
        self._first_names = {
            name.lower(): gender
            for gender in ("she", "he")
            for names in people_names()
            for name in (names.women if gender == "she" else names.men)
        }
        both = {n.lower() for x in people_names() for n in x.women} & {n.lower() for x in people_names() for n in x.men}
        self._first_names |= dict.fromkeys(both, "")
        self._family_names = {name.lower() for names in people_names() for name in names.family}
        # What mixed-case text writes small is a word before it is a name.
        self._words = {
            word[0]
            for example in examples
            for text in (example.text, *(said.text for said in example.context))
            if text.lower() != text
            for word in WORD.finditer(text)
            if word[0].islower()
        }
        lists = {name: (listed.type, listed.main_use, listed.words) for name, listed in swaps.lists.items()}
        lists["places"] = swaps.places.type, swaps.places.main_use, (*swaps.places.words, *city_names())
        self._lists = {name: sorted(set(words)) for name, (_, _, words) in lists.items()}
        self._listed: dict[tuple[str, str], list[str]] = defaultdict(list)
        self._main_use: dict[tuple[str, str], str] = {}
        for name, (type_, main_use, words) in lists.items():
            self._main_use |= dict.fromkeys(((type_, use) for use in sorted(main_use)), name)
            for word in words:
                self._listed[type_, word.lower()].append(name)
        self._main_use |= dict.fromkeys(((swaps.firms.type, use) for use in sorted(swaps.firms.main_use)), "")
        self._genders: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._uses: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._pools: dict[_Kind, list[str]] = defaultdict(list)
        self._learn(examples)

    def swap(self, example: Example, rng: random.Random, share: float = 1.0) -> Example:
        """A variant with other names; each name is swapped with probability `share`."""
        chosen: dict[str, str] = {}
        taken = {m.text.lower() for m in example.gold.mentions} | {k.antecedent.lower() for k in example.gold.links}
        people: list[str] = []
        types = {m.text: m.type for m in example.gold.mentions}
        for mention in example.gold.mentions:
            if mention.type != types[mention.text]:
                types[mention.text] = ""  # "Austin lives in Austin" is best left alone
        for link in example.gold.links:
            types.setdefault(link.antecedent, self._people.type if self._is_person(link.antecedent) else "")
        others: dict[str, str | None] = {}
        for text, type_ in sorted(types.items()):
            if type_ == self._people.type:
                people += [text] * (rng.random() < share)
                continue
            if text.lower() not in others:
                other = self._other(text, type_, rng) if rng.random() < share else None
                # "Chess, perhaps. I played chess" is one thing.
                others[text.lower()] = None if other is None or other.lower() in taken else other
                taken.add((other or text).lower())
            if other := others[text.lower()]:
                chosen[text] = _cased(other, like=text)
        for old, new in self._other_people(people, example, rng):
            if new.lower() not in taken and old not in chosen:
                chosen[old] = new
                taken.add(new.lower())
        if not chosen:
            return example
        longest_first = sorted(chosen, key=len, reverse=True)
        pattern = re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, longest_first))})(?!\w)")

        def swapped(text: str) -> list[Edit]:
            edits: list[Edit] = []
            for found in pattern.finditer(text):
                edits += article(text, found.start(), chosen[found[0]])
                edits.append(Edit(found.start(), found.end(), chosen[found[0]]))
            return edits

        return edit(example, swapped, earlier=True)

    def alike(self, text: str, type_: str, rng: random.Random) -> str | None:
        """Something else that could have been said for `text`; None where nothing is known to."""
        if type_ != self._people.type:
            other = self._other(text, type_, rng)
        else:
            other = self.person(rng) if self._is_name_of_person(text.split(), small=text.islower()) else None
        return None if other is None or other.lower() == text.lower() else _cased(other, like=text)

    def person(self, rng: random.Random) -> str:
        """Some first name."""
        names = rng.choice(self._locales)
        return rng.choice(names.women if rng.random() < 0.5 else names.men)

    def _learn(self, examples: Sequence[Example]) -> None:
        types: dict[str, str] = {}
        nouns: set[str] = set()
        for example in examples:
            for mention in example.gold.mentions:
                nouns.add(mention.text)
                if _is_name(mention.text):
                    types[mention.text] = mention.type
            for link in example.gold.links:
                if (gender := _GENDERS.get(link.text.lower())) is not None:
                    self._genders[link.antecedent.lower()][gender] += 1
            for relation in example.gold.relations:
                self._uses[relation.object.lower()][relation.predicate] += 1
        # "Parrot." at the start of a sentence is no name.
        types = {name: kind for name, kind in types.items() if name.lower() == name or name.lower() not in nouns}
        gendered = Counter(types[name] for name in self._genders if name in types)
        sizes = Counter(types.values())
        self._by_gender = {kind for kind in sizes if gendered[kind] > _GENDERED_SHARE * sizes[kind]}
        for name, kind in sorted(types.items()):
            if kind != self._people.type:
                self._pools[self._kind(name, kind)].append(name)

    def _kind(self, text: str, type_: str) -> _Kind:
        listed = self._listed.get((type_, text.lower())) or self._listed.get((type_, _singular(text.lower())))
        if listed:
            return _Kind(type_, listed[0], listed=True)
        uses = self._genders if type_ in self._by_gender else self._uses
        marks = uses.get(text.lower())
        mark = marks.most_common(1)[0][0] if marks else ""
        if name := self._main_use.get((type_, mark)):
            return _Kind(type_, name, listed=True)
        # People change places freely within a gender; a city must not become a hotel.
        return _Kind(type_, mark, listed=False)

    def _other(self, text: str, type_: str, rng: random.Random) -> str | None:
        """What may stand for `text`; None where nothing is known to."""
        kind = self._kind(text, type_)
        if kind.listed:
            tried = (_in_number(rng.choice(self._lists[kind.of]), of=text) for _ in range(_TRIES))
            other = next((found for found in tried if found), None)
        elif not _is_name(text) and not self._pools.get(kind):
            return None
        elif (type_, kind.of) in self._main_use and rng.random() < 0.5:
            other = f"{rng.choice(rng.choice(self._locales).family)} {rng.choice(self._firms.words)}"
        else:
            names = self._pools.get(kind)
            if not names or text not in names:
                return None
            other = rng.choice(names)
        return other

    def _is_person(self, text: str) -> bool:
        """Whether `text`, an antecedent that is no mention of its turn, is known for a person's name."""
        words = text.lower().split()
        return bool(words) and words[0] in self._first_names and text.lower() not in self._words

    def _other_people(self, names: Sequence[str], example: Example, rng: random.Random) -> Iterator[tuple[str, str]]:
        """Names and parts of names with others for them; longer names first, so that their parts follow them."""
        parts: dict[str, str] = {}
        for name in sorted(names, key=lambda n: (-n.count(" "), n)):
            words = name.split()
            lead = 1 if words[0].lower().strip(".") in self._people.titles | self._people.kin else 0
            rest = words[lead:]
            if not rest or not self._is_name_of_person(rest, small=name.islower()):
                continue
            names_there = rng.choice(self._locales)
            gender = self._gender(name, rest, example) or rng.choice(("she", "he"))
            titled = lead and words[0].lower().strip(".") in self._people.titles
            family_only = titled or (rest[0].lower() in self._family_names and rest[0].lower() not in self._first_names)
            if len(rest) >= _FULL_NAME or not family_only:
                parts.setdefault(rest[0], rng.choice(names_there.women if gender == "she" else names_there.men))
            if len(rest) >= _FULL_NAME or family_only:
                family = " ".join(rest[1:]) if len(rest) >= _FULL_NAME else rest[0]
                parts.setdefault(family, rng.choice(names_there.family))
            new = [parts[rest[0]]] + ([parts[" ".join(rest[1:])]] if len(rest) >= _FULL_NAME else [])
            cased = [part.lower() for part in new] if name.islower() else new
            yield name, " ".join([*words[:lead], *cased])
        for old, new_part in parts.items():
            if old not in names and old.lower() not in self._words:
                yield old, new_part.lower() if old.islower() else new_part

    def _is_name_of_person(self, words: Sequence[str], *, small: bool) -> bool:
        if words[0].lower() in self._people.women | self._people.men | self._people.kin:
            return False  # "Mummy"
        if not small:
            return _is_name(" ".join(words)) and " ".join(words).lower() not in self._words
        return all(w in self._first_names or w in self._family_names for w in words) and words[0] not in self._words

    def _gender(self, name: str, words: Sequence[str], example: Example) -> str:
        """ "she", "he", or "" where nothing tells."""
        for link in example.gold.links:
            if link.antecedent == name and (gender := _GENDERS.get(link.text.lower())):
                return gender
        before = rf"(\w+)\W+{re.escape(name)}(?!\w)"
        texts = (example.text, *(said.text for said in example.context))
        cues = {found.lower() for text in texts for found in re.findall(before, text)} | {
            name.split()[0].lower().strip(".")
        }
        if cues & self._people.women:
            return "she"
        if cues & self._people.men:
            return "he"
        if known := self._genders.get(name.lower()):
            return known.most_common(1)[0][0]
        return self._first_names.get(words[0].lower(), "")


def article(text: str, at: int, noun: str) -> list[Edit]:
    """The edit, if one is needed, that makes "a" before position `at` agree with the noun that will stand there."""
    found = _ARTICLE.search(text[:at])
    if not found or (found[2] == "n") == (noun[0].lower() in "aeiou"):
        return []
    return [Edit(found.start(1), found.end(2), found[1] + ("" if found[2] else "n"))]


def _cased(noun: str, *, like: str) -> str:
    if like.islower():
        return noun.lower()
    return noun[0].upper() + noun[1:] if like[0].isupper() else noun


def _in_number(noun: str, *, of: str) -> str | None:
    """`noun` in the number that `of` has; None where that takes more than an s."""
    plural, wanted = bool(_PLURAL.search(noun)), bool(_PLURAL.search(of))
    if plural == wanted:
        return noun
    return f"{noun}s" if wanted and noun[-1] not in "sxyzhf" and noun[0].islower() else None


def _singular(word: str) -> str:
    return _PLURAL.sub("", word)


def _is_name(text: str) -> bool:
    words = text.split()
    return all(word[0].isupper() for word in words) and not text.isupper()
