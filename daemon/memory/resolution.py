"""Who is meant: all entities of a user, and the one that an argument of a statement stands for."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, replace

from rapidfuzz import process
from rapidfuzz.distance import OSA

from daemon.memory.possession import head_noun, is_kin, plain_noun
from daemon.memory.records import Argument
from daemon.memory.spelling import (
    honorific,
    name_key,
    name_parts,
    number_key,
    same_person_name,
    same_thing_name,
    sound_key,
)  # fmt: skip
from daemon.memory.statements import BEINGS, GROUP, NAME, VALUES, is_nominal

RECENT_S = 6 * 3600.0
"""How long "the guitar" and "Sarah" mean the one that was just spoken of."""

_ROLES = ("user", GROUP, "agent")
_KINDS = dict.fromkeys(BEINGS, "being") | {
    "ORGANIZATION": "place",
    "LOCATION": "place",
    "WORK": "made",
    "PRODUCT": "made",
}
"""Types easily taken for one another: a dog's name for a person's, a gym for a place or a company."""


@dataclass(frozen=True, slots=True)
class Entity:
    """Somebody or something that was spoken of.

    `owner` is the id of the entity to whom it is what its `nominals` say: the user's "sister", Tom's "wife". `role` is
    "user", "group", "agent", "name" (a name as such, the object of has_name) or "". `named_at` and `name_confidence`
    tell when and how surely somebody told its name, 0 where nobody did.
    """

    id: str
    user: str
    name: str
    type: str
    created_at: float
    last_said_at: float
    role: str = ""
    owner: str = ""
    nominals: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    mentions: int = 0
    named_at: float = 0.0
    name_confidence: float = 0.0

    @property
    def unnamed(self) -> bool:
        """Whether only a noun is known of it: "my sister"."""
        return any(head_noun(noun) == head_noun(self.name) for noun in self.nominals)

    @property
    def name_is_sure(self) -> float:
        """From 0 to 1: as it was told; a name that nobody told is surer each time it is heard."""
        if self.unnamed or self.nameless:
            return 0.0
        return self.name_confidence or 1 - 0.5**self.mentions

    @property
    def nameless(self) -> bool:
        """Whether it is a role that nobody has named: it is called by the user's id then."""
        return bool(self.role) and self.name == self.user

    def is_their(self, noun: str) -> bool:
        """Whether it is this to its owner, in whatever word: "mom" is "mother"."""
        return plain_noun(noun) in map(plain_noun, self.nominals)


@dataclass(frozen=True, slots=True)
class Merged:
    """Two entities turned out to be one: `gone` is now `kept`."""

    gone: str
    kept: str


def role_id(user: str, role: str) -> str:
    """The id of the entity that is the user, the user's group or the agent."""
    return f"{role}:{user}"


def twin(entity_id: str) -> str:
    """What we do, I do: the user's id for the group's and the other way round, else the id itself."""
    role, _, user = entity_id.partition(":")
    return {"user": f"{GROUP}:{user}", GROUP: f"user:{user}"}.get(role, entity_id)


class EntityIndex:
    """Every entity of one user by name, by alias and by whose what it is.

    `resolve`, `rename` and `heard` change it; `changed` and `merged` hold what did since they were last cleared.
    """

    def __init__(self, user: str, entities: Iterable[Entity] = ()) -> None:
        self.user = user
        self.changed: dict[str, None] = {}
        self.merged: list[Merged] = []
        self._entities: dict[str, Entity] = {}
        self._by_name: defaultdict[str, dict[str, None]] = defaultdict(dict)
        self._by_part: defaultdict[str, dict[str, None]] = defaultdict(dict)
        self._by_sound: defaultdict[str, dict[str, None]] = defaultdict(dict)
        self._by_shape: defaultdict[tuple[str, str, int], dict[str, str]] = defaultdict(dict)
        self._by_noun: defaultdict[str, dict[str, None]] = defaultdict(dict)
        self._by_tie: defaultdict[tuple[str, str], dict[str, None]] = defaultdict(dict)
        self._by_head: defaultdict[tuple[str, str], dict[str, None]] = defaultdict(dict)
        self.load(entities)

    def load(self, entities: Iterable[Entity]) -> None:
        """Entities as stored."""
        for entity in entities:
            self._add(entity)

    def __len__(self) -> int:
        return len(self._entities)

    def __contains__(self, entity_id: str) -> bool:
        return entity_id in self._entities

    def __iter__(self) -> Iterator[Entity]:
        return iter(self._entities.values())

    def __getitem__(self, entity_id: str) -> Entity:
        return self._entities[entity_id]

    def named(self, name: str) -> list[Entity]:
        """Entities of this name or alias, and the user's own that are known by this noun ("sister", "my sister")."""
        plain = name.casefold().removeprefix("my ").strip()
        owned = self._by_tie.get((role_id(self.user, "user"), plain_noun(plain)), {})
        return [self._entities[found] for found in {**self._by_name.get(name_key(name), {}), **owned}]

    def called(self, name: str) -> list[Entity]:
        """Entities of exactly this name or alias, and those known only as this: "your sister", "Tom's wife"."""
        whose, _, noun = name.casefold().replace("’", "'").rpartition("'s ")
        owners = [found.id for found in self.called(whose)] if whose else []
        if not whose and noun.startswith(("my ", "your ")):
            owners, noun = [role_id(self.user, "user")], noun.partition(" ")[2]
        tied = [found for owner in owners for found in self._by_tie.get((owner, plain_noun(noun)), {})]
        only = [found for found in tied if self._entities[found].unnamed]
        return [self._entities[found] for found in {**self._by_name.get(name_key(name), {}), **dict.fromkeys(only)}]

    def owned_by(self, entity_id: str) -> list[Entity]:
        """Entities known only as somebody's: "Tom's wife" when asked for Tom."""
        return [entity for entity in self._entities.values() if entity.owner == entity_id and entity.unnamed]

    def resolve(self, argument: Argument, said_at: float, new_id: Callable[[], str]) -> str:
        """The id of the entity meant; a new one, with `new_id()`, where none is surely it."""
        if argument.role in _ROLES:
            return self._role(argument.role, said_at)
        if argument.role == NAME or argument.type in VALUES:
            return self._value(argument, said_at, new_id)
        owner = self._owner(argument.owner, said_at, new_id)
        if is_nominal(argument):
            return self._nominal(argument, owner, said_at, new_id)
        if argument.nominal and owner:
            return self._introduced(argument, owner, said_at, new_id)
        return self._named(argument, said_at, new_id)

    def rename(
        self, entity_id: str, name: str, said_at: float = 0.0, confidence: float = 0.0, *, mistaken: bool = False
    ) -> None:
        """A person says somebody's name; the one before becomes an alias unless it was `mistaken`."""
        entity = self._entities[entity_id]
        same = [e for e in self._called(name, entity.type) if e.id != entity_id and e.owner in ("", entity.owner)]
        if entity.unnamed and not entity.role and len(same) == 1:
            self._merge(entity, same[0])
            return
        worthless = mistaken or entity.unnamed or entity.nameless
        aliases = dict.fromkeys([*entity.aliases, *([] if worthless else [entity.name])])
        kept = tuple(alias for alias in aliases if name_key(alias) != name_key(name))
        if name_key(name) == name_key(entity.name):
            confidence = max(confidence, entity.name_confidence)
        named_at = max(said_at, entity.named_at)
        self._put(replace(entity, name=name, aliases=kept, named_at=named_at, name_confidence=confidence))

    def add_alias(self, entity_id: str, name: str) -> None:
        """It was once called this."""
        entity = self._entities[entity_id]
        if name_key(name) not in map(name_key, (entity.name, *entity.aliases)):
            self._put(replace(entity, aliases=(*entity.aliases, name)))

    def heard(self, entity_id: str, said_at: float) -> None:
        """A turn spoke of it."""
        entity = self._entities[entity_id]
        at = max(entity.last_said_at, said_at)
        self._put(replace(entity, last_said_at=at, mentions=entity.mentions + 1))

    def current(self, entity_id: str) -> str:
        """The id that an entity has after the merges so far."""
        for merged in self.merged:
            if merged.gone == entity_id:
                entity_id = merged.kept
        return entity_id

    def remove(self, entity_id: str) -> None:
        """It is to be forgotten."""
        self._drop(self._entities[entity_id])
        self.changed.pop(entity_id, None)

    def drop_name(self, entity_id: str, names: Collection[str]) -> None:
        """These names are to be forgotten: what is left to call it by takes their place."""
        entity = self._entities[entity_id]
        aliases = tuple(alias for alias in entity.aliases if alias not in names)
        name = entity.name
        if name in names:
            entity = replace(entity, named_at=0.0, name_confidence=0.0)
            noun = entity.nominals[0] if entity.nominals else name
            name = self.user if entity.role == "user" else next(iter(aliases), noun)
        self._put(replace(entity, name=name, aliases=tuple(alias for alias in aliases if alias != name)))

    # --- ways to be meant -------------------------------------------------------------------------

    def _role(self, role: str, said_at: float) -> str:
        entity_id = role_id(self.user, role)
        if entity_id not in self._entities:
            name = {"user": self.user, GROUP: "we"}.get(role, role)
            self._put(Entity(entity_id, self.user, name, "PERSON", said_at, said_at, role=role))
        return entity_id

    def _value(self, argument: Argument, said_at: float, new_id: Callable[[], str]) -> str:
        for found in self._by_name.get(_key(argument.name, argument.type), {}):
            entity = self._entities[found]
            if entity.role == argument.role and (argument.role == NAME or entity.type == argument.type):
                return found
        return self._new(argument, "", said_at, new_id)

    def _owner(self, path: str, said_at: float, new_id: Callable[[], str]) -> str:
        if not path:
            return ""
        above, _, last = path.rpartition(">")
        if above:
            return self.resolve(Argument(last.split()[-1], "PERSON", owner=above, nominal=last), said_at, new_id)
        if last in ("user", "agent"):
            return self._role(last, said_at)
        found = self._best(self._called(last, ""), said_at)
        return found.id if found else self._named(Argument(last, "PERSON"), said_at, new_id)

    def _nominal(self, argument: Argument, owner: str, said_at: float, new_id: Callable[[], str]) -> str:
        """By the tie: "my sister", "Tom's wife"; an unowned one ("the dentist") only while it is being spoken of."""
        noun = plain_noun(argument.nominal)
        found = self._of(self._by_tie, owner, noun, argument.type)
        if not found and owner and noun == head_noun(noun):
            found = self._of(self._by_head, owner, noun, argument.type)
            found = found if len(found) == 1 else []
        if not owner:
            lately = [entity for entity in found if _recent(entity, said_at)]
            found = lately or self._lately_owned(noun, argument, said_at)
        if len(found) > 1:
            found = [e for e in found if _recent(e, said_at)] or [e for e in found if e.unnamed]
        best = self._best(found, said_at)
        return best.id if best else self._new(argument, owner, said_at, new_id)

    def _introduced(self, argument: Argument, owner: str, said_at: float, new_id: Callable[[], str]) -> str:
        """The name and the noun together ("my sister Emma"): what was known by either becomes one."""
        noun = plain_noun(argument.nominal)
        called = self._called(argument.name, argument.type) or self._spelled(argument, said_at)
        named = self._best([entity for entity in called if not _conflicts(entity, owner, noun)], said_at)
        unnamed = [entity for entity in self._of(self._by_tie, owner, noun, argument.type) if entity.unnamed]
        if named is None and not unnamed:
            return self._new(argument, owner, said_at, new_id)
        if named is None:
            self._put(replace(unnamed[0], name=argument.name))
            return unnamed[0].id
        if not named.is_their(noun):
            entity = replace(named, owner=owner, nominals=(*named.nominals, argument.nominal.casefold()))
            self._put(entity)
            if unnamed and unnamed[0].id != entity.id:
                return self._merge(unnamed[0], entity)
        return named.id

    def _named(self, argument: Argument, said_at: float, new_id: Callable[[], str]) -> str:
        called = self._called(argument.name, argument.type)
        # "The guitar" is mine while mine is being spoken of; another time it may be any guitar.
        free = [e for e in called if not (e.unnamed and e.owner)] or [e for e in called if _recent(e, said_at)]
        found = self._best(free, said_at)
        near = (
            None if found else self._partly(argument, said_at) or self._best(self._spelled(argument, said_at), said_at)
        )
        if near:
            longer = name_parts(argument.name)[:1] == name_parts(near.name) != name_parts(argument.name)
            name, alias = (argument.name, near.name) if longer else (near.name, argument.name)
            self._put(replace(near, name=name, aliases=tuple(dict.fromkeys((*near.aliases, alias)))))
            return near.id
        if found is None:
            return self._new(argument, "", said_at, new_id)
        lowered = found.name == found.name.lower() and not found.unnamed
        if lowered and found.name != argument.name and name_key(found.name) == name_key(argument.name):
            self._put(replace(found, name=argument.name))  # a recogniser's "emma" was Emma
        return found.id

    # --- candidates -------------------------------------------------------------------------------

    def _called(self, name: str, type_: str) -> list[Entity]:
        """Entities of exactly this name or alias, in any case, and of a kind that the type may be."""
        found = (self._entities[entity_id] for entity_id in self._by_name.get(_key(name, type_), {}))
        return [entity for entity in found if not entity.role and _compatible(entity.type, type_)]

    def _of(self, index: dict[tuple[str, str], dict[str, None]], owner: str, noun: str, type_: str) -> list[Entity]:
        found = (self._entities[entity_id] for entity_id in index.get((owner, noun), {}))
        return [entity for entity in found if _compatible(entity.type, type_)]

    def _lately_owned(self, noun: str, argument: Argument, said_at: float) -> list[Entity]:
        known = (self._entities[found] for found in self._by_noun.get(noun, {}))
        found = [e for e in known if _recent(e, said_at) and _compatible(e.type, argument.type)]
        return found if len(found) == 1 else []

    def _partly(self, argument: Argument, said_at: float) -> Entity | None:
        """ "Sarah" for "Sarah Lee", or the other way round, where only one of them is known and it is no stranger."""
        parts = name_parts(argument.name)
        if argument.type != "PERSON" or not parts:
            return None
        known = [self._entities[found] for found in self._by_part.get(parts[0], {})]
        known = [entity for entity in known if entity.type == "PERSON" and not entity.role]
        if len(known) != 1:
            return None
        entity = known[0]
        if honorific(entity.name) and honorific(argument.name):
            return None  # Mr. Tanaka is not Dr. Tanaka
        full, short = (name_parts(entity.name), parts) if len(parts) == 1 else (parts, name_parts(entity.name))
        if len(short) != 1 or (len(full) < 2 and not honorific(entity.name)):
            return None
        if len(parts) == 1:
            return entity if entity.owner or _recent(entity, said_at) else None
        # Tom, my brother, is not Tom Hanks: only a Tom of whom nothing else is known gains the longer name.
        return entity if _recent(entity, said_at) and not entity.owner else None

    def _spelled(self, argument: Argument, said_at: float) -> list[Entity]:
        """Entities whose name differs in spelling only; none when there is more than one.

        People have to be the talk of the hour: Mateo and Matteo may be two.
        """
        kind = _kind(argument.type)
        if kind == "being":
            near = {
                found for part in name_parts(argument.name)[:1] for found in self._by_sound.get(sound_key(part), {})
            }
            near |= self._near(kind, argument.name) if " " in argument.name else set()
            same = same_person_name
        elif kind in ("place", "made", "EVENT"):
            near, same = self._near(kind, argument.name), same_thing_name
        else:
            return []
        found = [self._entities[entity_id] for entity_id in sorted(near)]
        found = [e for e in found if not e.role and not e.unnamed and _compatible(e.type, argument.type)]
        found = [entity for entity in found if same(entity.name, argument.name)]
        if kind == "being":
            found = [entity for entity in found if _recent(entity, said_at)]
        return found if len(found) == 1 else []

    def _near(self, kind: str, name: str) -> set[str]:
        """Entities whose name is one edit away and begins alike."""
        key = name_key(name)
        found: set[str] = set()
        for length in (len(key) - 1, len(key), len(key) + 1):
            choices = self._by_shape.get((kind, key[:1], length), {})
            matches = process.extract(key, choices, scorer=OSA.distance, score_cutoff=1, limit=None)
            found.update(entity_id for _, _, entity_id in matches)
        return found

    @staticmethod
    def _best(found: list[Entity], said_at: float) -> Entity | None:
        """The one spoken of nearest in time."""
        return min(found, key=lambda e: (abs(e.last_said_at - said_at), -e.mentions, e.id), default=None)

    # --- keeping ----------------------------------------------------------------------------------

    def _new(self, argument: Argument, owner: str, said_at: float, new_id: Callable[[], str]) -> str:
        nominals = (argument.nominal.casefold(),) if argument.nominal else ()
        entity = Entity(
            new_id(), self.user, argument.name, argument.type or "MISC", said_at, said_at,
            role=argument.role, owner=owner, nominals=nominals,
        )  # fmt: skip
        self._put(entity)
        return entity.id

    def _merge(self, one: Entity, other: Entity) -> str:
        kept, gone = sorted((one, other), key=lambda e: (e.created_at, e.id))
        named = next((entity for entity in (other, one) if not entity.unnamed), kept)
        names = dict.fromkeys([e.name for e in (kept, gone) if not e.unnamed] + [*kept.aliases, *gone.aliases])
        self._drop(gone)
        self.changed.pop(gone.id, None)
        self.merged.append(Merged(gone.id, kept.id))
        self._put(
            replace(
                kept,
                name=named.name,
                type=named.type,
                owner=kept.owner or gone.owner,
                nominals=tuple(dict.fromkeys((*kept.nominals, *gone.nominals))),
                aliases=tuple(alias for alias in names if name_key(alias) != name_key(named.name)),
                created_at=min(kept.created_at, gone.created_at),
                last_said_at=max(kept.last_said_at, gone.last_said_at),
                mentions=kept.mentions + gone.mentions,
                named_at=named.named_at,
                name_confidence=named.name_confidence,
            )
        )
        for owned in [entity for entity in self._entities.values() if entity.owner == gone.id]:
            self._put(replace(owned, owner=kept.id))
        return kept.id

    def _put(self, entity: Entity) -> None:
        known = self._entities.get(entity.id)
        if known and _found_by(known) == _found_by(entity):
            self._entities[entity.id] = entity
        else:
            if known:
                self._drop(known)
            self._add(entity)
        self.changed[entity.id] = None

    def _add(self, entity: Entity) -> None:
        self._entities[entity.id] = entity
        for index, key in self._places(entity):
            index[key][entity.id] = None
        if not entity.role and not entity.unnamed:
            self._by_shape[_shape(entity)][entity.id] = name_key(entity.name)

    def _drop(self, entity: Entity) -> None:
        del self._entities[entity.id]
        for index, key in self._places(entity):
            index[key].pop(entity.id, None)
            if not index[key]:
                del index[key]
        self._by_shape[_shape(entity)].pop(entity.id, None)

    def _places(self, entity: Entity) -> Iterable[tuple[defaultdict, object]]:  # type: ignore[type-arg]  # keys differ
        for name in dict.fromkeys((entity.name, *entity.aliases)):
            yield self._by_name, _key(name, entity.type)
        if entity.type in BEINGS and not entity.role and not entity.unnamed:
            for part in name_parts(entity.name)[:1]:
                yield self._by_part, part
                yield self._by_sound, sound_key(part)
        for noun in entity.nominals:
            yield self._by_noun, plain_noun(noun)
            yield self._by_tie, (entity.owner, plain_noun(noun))
            yield self._by_head, (entity.owner, head_noun(noun))


def _shape(entity: Entity) -> tuple[str, str, int]:
    key = name_key(entity.name)
    return _kind(entity.type), key[:1], len(key)


def _found_by(entity: Entity) -> tuple[object, ...]:
    return entity.name, entity.type, entity.role, entity.owner, entity.nominals, entity.aliases


def _key(name: str, type_: str) -> str:
    return number_key(name) if type_ == "NUMBER" else name_key(name)


def _kind(type_: str) -> str:
    return _KINDS.get(type_, type_)


def _compatible(known: str, said: str) -> bool:
    if not said:
        return known not in VALUES
    return _kind(known) == _kind(said)


def _recent(entity: Entity, said_at: float) -> bool:
    return abs(entity.last_said_at - said_at) <= RECENT_S


def _conflicts(entity: Entity, owner: str, noun: str) -> bool:
    """Whether somebody's `noun` cannot be this entity: it is somebody else's, or another relative of the same."""
    if not entity.owner or not owner:
        return False
    if entity.owner != owner:
        return True
    return is_kin(noun) and any(is_kin(n) and head_noun(n) != head_noun(noun) for n in entity.nominals)
