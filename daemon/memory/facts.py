"""What is known, and what one more statement makes of it: strengthened, closed, taken back or new. No I/O, no clock."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from config.schema import Predicate, Schema
from daemon.memory.resolution import twin

ASSERTED, UNCERTAIN, ENDED, NEGATED = "asserted", "uncertain", "ended", "negated"
SUPERSEDED, CORRECTED = "superseded", "corrected"
_Triple = tuple[str, frozenset[str]]

OPEN = frozenset({ASSERTED, UNCERTAIN})
MAX_CONFIDENCE = 0.99
DOUBT_MARGIN = 0.3
"""See `Known`; the settings have their own value."""
LATELY_S = 3600.0
"""How long one can take back in a few words what one said: a session's name ("shell") may be in use for years."""
MAX_UTTERANCES = 256
"""How many utterances a fact names, the newest; `times_said` counts them all."""


@dataclass(frozen=True, slots=True)
class Fact:
    """One fact in one stretch of time. `…_at` are Unix times in seconds; `valid_…` are ISO 8601, None where unknown.

    `status` is asserted, uncertain, ended, negated, superseded (a newer value took its place), or corrected (was never
    true). Only the first two are open. `opened_as` is the status before it was closed; `closed_by` is an utterance.
    """

    id: str
    user: str
    subject: str
    predicate: str
    object: str
    status: str
    confidence: float
    recorded_at: float
    first_said_at: float
    last_said_at: float
    opened_as: str
    times_said: int = 1
    valid_from: str | None = None
    valid_to: str | None = None
    time_text: str | None = None
    utterances: tuple[str, ...] = ()
    sessions: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    closed_by: str | None = None
    closed_at: float | None = None

    @property
    def open(self) -> bool:
        """Whether it holds, or may hold, as far as is known."""
        return self.status in OPEN


@dataclass(frozen=True, slots=True)
class Said:
    """A statement between two entities, and where it comes from. `fact_id` is for the fact, should it be new."""

    fact_id: str
    user: str
    subject: str
    predicate: str
    object: str
    status: str
    confidence: float
    utterance: str
    session: str
    said_at: float
    recorded_at: float
    time_text: str | None = None
    time: str | None = None
    models: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Correction:
    """A turn that takes something back.

    `named` are the entities its text names, `before` those that the turns just before name (None where those turns are
    not known), `type_of` gives an entity's type.
    """

    named: Collection[str]
    before: Collection[str] | None
    type_of: Callable[[str], str]


class Known:
    """The facts that a batch may touch; `changed` and `deleted` say what became of them.

    An assertion whose confidence lies more than `doubt_margin` below that of a fact which it would close is kept beside
    it as uncertain: what was probably misheard must not undo what is known well.
    """

    def __init__(self, schema: Schema, facts: Iterable[Fact] = (), doubt_margin: float = DOUBT_MARGIN) -> None:
        self.schema = schema
        self.doubt_margin = doubt_margin
        self.changed: dict[str, None] = {}
        self.deleted: dict[str, None] = {}
        self._facts: dict[str, Fact] = {}
        self._places: defaultdict[tuple[str, str], dict[str, None]] = defaultdict(dict)
        self.load(facts)

    def load(self, facts: Iterable[Fact]) -> None:
        """Facts as stored; one that is here already, perhaps changed, stays as it is."""
        for fact in facts:
            if fact.id not in self._facts and fact.id not in self.deleted:
                self._place(fact)

    def __getitem__(self, fact_id: str) -> Fact:
        return self._facts[fact_id]

    def __iter__(self) -> Iterator[Fact]:
        return iter(list(self._facts.values()))

    def about(self, entity: str, predicate: str) -> list[Fact]:
        """Facts of a predicate that touch an entity, at either end, oldest first."""
        found = (self._facts[fact_id] for fact_id in self._places.get((entity, predicate), {}))
        return sorted(found, key=lambda fact: (fact.first_said_at, fact.id))

    def put(self, fact: Fact) -> None:
        """Add or replace a fact."""
        self._place(fact)
        self.changed[fact.id] = None
        self.deleted.pop(fact.id, None)

    def delete(self, fact: Fact) -> None:
        """Drop a fact whose content another one took over."""
        for end in (fact.subject, fact.object):
            self._places[end, fact.predicate].pop(fact.id, None)
        del self._facts[fact.id]
        self.changed.pop(fact.id, None)
        self.deleted[fact.id] = None

    def _place(self, fact: Fact) -> None:
        self._facts[fact.id] = fact
        for end in (fact.subject, fact.object):
            self._places[end, fact.predicate][fact.id] = None


def keys(schema: Schema, said: Said | Fact, *, correcting: bool) -> set[tuple[str, str]]:
    """The (entity, predicate) pairs whose stored facts `merge` may need for a statement.

    A person may like 10,000 things, while few like one thing: where one end is enough it is the object's.
    """
    predicate = schema.predicates[said.predicate]
    wanted = {(said.object, said.predicate)}
    if predicate.functional or correcting:
        wanted |= {(said.subject, said.predicate), (twin(said.subject), said.predicate)}
    if predicate.functional and predicate.symmetric:
        wanted.add((twin(said.object), said.predicate))
    if predicate.opposite:
        wanted.add((said.object, predicate.opposite))
    return wanted


def merge(known: Known, turn: Sequence[Said], correction: Correction | None = None) -> None:
    """Take in what one turn says.

    What is over or denied goes first: "I left Acme and work at Brix now" is no contradiction. A correction takes back
    the facts that it contradicts before it puts its own in their place.
    """
    asserted = [said for said in turn if said.status == ASSERTED]
    for said in turn:
        if said.status == ENDED:
            _end(known, said)
        elif said.status == NEGATED:
            _deny(known, said)
    if correction:
        stated = {(said.predicate, frozenset((said.subject, said.object))) for said in asserted}
        for at, said in enumerate(asserted):
            _take_back(known, said, correction, stated, first=at == 0)
    for said in asserted:
        _assert(known, said, correcting=correction is not None)
    for said in turn:
        if said.status == UNCERTAIN:
            _suppose(known, said)


def rewire(known: Known, gone: str, kept: str) -> None:
    """Two entities turned out to be one: the facts of `gone` become facts of `kept`, and equal ones become one."""
    for fact in known:
        if gone not in (fact.subject, fact.object):
            continue
        known.delete(fact)
        subject, object_ = (kept if end == gone else end for end in (fact.subject, fact.object))
        if subject == object_:
            continue
        moved = replace(fact, subject=subject, object=object_)
        same = next((other for other in _same(known, moved) if other.open == moved.open), None)
        if same is None:
            known.put(moved)
        else:
            known.put(_united(same, moved))
    _settle(known, kept)


def iso(at: float) -> str:
    """A Unix time as an ISO 8601 date-time in UTC, to the second."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")


# --- one statement ----------------------------------------------------------------------------------


def _assert(known: Known, said: Said, *, correcting: bool) -> None:
    mine = _same(known, said)
    fact = next((fact for fact in mine if fact.open), None)
    if fact is not None and fact.status == ASSERTED:
        known.put(_strengthened(fact, said))
        return
    repeated = fact is not None and said.utterance not in fact.utterances
    if fact is None:
        denied = next((f for f in mine if f.status == NEGATED and f.opened_as == NEGATED), None)
        if denied and said.said_at >= denied.last_said_at:
            fact = replace(denied, closed_by=None, closed_at=None)
    if fact is not None:
        fact = replace(_strengthened(fact, said), status=ASSERTED, opened_as=ASSERTED)
    elif over := next((f for f in mine if f.closed_at is not None and f.closed_at > said.said_at), None):
        # Said before what is known to have ended it: a late arrival adds weight to that stretch, and opens none.
        known.put(_strengthened(over, said))
        return
    else:
        fact = _new(said, ASSERTED)
    contrary = rivals(known, said)
    later = [rival for rival in contrary if rival.opened_as == ASSERTED and not _follows(said, rival)]
    later = [rival for rival in later if rival.status in (ASSERTED, SUPERSEDED, ENDED)]
    earlier = [rival for rival in contrary if _holds_at(rival, said.said_at) and rival not in later]
    if not repeated and not correcting and _doubtful(known, said, earlier):
        _suppose(known, said)
        return
    for rival in earlier:
        known.put(_closed(rival, SUPERSEDED, said))
    if later:
        next_one = min(later, key=lambda rival: (rival.first_said_at, rival.id))
        fact = _before(fact, next_one, said)
    known.put(fact)


def _end(known: Known, said: Said) -> None:
    mine = _same(known, said)
    current = next((fact for fact in mine if fact.open), None)
    if current and said.said_at >= current.last_said_at:
        known.put(_closed(_noted(current, said), ENDED, said))
        return
    over = [fact for fact in mine if fact.status in (ENDED, SUPERSEDED)]
    if over:
        fact = _strengthened(over[-1], replace(said, time=None))
        known.put(replace(fact, valid_to=_not_before(said.time, fact.valid_from)) if said.time else fact)
        return
    known.put(_closed(replace(_new(said, ENDED), valid_from=None), ENDED, said))


def _deny(known: Known, said: Said) -> None:
    mine = _same(known, said)
    current = next((fact for fact in mine if fact.open), None)
    if current and said.said_at >= current.last_said_at:
        known.put(_closed(_noted(current, said), NEGATED, said))
    elif denied := [fact for fact in mine if fact.status == NEGATED]:
        known.put(_strengthened(denied[-1], said))
    else:
        known.put(replace(_new(said, NEGATED), closed_by=said.utterance, closed_at=said.said_at))


def _suppose(known: Known, said: Said) -> None:
    mine = _same(known, said)
    current = next((fact for fact in mine if fact.open), None)
    if current is None:
        if not any(fact.closed_at is not None and fact.closed_at >= said.said_at for fact in mine):
            known.put(_new(said, UNCERTAIN))
    elif current.status == UNCERTAIN:
        known.put(_strengthened(current, said))


def _take_back(known: Known, said: Said, correction: Correction, stated: Collection[_Triple], *, first: bool) -> None:
    """Mark what a correcting statement contradicts as never true.

    Of a functional predicate it is the other value, if it was said lately in this session or is named here; of any
    other, the fact that differs in one end, where the wrong end is named: in the turn itself or, for its first
    statement, in the turns just before. What else such a turn says ("I still eat eggs") corrects nothing.
    """
    predicate = known.schema.predicates[said.predicate]
    recent = correction.before if correction.before is not None else ()
    # "He's a whippet": what the turn asserts something else of is not what it takes back.
    used = {end for name, ends in stated if name != said.predicate for end in ends}
    in_turn = set(correction.named) - used
    named = in_turn | (set(recent) - used if first else set())
    if predicate.functional:
        for rival in rivals(known, said, opposites=False):
            lately = _said_lately(rival, said) or _other_end(rival, said) in named
            if rival.status in OPEN and lately and said.said_at >= rival.last_said_at:
                known.put(_corrected(rival, said))
        return
    wrong = [
        fact
        for end in dict.fromkeys((said.subject, said.object))
        for fact in known.about(end, said.predicate)
        if fact.open
        and said.said_at >= fact.last_said_at
        and (fact.predicate, frozenset((fact.subject, fact.object))) not in stated
        and _one_end(predicate, fact, said)
        and _alike(fact, said, correction.type_of)
    ]
    found = [fact for fact in wrong if _other_end(fact, said) in in_turn]
    found = found or [fact for fact in wrong if _other_end(fact, said) in named]
    if not found and first and correction.before is None:
        found = [fact for fact in wrong if _said_lately(fact, said)]
    if found:
        known.put(_corrected(max(found, key=lambda fact: (fact.last_said_at, fact.id)), said))


def _said_lately(fact: Fact, said: Said) -> bool:
    """Whether it was said in the talk of which this is a part."""
    return said.session in fact.sessions and said.said_at - fact.last_said_at <= LATELY_S


# --- which facts ------------------------------------------------------------------------------------


def _same(known: Known, said: Said | Fact) -> list[Fact]:
    """Facts of the same triple, either way round where the predicate is symmetric, oldest first."""
    ends = {(said.subject, said.object)}
    if known.schema.predicates[said.predicate].symmetric:
        ends.add((said.object, said.subject))
    return [fact for fact in known.about(said.object, said.predicate) if (fact.subject, fact.object) in ends]


def rivals(known: Known, said: Said | Fact, *, opposites: bool = True) -> list[Fact]:
    """Facts that cannot hold at the same time as this one."""
    predicate = known.schema.predicates[said.predicate]
    found: dict[str, Fact] = {}
    if predicate.functional:
        slots = {said.subject, twin(said.subject)}
        if predicate.symmetric:
            slots |= {said.object, twin(said.object)}
        ends = {frozenset((a, b)) for a in (said.subject, twin(said.subject)) for b in (said.object, twin(said.object))}
        for slot in slots:
            for fact in known.about(slot, said.predicate):
                holds = fact.subject == slot or (predicate.symmetric and fact.object == slot)
                if holds and frozenset((fact.subject, fact.object)) not in ends:
                    found[fact.id] = fact
    if predicate.opposite and opposites:
        for fact in known.about(said.object, predicate.opposite):
            if (fact.subject, fact.object) == (said.subject, said.object):
                found[fact.id] = fact
    return sorted(found.values(), key=lambda fact: (fact.first_said_at, fact.id))


def _holds_at(rival: Fact, at: float) -> bool:
    return rival.status == ASSERTED or (rival.status == SUPERSEDED and (rival.closed_at or 0) > at)


def _doubtful(known: Known, new: Said | Fact, contrary: Iterable[Fact]) -> bool:
    """Whether something is much less sure than what it would close."""
    return any(new.confidence < rival.confidence - known.doubt_margin for rival in contrary)


def _follows(said: Said, rival: Fact) -> bool:
    """Whether a statement speaks of a later time than a fact: by the dates both give, else by when they were said."""
    if said.time and rival.valid_from and said.time != rival.valid_from:
        return said.time > rival.valid_from
    return said.said_at >= (rival.last_said_at if rival.open else rival.first_said_at)


def _one_end(predicate: Predicate, fact: Fact, said: Said) -> bool:
    if predicate.symmetric:
        return len({fact.subject, fact.object} & {said.subject, said.object}) == 1
    return (fact.subject == said.subject) != (fact.object == said.object)


def _other_end(fact: Fact, said: Said) -> str:
    """The end of a fact that a statement does not share."""
    return fact.subject if fact.object in (said.subject, said.object) else fact.object


def _alike(fact: Fact, said: Said, type_of: Callable[[str], str]) -> bool:
    wrong = _other_end(fact, said)
    right = said.object if said.subject in (fact.subject, fact.object) else said.subject
    return type_of(wrong) == type_of(right)


# --- what becomes of them ---------------------------------------------------------------------------


def _new(said: Said, status: str) -> Fact:
    return Fact(
        id=said.fact_id, user=said.user, subject=said.subject, predicate=said.predicate, object=said.object,
        status=status, confidence=min(said.confidence, MAX_CONFIDENCE), recorded_at=said.recorded_at,
        first_said_at=said.said_at, last_said_at=said.said_at, opened_as=status, valid_from=said.time,
        time_text=said.time_text, utterances=(said.utterance,), sessions=(said.session,), models=said.models,
    )  # fmt: skip


def _noted(fact: Fact, said: Said) -> Fact:
    """The fact with one more utterance behind it, and no more weight."""
    return replace(
        fact,
        last_said_at=max(fact.last_said_at, said.said_at),
        utterances=_joined(fact.utterances, (said.utterance,))[-MAX_UTTERANCES:],
        sessions=_joined(fact.sessions, (said.session,)),
        models=_joined(fact.models, said.models),
    )


def _strengthened(fact: Fact, said: Said) -> Fact:
    if said.utterance in fact.utterances:
        return fact
    return replace(
        _noted(fact, said),
        confidence=_both(fact.confidence, said.confidence),
        first_said_at=min(fact.first_said_at, said.said_at),
        times_said=fact.times_said + 1,
        valid_from=fact.valid_from or (said.time if fact.opened_as != ENDED else None),
        time_text=fact.time_text or said.time_text,
    )


def _closed(fact: Fact, status: str, said: Said) -> Fact:
    ended = said.time if said.time and not (fact.valid_from and said.time < fact.valid_from) else iso(said.said_at)
    return replace(
        fact,
        status=status,
        valid_to=_not_before(ended, fact.valid_from),
        closed_by=said.utterance,
        closed_at=said.said_at,
    )


def _before(fact: Fact, rival: Fact, said: Said) -> Fact:
    """A value that a later one, known already, had taken the place of."""
    ended = rival.valid_from or iso(max(rival.first_said_at, said.said_at))
    return replace(
        fact,
        status=SUPERSEDED,
        valid_to=_not_before(ended, fact.valid_from),
        closed_by=rival.utterances[0] if rival.utterances else None,
        closed_at=max(rival.first_said_at, said.said_at),
    )


def _corrected(fact: Fact, said: Said) -> Fact:
    never = fact.valid_from or iso(fact.first_said_at)
    return replace(
        fact, status=CORRECTED, valid_from=never, valid_to=never, closed_by=said.utterance, closed_at=said.said_at
    )


def _united(one: Fact, other: Fact) -> Fact:
    """Two records of one fact as one; the later saying decides how it stands."""
    older, newer = sorted((one, other), key=lambda fact: (fact.first_said_at, fact.id))
    last = max(one, other, key=lambda fact: (fact.status == ASSERTED, fact.last_said_at))
    return replace(
        last,
        id=one.id,
        confidence=_both(one.confidence, other.confidence),
        recorded_at=min(one.recorded_at, other.recorded_at),
        first_said_at=older.first_said_at,
        last_said_at=max(one.last_said_at, other.last_said_at),
        times_said=one.times_said + other.times_said,
        valid_from=last.valid_from or (None if last.valid_to else older.valid_from or newer.valid_from),
        utterances=_joined(older.utterances, newer.utterances)[-MAX_UTTERANCES:],
        sessions=_joined(older.sessions, newer.sessions),
        models=_joined(older.models, newer.models),
    )


def _settle(known: Known, entity: str) -> None:
    """After a merge of entities: of values that cannot hold together the one said last, if not in doubt, stays open."""
    touched = [fact for fact in known if entity in (fact.subject, fact.object) and fact.status == ASSERTED]
    for fact in sorted(touched, key=lambda fact: (fact.last_said_at, fact.id), reverse=True):
        if known[fact.id].status != ASSERTED:
            continue
        contrary = [rival for rival in rivals(known, fact) if rival.status == ASSERTED]
        if fact.times_said == 1 and _doubtful(known, fact, contrary):
            known.put(replace(fact, status=UNCERTAIN, opened_as=UNCERTAIN))
            continue
        for rival in contrary:
            ended = _not_before(fact.valid_from or iso(fact.last_said_at), rival.valid_from)
            by = fact.utterances[-1] if fact.utterances else None
            closed = replace(rival, status=SUPERSEDED, valid_to=ended, closed_by=by, closed_at=fact.last_said_at)
            known.put(closed)


def _not_before(ended: str | None, began: str | None) -> str | None:
    """An end that does not lie before its beginning; ISO dates of unequal precision compare as text."""
    return began if ended and began and ended < began else ended


def _both(one: float, other: float) -> float:
    return min(MAX_CONFIDENCE, 1 - (1 - one) * (1 - other))


def _joined(one: tuple[str, ...], other: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*one, *other)))
