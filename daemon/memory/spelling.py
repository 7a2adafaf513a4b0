"""When two names are spellings of one: the same letters, or a slip that cannot be another name."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from rapidfuzz.distance import OSA

_UNITS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen"
    " eighteen nineteen"
).split()
_TENS = {word: 20 + 10 * at for at, word in enumerate("twenty thirty forty fifty sixty seventy eighty ninety".split())}
_DIGITS = {word: value for value, word in enumerate(_UNITS)} | _TENS
_HONORIFICS = frozenset("mr mrs ms miss mx dr prof sir dame lord lady señor señora monsieur madame herr frau".split())
_ARTICLE = re.compile(r"^(?:the|a|an)\s+(?=\S)")
_NO_LETTER = re.compile(r"[\W_]+")
_BREAK = re.compile(r"[\s-]+")
_PERSON_LETTERS = 5
_PERSON_EDIT_LETTERS = 6
_THING_EDIT_LETTERS = 7


@lru_cache(maxsize=1 << 16)
def name_key(name: str) -> str:
    """What equal names have in common: no case, accents, spaces, punctuation or leading article."""
    key = _ARTICLE.sub("", folded(name).strip())
    return _NO_LETTER.sub("", key) or name.strip().casefold()


def number_key(text: str) -> str:
    """One key for a number in words or digits: "five", "5" and "five years old" are "5"."""
    text = re.sub(r"\s*-?\s*years?(?:\s*-?\s*old)?$", "", folded(text).strip())
    words = re.split(r"[\s-]+", text)
    values = [_DIGITS.get(word) for word in words]
    match values:
        case [int(value)]:
            return str(value)
        case [int(tens), int(unit)] if tens >= 20 and 0 < unit < 10:
            return str(tens + unit)
    return name_key(text)


@lru_cache(maxsize=1 << 16)
def name_parts(name: str) -> tuple[str, ...]:
    """The name's words as keys, without honorifics: "Dr. Sarah Lee" is sarah, lee."""
    words = (_NO_LETTER.sub("", word) for word in _BREAK.split(folded(name)))
    return tuple(word for word in words if word and word not in _HONORIFICS)


def honorific(name: str) -> str:
    """The "Mr", "Dr." or the like with which a name begins, as a key; "" where there is none."""
    first = name_key(name.split(maxsplit=1)[0]) if name.strip() else ""
    return first if first in _HONORIFICS else ""


@lru_cache(maxsize=1 << 16)
def sound_key(word: str) -> str:
    """One key for a person's name in its usual spellings: Katherine and Catherine, Mohammed and Mohamed.

    A double letter before a final "e" stays: Danielle and Daniele are two names.
    """
    key = name_key(word)
    for written, said in (("ph", "f"), ("ck", "k"), ("y", "i")):
        key = key.replace(written, said)
    key = re.sub(r"c(?![eih])", "k", key)
    key = re.sub(r"(?<=[bcdfgjklmnpqrstvwxz])h", "", key)
    key = re.sub(r"(?<=[aeiou])h$", "", key)
    return re.sub(r"(.)\1(?!e$)", r"\1", key)


def same_person_name(one: str, other: str) -> bool:
    """Whether two people's names differ in spelling only. Short names never do: Ana is not Anna."""
    left, right = name_parts(one), name_parts(other)
    if len(left) != len(right) or not left or honorific(one) != honorific(other):
        return False
    differing = [(a, b) for a, b in zip(left, right, strict=True) if a != b]
    if len(differing) != 1:
        return not differing
    a, b = differing[0]
    if min(len(a), len(b)) >= _PERSON_LETTERS and sound_key(a) == sound_key(b):
        return True
    # One slip inside one word of a full name; its end often tells Daniel from Daniela.
    return len(left) > 1 and _slip(a, b, _PERSON_EDIT_LETTERS) and a[-2:] == b[-2:]


def same_thing_name(one: str, other: str) -> bool:
    """Whether two names of places, companies, works … differ by one slip inside one long word."""
    left, right = name_parts(one), name_parts(other)
    if len(left) != len(right):
        return False
    differing = [(a, b) for a, b in zip(left, right, strict=True) if a != b]
    return len(differing) == 1 and _slip(*differing[0], _THING_EDIT_LETTERS)


def folded(text: str) -> str:
    """Without case and accents."""
    if text.isascii():
        return text.lower()
    return "".join(c for c in unicodedata.normalize("NFKD", text.casefold()) if not unicodedata.combining(c))


def _slip(one: str, other: str, letters: int) -> bool:
    return (
        min(len(one), len(other)) >= letters
        and one.isalpha()
        and other.isalpha()
        and one[0] == other[0]
        and one[-1] == other[-1]
        and OSA.distance(one, other, score_cutoff=1) == 1
    )
