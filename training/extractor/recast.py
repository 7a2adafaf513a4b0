"""Other turns made of a turn: two joined, one cut off, one that corrects itself, "I" for a name and back."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from actors.messages import ROLES, Extraction, Mention, Relation
from training.annotation import Example
from training.extractor.edits import WORD

_JOINTS = (" and ", " so ", " oh and ", " also ", ", ", " and then ", " anyway ")
_ENDS = (".", "!", "?", "…")
_CUT = "partial"
"""The style of a turn that breaks off."""
_MOST_WORDS = 45
_LEAST_WORDS = 5
_MARGIN = 2
"""How many further words make sure that what was said of an argument has been said."""
_MARK = re.compile(r"[.,;:!?…—]+(?=\s)")
_CLAUSE_END = re.compile(rf"{_MARK.pattern}|\s(?=(?:and|but|because|cause|so|although|though|since|which|who|while)\s)")
_SENTENCE_END = re.compile(r"[.!?…]+(?=\s)")
_ROLE_WORDS = {
    ROLES[0]: set("i i'm i've i'd i'll im ive me my mine myself".split()),
    ROLES[1]: set("we we're we've we'd we'll us our ours ourselves let's i i'm im me my".split()),
    ROLES[2]: set("you you're you've you'd you'll youre youve your yours yourself".split()),
}
_THEY = set("they they're they've they'd them their both each".split())
_WE = set("we we're we've we'd us our both each".split())
"""Words that may say of two arguments together, later on, what joins them; `_WE` where one is a role."""
_ANY_ROLE = set().union(*_ROLE_WORDS.values())
_JOINING = {"and", "or", "my", "our", "his", "her", "their", "the", "a", "an", "your", "s", "i", "me", "you"}
# Forms that are the same for "I" and for a name.
_PAST = set(
    "was had did went came saw got took made bought ate drank met found left lost won sold told said gave knew "
    "thought grew felt kept began ran sang sat slept spoke spent stood taught wore wrote built broke brought caught "
    "chose drove fell flew forgot hurt led learnt lent paid quit rode sent shot stole swam threw understood used "
    "moved lived worked studied played started joined visited loved liked hated wanted needed called married "
    "adopted painted cooked baked booked stayed travelled traveled watched finished graduated retired signed "
    "founded directed starred composed produced performed trained coached competed entered attended announced "
    "discovered turned tried ordered planted could would should might must will can can't couldn't wouldn't won't "
    "didn't wasn't hadn't".split()
)
_PREPOSITION = re.compile(r"(?<!\w)(in|at|to|from|for|with|on|by|about) (?:(?:my|our|the|a|an) )?$")
_REPAIRS = (
    "no wait;no;wait no;i mean;sorry;sorry, i mean;no sorry;or no;uh no;no actually;scratch that;make that".split(";")
)
_CLAUSE_OPENERS = set(
    "so because when that but yeah well um uh then if since after before and while apparently".split()
)


def join(one: Example, other: Example, rng: random.Random) -> Example | None:
    """Both said in one breath; None where names or what pronouns mean could be taken for one another's.

    Both have the same context or none, and pronouns that mean something in their own turn.
    """
    if one.context != other.context or one.annotated != other.annotated or one.gold.correction or other.gold.correction:
        return None
    if one.text.islower() != other.text.islower() or _CUT in (one.style, other.style):
        return None
    if _loose(one) or _loose(other):
        return None
    if {label.lower() for label in _names(one)} & {label.lower() for label in _names(other)}:
        return None
    if len(WORD.findall(one.text)) + len(WORD.findall(other.text)) > _MOST_WORDS:
        return None
    gap = " " if one.text.rstrip().endswith(_ENDS) else rng.choice(_JOINTS)
    text = one.text.rstrip() + gap
    shift = len(text)
    gold = Extraction(
        (*one.gold.mentions, *(replace(m, start=m.start + shift, end=m.end + shift) for m in other.gold.mentions)),
        (*one.gold.links, *(replace(k, start=k.start + shift, end=k.end + shift) for k in other.gold.links)),
        (*one.gold.relations, *other.gold.relations),
        0.0,
    )
    return replace(one, id=f"{one.id}+{other.id}", text=text + other.text, gold=gold)


def cut(example: Example, rng: random.Random, default_status: str) -> Example | None:
    """The beginning of a turn that is still being said; None where nothing certain can be said of any beginning.

    A relation stays when both arguments were said and a little more, or a mark closed the clause. Where two relations
    join them, or a later "they" may mean both, the sentence that tells the last has to be over. Where that leaves a
    doubt the turn is not cut there.
    """
    words = list(WORD.finditer(example.text))
    if len(words) < _LEAST_WORDS or example.gold.correction:
        return None
    ends = [word.end() for word in words[2:-1]]
    rng.shuffle(ends)
    for end in ends[:6]:
        if (found := _cut_at(example, end, default_status)) is not None:
            return found
    return None


def third_person(example: Example, name: str, type_: str) -> Example | None:
    """What "I" did, told of somebody called `name`; None unless nothing but that one word has to change."""
    words = list(WORD.finditer(example.text))
    firsts = [number for number, word in enumerate(words) if word[0].lower() in _ANY_ROLE]
    if len(firsts) != 1 or words[firsts[0]][0] not in ("I", "i") or not _past_follows(words, firsts[0]):
        return None
    relations = example.gold.relations
    at = words[firsts[0]].start()
    if not relations or not all(_tells(example, r, ROLES[0], at) for r in relations):
        return None
    if name.lower() in example.text.lower() or example.gold.correction:
        return None
    name = name.lower() if example.text.islower() else name
    made = _renamed(example, ROLES[0], name)
    shift = len(name) - 1
    gold = made.gold
    mentions = [m if m.start < at else replace(m, start=m.start + shift, end=m.end + shift) for m in gold.mentions]
    links = [k if k.start < at else replace(k, start=k.start + shift, end=k.end + shift) for k in gold.links]
    mentions.append(Mention(name, type_, at, at + len(name), 1.0))
    text = example.text[:at] + name + example.text[at + 1 :]
    mentions.sort(key=lambda m: m.start)
    return replace(made, text=text, gold=replace(gold, mentions=tuple(mentions), links=tuple(links)))


def first_person(example: Example, type_: str) -> Example | None:
    """What somebody named did, told of oneself; None unless nothing but that one name has to change."""
    words = list(WORD.finditer(example.text))
    if any(word[0].lower() in _ANY_ROLE for word in words) or example.gold.correction:
        return None
    antecedents = {link.antecedent for link in example.gold.links}
    for mention in example.gold.mentions:
        at = [number for number, word in enumerate(words) if word.start() == mention.start]
        alone = sum(m.text == mention.text for m in example.gold.mentions) == 1
        if not at or not alone or mention.type != type_ or mention.text in antecedents or " " in mention.text:
            continue
        before = words[at[0] - 1] if at[0] else None
        opens = before is None or before[0].lower() in _CLAUSE_OPENERS or example.text[before.end()] in ".!?"
        told = all(_tells(example, r, mention.text, mention.start) for r in example.gold.relations)
        said_before = any(mention.text in said.text for said in example.context)
        if not (opens and told and example.gold.relations and _past_follows(words, at[0])):
            continue
        if said_before or example.text.count(mention.text) > 1 or (before and before[0].lower() == "and"):
            continue
        word = "i" if example.text.islower() else "I"
        shift = len(word) - len(mention.text)
        made = _renamed(example, mention.text, ROLES[0])
        gold = made.gold
        later = [m for m in gold.mentions if m is not mention]
        mentions = [
            m if m.start < mention.start else replace(m, start=m.start + shift, end=m.end + shift) for m in later
        ]
        links = [
            k if k.start < mention.start else replace(k, start=k.start + shift, end=k.end + shift) for k in gold.links
        ]
        text = example.text[: mention.start] + word + example.text[mention.end :]
        return replace(made, text=text, gold=replace(gold, mentions=tuple(mentions), links=tuple(links)))
    return None


def _cut_at(example: Example, end: int, default_status: str) -> Example | None:
    gold = example.gold
    mentions = tuple(m for m in gold.mentions if m.end <= end)
    links = tuple(k for k in gold.links if k.end <= end)
    spoken = {m.text for m in mentions}
    said = " ".join(utterance.text for utterance in example.context)
    later = {m.text for m in gold.mentions} - spoken
    if any(link.antecedent in later and link.antecedent not in said for link in links):
        return None
    kept: list[Relation] = []
    for relation in gold.relations:
        first = [min(spans, default=None) for spans in _places(example, relation)]
        last = [max(spans, default=None) for spans in _places(example, relation)]
        if None in first:
            return None
        if any(span is not None and span[1] > end for span in first):
            continue
        if any(span is not None and span[1] > end for span in last) or not _over(
            example, last, end, relation, default_status
        ):
            return None
        kept.append(relation if relation.time is None or relation.time in spoken else replace(relation, time=None))
    return replace(example, text=example.text[:end], gold=Extraction(mentions, links, tuple(kept), 0.0))


def _over(
    example: Example, spans: Sequence[tuple[int, int] | None], end: int, relation: Relation, default_status: str
) -> bool:
    """Whether what joins two arguments has been said by `end`."""
    reach = max(span[1] for span in spans if span is not None)
    ends = {relation.subject, relation.object}
    linked = {link.start for link in example.gold.links}
    words = [word for word in WORD.finditer(example.text) if word.start() >= reach]
    together = [
        word.end()
        for word in words
        if word[0].lower().replace("’", "'") in (_WE if ends & set(ROLES) else _THEY) and word.start() not in linked
    ]
    if together or sum({r.subject, r.object} == ends for r in example.gold.relations) > 1:
        return any(max([reach, *together]) <= found.start() < end for found in _SENTENCE_END.finditer(example.text))
    if relation.status != default_status:
        return any(reach <= found.start() < end for found in _CLAUSE_END.finditer(example.text))
    marked = any(reach <= found.start() < end for found in _MARK.finditer(example.text))
    between = example.text[min(s[1] for s in spans if s) : max(s[0] for s in spans if s)]
    if {word.lower() for word in WORD.findall(between)} <= _JOINING:
        return marked
    return marked or sum(word.start() < end for word in words) >= _MARGIN


def _places(example: Example, relation: Relation) -> Iterator[list[tuple[int, int]]]:
    """Where each argument of a relation is said."""
    for argument in (relation.subject, relation.object):
        if argument in ROLES:
            words = _ROLE_WORDS[argument]
            found = [w.span() for w in WORD.finditer(example.text) if w[0].lower().replace("’", "'") in words]
            # The first "my" may be enough, and so may the last: what lies between is not asked.
            yield found[:1]
        else:
            spans = [(m.start, m.end) for m in example.gold.mentions if m.text == argument]
            yield spans + [(k.start, k.end) for k in example.gold.links if k.antecedent == argument]


def _tells(example: Example, relation: Relation, subject: str, at: int) -> bool:
    """Whether a relation tells of `subject`, said at `at`, what is said after it."""
    starts = [m.start for m in example.gold.mentions if m.text == relation.object]
    starts += [k.start for k in example.gold.links if k.antecedent == relation.object]
    return relation.subject == subject and relation.object not in ROLES and bool(starts) and min(starts) > at


def _past_follows(words: Sequence[re.Match[str]], number: int) -> bool:
    """Whether a verb comes next whose form does not depend on who did it."""
    if number + 1 >= len(words):
        return False
    verb = words[number + 1][0].lower()
    return words[number + 1].start() == words[number].end() + 1 and verb in _PAST


def _renamed(example: Example, old: str, new: str) -> Example:
    relations = tuple(
        replace(r, subject=new if r.subject == old else r.subject, object=new if r.object == old else r.object)
        for r in example.gold.relations
    )
    return replace(example, gold=replace(example.gold, relations=relations))


def _names(example: Example) -> set[str]:
    return {m.text for m in example.gold.mentions} | {k.antecedent for k in example.gold.links}


def leaves_a_role_unsaid(example: Example) -> bool:
    """Whether a relation is of a speaker or listener whom no word of the turn means: its context tells it."""
    said = {word.lower().replace("’", "'") for word in WORD.findall(example.text)}
    arguments = {argument for relation in example.gold.relations for argument in (relation.subject, relation.object)}
    return any(not said & _ROLE_WORDS[role] for role in arguments & set(ROLES))


def _loose(example: Example) -> bool:
    """Whether a pronoun means something that only the context names."""
    spoken = {mention.text for mention in example.gold.mentions}
    return any(link.antecedent not in spoken for link in example.gold.links)


def repaired(example: Example, other: str, type_: str, at: int, rng: random.Random) -> Example:
    """The mention at `at` said right only after something else of its type: "in Graz, no wait, in Linz".

    What is taken back is a mention that nothing is said of, and the turn a correction.
    """
    comma, stop = ("", "") if example.text.islower() else (",", ",")
    before = _PREPOSITION.search(example.text[:at])
    again = f"{before[1]} " if before and rng.random() < 0.5 else ""
    inserted = f"{other}{comma} {rng.choice(_REPAIRS)}{stop} {again}"
    shift = len(inserted)
    gold = example.gold
    mentions = [m if m.start < at else replace(m, start=m.start + shift, end=m.end + shift) for m in gold.mentions]
    links = [k if k.start < at else replace(k, start=k.start + shift, end=k.end + shift) for k in gold.links]
    mentions.append(Mention(other, type_, at, at + len(other), 1.0))
    mentions.sort(key=lambda mention: mention.start)
    changed = replace(gold, mentions=tuple(mentions), links=tuple(links), correction=1.0)
    return replace(example, text=example.text[:at] + inserted + example.text[at:], gold=changed)
