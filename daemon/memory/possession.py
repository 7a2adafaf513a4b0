"""Whose a noun is, read from the words around it: "my sister", "Tom's wife", "my boss Isaac", "Emma is my cousin"."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

_SAME_NOUN = {
    "mom": "mother", "mum": "mother", "mama": "mother", "mamma": "mother", "mommy": "mother", "mummy": "mother",
    "ma": "mother", "dad": "father", "daddy": "father", "papa": "father", "pa": "father", "sis": "sister",
    "bro": "brother", "grandma": "grandmother", "granny": "grandmother", "gran": "grandmother", "nana": "grandmother",
    "nan": "grandmother", "grandpa": "grandfather", "granddad": "grandfather", "grandad": "grandfather",
    "hubby": "husband", "wifey": "wife", "auntie": "aunt", "aunty": "aunt", "gf": "girlfriend", "bf": "boyfriend",
    "kid": "child", "buddy": "friend", "pal": "friend", "mate": "friend", "coworker": "colleague",
    "co-worker": "colleague", "workmate": "colleague", "flatmate": "roommate", "housemate": "roommate",
    "neighbour": "neighbor", "pup": "puppy", "doggy": "dog", "doggo": "dog", "kitty": "cat", "stepmum": "stepmother",
    "stepmom": "stepmother", "stepdad": "stepfather", "bestie": "best friend",
}  # fmt: skip
_KIN = frozenset(
    "mother father sister brother wife husband son daughter child aunt uncle cousin niece nephew grandmother"
    " grandfather grandson granddaughter grandchild stepmother stepfather stepson stepdaughter stepsister stepbrother"
    " godmother godfather goddaughter godson mother-in-law father-in-law sister-in-law brother-in-law son-in-law"
    " daughter-in-law half-sister half-brother twin spouse".split()
)
_OTHERS = frozenset(
    "parent grandparent sibling baby toddler girlfriend boyfriend partner fiance fiancé fiancee fiancée ex friend"
    " roommate neighbor landlord landlady boss manager supervisor colleague assistant intern mentor coach teacher"
    " professor tutor student pupil classmate teammate doctor dentist therapist nurse lawyer plumber barber"
    " hairdresser vet nanny babysitter sitter client customer tenant guy girl boy man woman lady fella dude person"
    " somebody someone family folk relative in-law crush date".split()
)
_ANIMALS = frozenset(
    "dog puppy cat kitten parrot bird rabbit bunny hamster horse pony goat cow pig chicken hen fish goldfish turtle"
    " tortoise lizard snake beagle poodle labrador retriever terrier husky pet rescue mutt".split()
)
_NOUNS = frozenset(_SAME_NOUN) | _KIN | _OTHERS | _ANIMALS
_CALLED_BY_IT = frozenset("mother father grandmother grandfather".split())
_QUALIFIERS = frozenset(
    "other second third first older elder eldest oldest younger youngest little big baby twin ex late former old new"
    " best current previous next last future step half adopted foster great".split()
)
_NO_MODIFIER = frozenset(
    "a an the and or but so of in on at to for from with by as is are was were be been am has have had do does did not"
    " no that this these those who whom which when where while if because than then i you he she it we they me him us"
    " them my our your his her their its said says told think know like love want need named called"
    " just only either even still also".split()
)
_NO_OWNER = frozenset(
    "it that this he she what who there here where how when why let everybody everyone somebody someone nobody anybody"
    " anyone today tonight tomorrow yesterday name one".split()
)
_DETERMINED = _QUALIFIERS | frozenset("a an the that this some any another every each no one single".split())
_REACH = 120
"""How many characters around a mention can say whose it is; it bounds the work on a text without end."""

_WORDS = r"(?P<between>(?:[\w'’-]+\s+){0,3})"
_PRONOUN = re.compile(rf"\b(?P<pronoun>my|our|your|his|her|their|its|whose)\s+{_WORDS}$", re.IGNORECASE)
_NAMED = re.compile(rf"(?:^|[\s(])(?P<name>[\w.-]+)['’]s\s+{_WORDS}$")
_GENITIVE = re.compile(rf"(?:['’]s|s['’]?|['’])\s+{_WORDS}$")
_NOUN_BEFORE = re.compile(
    r"(?P<noun>[^\W\d_][\w-]*(?:[ -]in[ -]law)?)(?:\s*,)?\s+(?P<link>(?:named|called|is)\s+)?$", re.IGNORECASE
)
_JOINED = re.compile(r"(?P<noun>[^\W\d_][\w-]*(?:[ -]in[ -]law)?)\s+(?:and|or|&)\s+$", re.IGNORECASE)
_ADJOINING = re.compile(r"(?:\b(?:my|our|your|his|her|their|its|whose)|['’]s)\s+$", re.IGNORECASE)
_NOUN_AFTER = re.compile(
    r"(?:['’]s|\s+(?:is|was)(?:\s+(?:actually|also|really))?|\s*,)\s+(?P<owner>my|our|your|his|her|their|its)\s+"
    r"(?P<between>(?:[\w'’-]+\s+){0,2}?)(?P<noun>[^\W\d_][\w-]*(?:[ -]in[ -]law)?)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Anchor:
    """A span that may own what follows: a mention or a linked pronoun, and the owner it stands for."""

    start: int
    end: int
    owner: str


@dataclass(frozen=True, slots=True)
class Voice:
    """Whom "my" and "your" mean in a text: "user", "agent" or a name."""

    my: str
    your: str


@dataclass(frozen=True, slots=True)
class Tie:
    """What a mention is to somebody. `owner` is "" when the text says that there is one, but not who."""

    owner: str
    noun: str


def is_relational(noun: str) -> bool:
    """Whether the noun says what somebody is rather than who: "sister", "kids", "golden retriever"; not "Tita Baby"."""
    words = noun.split()
    if len(words) > 1 and all(word[:1].isupper() for word in words):
        return False
    return head_noun(noun) in _KIN | _OTHERS | _ANIMALS


def is_kin(noun: str) -> bool:
    """Whether the noun names a family tie; two different ones are never the same person's to one owner."""
    return head_noun(noun) in _KIN


def is_animal(noun: str) -> bool:
    """Whether the noun names a kind of animal that people keep."""
    return head_noun(noun) in _ANIMALS


def head_noun(noun: str) -> str:
    """The noun without what qualifies it: "older sister" is "sister"."""
    return plain_noun(noun).rpartition(" ")[2]


@lru_cache(maxsize=1 << 14)
def plain_noun(noun: str) -> str:
    """One spelling for one tie: "Mom" and "mum" are "mother", "kids" is "child", "ex-wife" is "ex wife"."""
    text = noun.casefold().replace("’", "'").replace(" in law", "-in-law").replace("-in law", "-in-law")
    text = re.sub(r"^ex-", "ex ", text)
    words = text.split()
    if not words:
        return ""
    last = words[-1]
    singular = {"children": "child", "wives": "wife", "people": "person", "puppies": "puppy", "babies": "baby"}.get(
        last
    )
    if singular is None and last.endswith("s") and (stem := last[:-1]) in _NOUNS:
        singular = stem
    words[-1] = singular or last
    return " ".join([*words[:-1], _SAME_NOUN.get(words[-1], words[-1])])


def called_by_it(noun: str) -> bool:
    """Whether people use the noun like a name for their own: "Mom called" is the speaker's mother."""
    return plain_noun(noun) in _CALLED_BY_IT


def tie_of_noun(text: str, start: int, end: int, voice: Voice, anchors: Sequence[Anchor]) -> Tie | None:
    """Whose the noun at [start, end) is: "my old [Honda]", "Tom's [wife]", "my mom and [dad]". None: nobody's."""
    noun = text[start:end]
    found = _possessor(text, start, voice, anchors)
    if (
        found is None
        and (joined := _JOINED.search(text, max(0, start - _REACH), start))
        and is_relational(joined["noun"])
    ):
        found = _possessor(text, joined.start("noun"), voice, anchors)
    if found is None:
        # "Mom called" is the speaker's mother; "a mom", "the new dad" are nobody's that we know.
        bare = called_by_it(noun) and not _DETERMINED.intersection(
            text[max(0, start - _REACH) : start].casefold().split()[-1:]
        )
        return Tie(voice.my, noun) if bare else None
    owner, qualifiers = found
    return Tie(owner, " ".join([*qualifiers, noun]))


def tie_of_name(text: str, start: int, end: int, voice: Voice, anchors: Sequence[Anchor]) -> Tie | None:
    """What the noun beside a name makes of it: "my sister [Emma]", "[Emma] is my sister", "Tom's dog, [Rex]"."""
    before = _NOUN_BEFORE.search(text, max(0, start - _REACH), start)
    # "My brother is Tom's boss" does not make Tom the brother.
    if before and not (before["link"] and text[end : end + 2] in ("'s", "’s")):
        noun, at = before["noun"], before.start("noun")
        found = _possessor(text, at, voice, anchors)
        known = is_relational(noun)
        # An unknown noun counts only right after its owner: "my plumber Joe", not "my brother saw Joe".
        if found and (
            known or (_noun_like(noun) and _adjoins(text, at) and not before["link"] and "," not in before[0])
        ):
            owner, qualifiers = found
            return Tie(owner, " ".join([*qualifiers, noun]))
    if (after := _NOUN_AFTER.match(text, end, end + _REACH)) and is_relational(after["noun"]):
        qualifiers = [word for word in after["between"].casefold().split() if word in _QUALIFIERS]
        owner = _pronoun_owner(after["owner"], after.start("owner"), voice, anchors)
        return Tie(owner, " ".join([*qualifiers, after["noun"]]))
    return None


def _possessor(text: str, start: int, voice: Voice, anchors: Sequence[Anchor]) -> tuple[str, list[str]] | None:
    """The owner of the noun at `start` and the words that tell it from others of its kind."""
    reach = max(0, start - _REACH)
    if pronoun := _PRONOUN.search(text, reach, start):
        between, at = pronoun["between"], pronoun.start("pronoun")
        if _modifies(between) and not _crossed(anchors, pronoun.end("pronoun"), start):
            return _pronoun_owner(pronoun["pronoun"], at, voice, anchors), _qualifiers(between)
    for anchor in anchors:
        if reach <= anchor.end < start and (genitive := _GENITIVE.fullmatch(text, anchor.end, start)):
            between = genitive["between"]
            if _modifies(between) and not _crossed(anchors, anchor.end, start):
                return anchor.owner, _qualifiers(between)
    if (
        (named := _NAMED.search(text, reach, start))
        and named["name"].casefold() not in _NO_OWNER
        and _modifies(named["between"])
    ):
        return named["name"], _qualifiers(named["between"])
    return None


def _pronoun_owner(pronoun: str, at: int, voice: Voice, anchors: Sequence[Anchor]) -> str:
    lowered = pronoun.casefold()
    if lowered in ("my", "our"):
        return voice.my
    if lowered == "your":
        return voice.your
    if lowered == "whose":
        return max(
            (anchor for anchor in anchors if anchor.end <= at), key=lambda a: a.end, default=Anchor(0, 0, "")
        ).owner
    return next((anchor.owner for anchor in anchors if anchor.start == at), "")


def _modifies(between: str) -> bool:
    words = between.casefold().split()
    return not any(_open(word) or is_relational(word) for word in words if word not in _QUALIFIERS)


def _open(word: str) -> bool:
    """Whether a word is too likely a verb or a function word to belong to the noun after it."""
    lowered = word.casefold()
    return lowered in _NO_MODIFIER or lowered.endswith(("s", "ed", "ly", "'s", "’s", "n't", "'re", "'m", "'ll"))


def _noun_like(word: str) -> bool:
    return not _open(word) and word.casefold() not in _NO_OWNER


def _qualifiers(between: str) -> list[str]:
    return [word for word in between.casefold().split() if word in _QUALIFIERS]


def _crossed(anchors: Sequence[Anchor], start: int, end: int) -> bool:
    return any(start < anchor.start and anchor.end <= end for anchor in anchors)


def _adjoins(text: str, at: int) -> bool:
    return _ADJOINING.search(text, max(0, at - _REACH), at) is not None
