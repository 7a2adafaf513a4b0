"""From what the extractor found in a turn to statements about the world: who is meant, since when, in whose words."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import tzinfo

from actors.messages import AGENT, ROLES, USER, Extraction, Mention, PronounLink, Relation, Turn
from config.schema import Canonical, Predicate, Schema, load_schema
from daemon.memory.dates import Lean, resolve_date
from daemon.memory.possession import Anchor, Voice, is_animal, is_relational, tie_of_name, tie_of_noun
from daemon.memory.records import Argument, Statement, TurnRecord

SPEAKER, SPEAKER_GROUP, LISTENER = ROLES
GROUP, NAME = "group", "name"
NAMES, OWNS, IS_A = "has_name", "owns", "is_a"
CORRECTS = 0.85
"""From which probability on a turn is taken to take something back. What is taken back is marked as never true, so it
has to be sure: facts told in a row ("Tom lives in Graz." "Emma works at Bluefin.") or after a correction reach 0.83."""
VALUES = frozenset({"DATE", "NUMBER"})
BEINGS = frozenset({"PERSON", "ANIMAL"})
_OWNABLE = BEINGS | {"PRODUCT", "LOCATION", "ORGANIZATION", "EVENT", "WORK"}
_PERSONAL = frozenset("he him his she her hers they them their theirs".split())
_POSSESSIVE = frozenset("his her its their whose".split())
_COMING = frozenset({"wants", "booked", "happened_on"})
_PLURAL = re.compile(r"(?:s|mice|geese|sheep|fish|deer)$", re.IGNORECASE)
_TAKES_BACK = re.compile(
    r"\W*(?:(?:no|nope|nah|wait|oops|sorry|ah|oh|um|uh|well)\b[\s,.!–-]*)*"
    r"(?:no\b|nope\b|wait\b|oops\b|sorry\b|scratch that|i meant?\b|correction\b|my mistake|that'?s (?:not|wrong))",
    re.IGNORECASE,
)
_ROLE_ORDER = {"user": 0, GROUP: 1, "agent": 2}

shipped_schema = functools.cache(load_schema)


def build(
    turn: Turn, extraction: Extraction, schema: Schema | None = None, zone: tzinfo | None = None
) -> tuple[tuple[Statement, ...], tuple[Argument, ...]]:
    """The statements a turn makes, and the entities it mentions (no bare dates and numbers; no roles).

    Predicates become the schema's stored names, symmetric ones get one order, a statement made twice counts once with
    the higher confidence. The agent's own words state nothing. Dates are taken in `zone` (this machine's when None).
    Raises nothing.
    """
    if turn.speaker == AGENT:
        return (), ()
    return _Reading(turn, extraction, schema or shipped_schema(), zone).result()


def takes_back(record: TurnRecord) -> bool:
    """Whether a turn corrects something: the extractor says so, or it opens with "no wait" and states something."""
    if record.extraction is None:
        return False
    states = any(statement.status == "asserted" for statement in record.statements)
    return record.extraction.correction >= CORRECTS or (states and bool(_TAKES_BACK.match(record.turn.text)))


def owner_path(argument: Argument) -> str:
    """How an owner is written in `Argument.owner`: "user", a name, or a path to a nominal: "user>roommate"."""
    if argument.role in ("user", GROUP):
        return "user"
    if argument.role == "agent":
        return "agent"
    if is_nominal(argument) and argument.owner:
        return f"{argument.owner}>{argument.nominal}"
    return argument.name


def is_nominal(argument: Argument) -> bool:
    """Whether only a noun is known of it ("sister"), not a name."""
    return bool(argument.nominal) and f" {argument.nominal}".casefold().endswith(f" {argument.name}".casefold())


@dataclass(frozen=True, slots=True)
class _Canonical:
    """A relation under its stored predicate, in the stored direction."""

    relation: Relation
    predicate: Predicate
    subject: Argument
    object: Argument


class _Reading:
    """One turn being read. `_arguments` maps (text, type) to what it stands for: one Argument per entity."""

    def __init__(self, turn: Turn, extraction: Extraction, schema: Schema, zone: tzinfo | None) -> None:
        self._turn = turn
        self._extraction = extraction
        self._schema = schema
        self._zone = zone
        self._voice = _voice(turn)
        self._cased = turn.text != turn.text.lower()
        self._arguments: dict[tuple[str, str], Argument] = {}
        self._anchors: list[Anchor] = []
        self._read_mentions()

    def result(self) -> tuple[tuple[Statement, ...], tuple[Argument, ...]]:
        self._tie_nominals()
        statements: dict[tuple[Argument, str, Argument, str], Statement] = {}
        for found in self._canonical():
            if found.subject == found.object:
                continue
            statement = self._statement(found)
            key = (statement.subject, statement.predicate, statement.object, statement.status)
            known = statements.get(key)
            if known is None or (statement.confidence, statement.time or "") > (known.confidence, known.time or ""):
                statements[key] = statement
        named = [side for statement in statements.values() for side in (statement.subject, statement.object)]
        names = {side.name for side in named if side.role == NAME}
        bare = [a for a in self._arguments.values() if a.type not in VALUES and a.name not in names]
        mentioned = dict.fromkeys(side for side in [*named, *bare] if not side.role and side.type not in VALUES)
        return tuple(statements.values()), tuple(mentioned)

    # --- mentions ---------------------------------------------------------------------------------

    def _read_mentions(self) -> None:
        """From left to right, since an owner stands before what it owns."""
        items: list[Mention | PronounLink] = [*self._extraction.mentions, *self._extraction.links]
        for item in sorted(items, key=lambda item: (item.start, item.end)):
            if isinstance(item, Mention):
                argument = self._read_mention(item)
                self._arguments.setdefault((item.text, item.type), argument)
                self._anchors.append(Anchor(item.start, item.end, owner_path(argument)))
            else:
                argument = self._antecedent(item.antecedent, item.text, frozenset())
                # Of pronouns only "his" and the like own what follows: "she's sister" is no genitive.
                if item.text.casefold() in _POSSESSIVE or item.text.casefold() not in _PERSONAL | {"it"}:
                    self._anchors.append(Anchor(item.start, item.end, owner_path(argument)))

    def _read_mention(self, mention: Mention) -> Argument:
        return self._argument(mention.text, mention.type, self._turn.text, mention.start, self._voice, self._anchors)

    def _argument(self, name: str, type_: str, text: str, start: int, voice: Voice, anchors: list[Anchor]) -> Argument:
        """What stands at `start` of a text, with whose it is where the words around it say so."""
        end = start + len(name)
        if type_ not in _OWNABLE:
            return Argument(name, type_)
        proper = name != name.lower() and not is_relational(name)
        if type_ in BEINGS and not is_relational(name):
            tie = tie_of_name(text, start, end, voice, anchors)
            if tie:
                return Argument(name, type_, owner=tie.owner, nominal=tie.noun)
        if proper and type_ != "PRODUCT":
            return Argument(name, type_)
        tie = tie_of_noun(text, start, end, voice, anchors)
        if tie:
            return Argument(name, type_, owner=tie.owner, nominal=tie.noun)
        cased = text != text.lower()
        common = is_relational(name) or (cased and not proper)
        kind = type_ == "ANIMAL" and _PLURAL.search(name)  # "afraid of mice": the kind, not one of them
        return Argument(name, type_, nominal=name if common and type_ in BEINGS and not kind else "")

    def _antecedent(self, name: str, pronoun: str, allowed: frozenset[str]) -> Argument:
        """The entity a pronoun stands for: as marked in the turn, else as the context says it, else as known."""
        for (text, _), argument in self._arguments.items():
            if text == name:
                return argument
        if name in ROLES:
            return self._role(name)
        type_ = self._type_of(name, pronoun, allowed)
        if (name, type_) in self._arguments:
            return self._arguments[name, type_]
        argument = Argument(name, type_)
        for utterance in reversed(self._turn.context):
            at = utterance.text.find(name)
            if at >= 0:
                voice = _voice(replace(self._turn, speaker=utterance.speaker, context=()))
                argument = self._argument(name, type_, utterance.text, at, voice, [])
                break
        self._arguments[name, type_] = argument
        return argument

    def _type_of(self, name: str, pronoun: str, allowed: frozenset[str]) -> str:
        for known in self._turn.known:
            if known.name.casefold() == name.casefold():
                return known.type
        if len(allowed) == 1:
            return next(iter(allowed))
        for relation in self._extraction.relations:
            canonical = self._schema.canonical(relation.predicate)
            if canonical and name in (relation.subject, relation.object):
                types = self._types(canonical, name == relation.subject)
                if len(types) == 1:
                    return next(iter(types))
        if is_animal(name):
            return "ANIMAL"
        return "PERSON" if pronoun.casefold() in _PERSONAL or is_relational(name) else ""

    # --- relations --------------------------------------------------------------------------------

    def _types(self, canonical: Canonical, subject_side: bool) -> frozenset[str]:
        predicate = self._schema.predicates[canonical.name]
        return predicate.domain if subject_side != canonical.flipped else predicate.range

    def _canonical(self) -> Iterator[_Canonical]:
        for relation in self._extraction.relations:
            canonical = self._schema.canonical(relation.predicate)
            if canonical is None:
                continue
            predicate = self._schema.predicates[canonical.name]
            subject = self._side(relation.subject, self._types(canonical, True))
            object_ = self._side(relation.object, self._types(canonical, False))
            if canonical.flipped:
                subject, object_ = object_, subject
            if predicate.name == NAMES:
                object_ = Argument(object_.name, object_.type, role=NAME)
            elif predicate.name == IS_A:
                object_ = Argument(object_.name, object_.type)
            if predicate.symmetric and _order(object_) < _order(subject):
                subject, object_ = object_, subject
            yield _Canonical(relation, predicate, subject, object_)

    def _side(self, text: str, allowed: frozenset[str]) -> Argument:
        if text in ROLES:
            return self._role(text)
        # "Jordan used to live in Jordan": the same text may be mentioned as two things.
        for type_ in sorted({type_ for name, type_ in self._arguments if name == text}, key=lambda t: t not in allowed):
            return self._arguments[text, type_]
        return self._antecedent(text, "", allowed)

    def _role(self, role: str) -> Argument:
        if role == LISTENER:
            return _person(self._voice.your)
        if self._turn.speaker == USER:
            return Argument("", "PERSON", role="user" if role == SPEAKER else GROUP)
        # Somebody else's "we" need not include the user: only the speaker is sure.
        return _person(self._turn.speaker)

    def _tie_nominals(self) -> None:
        """ "I have a sister", "we got a puppy": the statement itself says whose the unnamed one is."""
        for found in list(self._canonical()):
            if not (found.predicate.name == OWNS or _personal(found.predicate)):
                continue
            owning = found.predicate.name == OWNS
            for side, other in ((found.object, found.subject), (found.subject, found.object)):
                if not (_ownable_thing(side, self._cased) and side is found.object if owning else _unowned(side)):
                    continue
                if _unowned(other):
                    continue
                for key, argument in self._arguments.items():
                    if argument == side:
                        owned = replace(argument, owner=owner_path(other), nominal=side.nominal or side.name)
                        self._arguments[key] = owned
                break

    def _statement(self, found: _Canonical) -> Statement:
        relation = found.relation
        status = relation.status if relation.status in self._schema.statuses else "uncertain"
        time = None
        if relation.time:
            coming = status == "uncertain" or found.predicate.name in _COMING
            lean: Lean = "future" if coming else "past"
            time = resolve_date(relation.time, self._turn.said_at, lean, self._zone)
        return Statement(
            found.subject, found.predicate.name, found.object, status,
            min(1.0, max(0.0, relation.confidence)), relation.time, time,
        )  # fmt: skip


def _voice(turn: Turn) -> Voice:
    if turn.speaker == USER:
        return Voice("user", "agent")
    if turn.speaker == AGENT:
        return Voice("agent", "user")
    before = next((said.speaker for said in reversed(turn.context) if said.speaker != turn.speaker), AGENT)
    return Voice(turn.speaker, before)


def _person(who: str) -> Argument:
    return Argument("", "PERSON", role=who) if who in (USER, AGENT) else Argument(who, "PERSON")


def _order(argument: Argument) -> tuple[int, str, str, str]:
    return _ROLE_ORDER.get(argument.role, 3), argument.name.casefold(), argument.owner, argument.name


def _unowned(argument: Argument) -> bool:
    return argument.type in BEINGS and is_nominal(argument) and not argument.owner


def _ownable_thing(argument: Argument, cased: bool) -> bool:
    return argument.type == "PRODUCT" and not argument.owner and cased and argument.name == argument.name.lower()


def _personal(predicate: Predicate) -> bool:
    return predicate.domain == {"PERSON"} and bool(predicate.range) and predicate.range <= BEINGS


__all__ = ["BEINGS", "NAME", "NAMES", "VALUES", "build", "is_nominal", "owner_path", "shipped_schema", "takes_back"]
