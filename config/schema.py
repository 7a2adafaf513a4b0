"""The knowledge schema: which entity types, predicates and statuses there are. All of it is data, in schema.yaml."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from config.settings import SCHEMA

ANY = "any"


class SchemaError(Exception):
    """A schema file that cannot be used; its text is one line per fault."""

    code = "schema_invalid"


@dataclass(frozen=True, slots=True)
class Predicate:
    """One predicate. `domain` and `range` are entity types; empty means any."""

    name: str
    category: str
    domain: frozenset[str]
    range: frozenset[str]
    says: str
    symmetric: bool = False
    functional: bool = False
    inverse: str | None = None
    opposite: str | None = None
    aliases: tuple[str, ...] = ()

    def joins(self, subject_type: str, object_type: str) -> bool:
        """Whether an entity of one type may stand in this predicate to one of the other."""
        return (not self.domain or subject_type in self.domain) and (not self.range or object_type in self.range)


@dataclass(frozen=True, slots=True)
class Canonical:
    """A predicate's stored name; `flipped` when subject and object change places to get there."""

    name: str
    flipped: bool = False


@dataclass(frozen=True, slots=True)
class Hedges:
    """Words that lower the confidence of what stands in their clause, times `factor`; `breaks` end a clause."""

    factor: float = 1.0
    words: tuple[str, ...] = ()
    breaks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Schema:
    """Entity types and statuses with their descriptions (the first status is the default), predicates by name."""

    entity_types: Mapping[str, str]
    predicates: Mapping[str, Predicate]
    status_says: Mapping[str, str]
    wire_types: Mapping[str, str]
    hedges: Hedges
    _canonical: Mapping[str, Canonical] = field(repr=False)

    @property
    def statuses(self) -> tuple[str, ...]:
        """The statuses' names, the default first."""
        return tuple(self.status_says)

    @property
    def categories(self) -> tuple[str, ...]:
        """The predicates' categories, in the order of the file."""
        return tuple(dict.fromkeys(predicate.category for predicate in self.predicates.values()))

    @property
    def predicate_names(self) -> tuple[str, ...]:
        """Every name that `canonical` knows: predicates, their aliases and inverses."""
        return tuple(self._canonical)

    def canonical(self, name: str) -> Canonical | None:
        """The stored name of a predicate, an alias or an inverse; None for a name that the schema does not know."""
        return self._canonical.get(name)

    def wire_type(self, entity_type: str) -> str:
        """The type of the plain wire schema, for clients that know only those."""
        return self.wire_types.get(entity_type, entity_type)


class _PredicateEntry(BaseModel):
    model_config = ConfigDict(extra="forbid")

    category: str
    domain: list[str] = Field(min_length=1)
    range: list[str] = Field(min_length=1)
    says: str
    symmetric: bool = False
    functional: bool = False
    inverse: str | None = None
    opposite: str | None = None
    aliases: list[str] = []


class _HedgesEntry(BaseModel):
    model_config = ConfigDict(extra="forbid")

    factor: float = Field(default=1.0, ge=0, le=1)
    words: list[str] = []
    breaks: list[str] = []


class _SchemaFile(BaseModel):
    model_config = ConfigDict(extra="forbid")

    entity_types: dict[str, str] = Field(min_length=1)
    predicates: dict[str, _PredicateEntry] = Field(min_length=1)
    statuses: dict[str, str] = Field(min_length=1)
    wire_type: dict[str, str] = {}
    hedges: _HedgesEntry = _HedgesEntry()

    @model_validator(mode="after")
    def _known_names(self) -> _SchemaFile:
        for name, predicate in self.predicates.items():
            for entity_type in [*predicate.domain, *predicate.range]:
                if entity_type != ANY and entity_type not in self.entity_types:
                    raise ValueError(f"{name}: no entity type {entity_type!r}")
            if predicate.opposite and predicate.opposite not in self.predicates:
                raise ValueError(f"{name}: no predicate {predicate.opposite!r} to be the opposite")
        for source, target in self.wire_type.items():
            if source not in self.entity_types or target not in self.entity_types:
                raise ValueError(f"wire_type {source}: {target}: no such entity type")
        return self


def load_schema(path: Path = SCHEMA) -> Schema:
    """Read a schema file.

    Raises:
        SchemaError: the file cannot be read, or holds a name or key that it does not define.
    """
    try:
        return _build(_SchemaFile.model_validate(yaml.safe_load(path.read_text(encoding="utf-8"))))
    except ValidationError as error:
        faults = (f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors(include_url=False))
        raise SchemaError(f"{path.name}: " + "\n".join(faults)) from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SchemaError(f"{path.name}: {error}") from error


def _build(file: _SchemaFile) -> Schema:
    predicates = {name: _predicate(name, entry) for name, entry in file.predicates.items()}
    canonical: dict[str, Canonical] = {}
    for predicate in predicates.values():
        names = dict.fromkeys((predicate.name, *predicate.aliases), False)
        if predicate.inverse:
            names[predicate.inverse] = True
        for name, flipped in names.items():
            # A predicate's own name outranks another's alias: "attends" may be both.
            if name not in canonical and (name == predicate.name or name not in predicates):
                canonical[name] = Canonical(predicate.name, flipped)
    hedges = Hedges(file.hedges.factor, tuple(file.hedges.words), tuple(file.hedges.breaks))
    return Schema(file.entity_types, predicates, file.statuses, file.wire_type, hedges, canonical)


def _predicate(name: str, entry: _PredicateEntry) -> Predicate:
    def types(listed: list[str]) -> frozenset[str]:
        return frozenset() if ANY in listed else frozenset(listed)

    return Predicate(
        name, entry.category, types(entry.domain), types(entry.range), entry.says,
        entry.symmetric, entry.functional, entry.inverse, entry.opposite, tuple(entry.aliases),
    )  # fmt: skip
