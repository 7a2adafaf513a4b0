"""Which version of each model is active, how it came to be, and the way back."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import structlog
from pydantic import TypeAdapter, ValidationError

from registry.disk import (
    append_line,
    drop_torn_line,
    exclusive,
    private_folder,
    read_lines,
    replace_file,
    storage_errors,
)
from registry.errors import (
    InvalidVersionId,
    NothingActive,
    NothingToRollBack,
    PointerCorrupt,
    ReservedName,
    StorageFailed,
    UnknownModel,
    UnknownVersion,
)
from registry.store import Store
from registry.versions import NAME, parse_id, precedence

SHOAL = "(shoal)"
"""Who made a change that no person asked for: a name that no account has, since an account may well be called shoal."""
FIRST_START, UPGRADED = "first start", "a newer version came with the code"
_ONCE = "shoal"
"""What SHOAL was called in the first registries; there its reasons tell its changes from those of such an account."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Change:
    """One move of a model's pointer: when (UTC), by whom, why, and between which versions ("name@version")."""

    at: datetime
    who: str
    why: str
    action: Literal["activate", "rollback"]
    from_version: str | None
    to_version: str


CHANGE = TypeAdapter(Change)


class ActivePointers:
    """The active version of each model under `root`, and the history of its changes.

    The pointer file is the truth, and it holds the whole change that set it. It is replaced first, the history line is
    appended after: whatever a crash leaves out or tears is still in the pointer, and the next change writes it down
    before its own. So the history never tells of a change that did not happen, and never lacks one that did.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.store = Store(root)

    def current(self, name: str) -> str:
        """The active `name@version`. Raises: NothingActive, PointerCorrupt, UnknownModel, StorageFailed."""
        change = self.pointer(name)
        if change is None:
            raise NothingActive(f"no version of {name} is active; `shoal models activate {name}@VERSION` chooses one")
        return change.to_version

    def pointer(self, name: str) -> Change | None:
        """The change that made the active version active, None where nothing is.

        Raises: PointerCorrupt, UnknownModel, StorageFailed.
        """
        path = self._pointer_path(name)
        try:
            change = CHANGE.validate_json(path.read_bytes())
            parse_id(change.to_version)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StorageFailed(f"cannot read which version of {name} is active: {error}") from error
        except (ValidationError, InvalidVersionId) as error:
            raise PointerCorrupt(f"{path} cannot be read; `shoal models activate {name}@VERSION` mends it") from error
        return change

    def previous(self, name: str) -> str | None:
        """Where `rollback` would lead, None where it has nowhere to go. Raises: as `pointer`."""
        pointer = self.pointer(name)
        return self._before(name, pointer.to_version) if pointer else None

    def history(self, name: str) -> list[Change]:
        """Every change, oldest first. A line that cannot be read is logged and left out."""
        # The pointer first: a change that is made in between is then in the history that is read after it.
        pointer = self._readable_pointer(name)
        changes = self._recorded(name)
        return [*changes, pointer] if pointer and pointer not in changes else changes

    def activate(self, version: str, *, who: str, why: str) -> None:
        """Make a version the active one, once every byte of it is verified; on any error the old one stays.

        Raises: InvalidVersionId, UnknownModel, UnknownVersion, VersionCorrupt, RegistryBusy, ReservedName,
        StorageFailed.
        """
        _refuse_shoals_name(who)
        with self._changing(f"cannot activate {version}"):
            self._move(version, "activate", who, why)

    def rollback(self, name: str, *, to: str | None = None, who: str, why: str) -> str:
        """Go back to the version that was active before, or to the one that is named; returns it.

        It works like undo: a second rollback leads to the version before that one, never forward again. Versions that
        are no longer registered are passed over.

        Raises: NothingToRollBack, NothingActive, PointerCorrupt, and all that `activate` raises.
        """
        _refuse_shoals_name(who)
        with self._changing(f"cannot roll back {name}"):
            current = self.current(name)
            target = to or self._before(name, current)
            if target is None:
                raise NothingToRollBack(f"no version of {name} was active before {current} and is still registered")
            if target == current:
                raise NothingToRollBack(f"{target} is the active version already")
            if parse_id(target)[0] != name:
                raise UnknownVersion(f"{target} is not a version of {name}")
            self._move(target, "rollback", who, why)
        return target

    def offer(self, version: str) -> bool:
        """Activate a version that ships with the code, where nothing is active or something older that Shoal chose.

        Returns whether it became active. Raises: PointerCorrupt, and all that `activate` raises.
        """
        name, number = parse_id(version)
        with self._changing(f"cannot activate {version}"):
            active = self.pointer(name)
            if active and (not _shoals_own(active) or precedence(parse_id(active.to_version)[1]) >= precedence(number)):
                return False
            self._move(version, "activate", SHOAL, UPGRADED if active else FIRST_START)
        return True

    @contextlib.contextmanager
    def _changing(self, what: str) -> Iterator[None]:
        with storage_errors(what), exclusive(self.root):
            yield

    def _move(self, version: str, action: Literal["activate", "rollback"], who: str, why: str) -> None:
        self.store.verify(version)
        name, _ = parse_id(version)
        before = self._readable_pointer(name)
        history = self.root / "history" / f"{name}.jsonl"
        private_folder(history.parent)
        drop_torn_line(history)
        if before and before not in self._recorded(name):
            append_line(history, CHANGE.dump_json(before))
        change = Change(datetime.now(UTC), who, why, action, before.to_version if before else None, version)
        replace_file(self.root, self._pointer_path(name), CHANGE.dump_json(change))
        log.info("version_activated", version=version, before=change.from_version, action=action, who=who, why=why)
        try:
            append_line(history, CHANGE.dump_json(change))
        except OSError as error:
            log.warning("history_deferred", version=version, error=str(error))

    def _before(self, name: str, current: str) -> str | None:
        trail: list[str] = []
        for change in self.history(name):
            if change.action == "rollback" and change.to_version in trail:
                while trail[-1] != change.to_version:
                    trail.pop()
            else:
                trail.append(change.to_version)
        registered = {*self.store.ids(name)} - {current}
        return next((version for version in reversed(trail) if version in registered), None)

    def _readable_pointer(self, name: str) -> Change | None:
        try:
            return self.pointer(name)
        except PointerCorrupt as error:
            log.warning("pointer_corrupt", model=name, error=str(error))
            return None

    def _recorded(self, name: str) -> list[Change]:
        changes = []
        for line in read_lines(self.root / "history" / f"{name}.jsonl"):
            try:
                changes.append(CHANGE.validate_json(line))
            except ValidationError:
                log.warning("history_line_unreadable", model=name, line=line[:200].decode(errors="replace"))
        return changes

    def _pointer_path(self, name: str) -> Path:
        if not NAME.fullmatch(name):
            raise UnknownModel(f"{name!r} is not a model's name")
        return self.root / "active" / f"{name}.json"


def _shoals_own(change: Change) -> bool:
    return change.who == SHOAL or (change.who == _ONCE and change.why in (FIRST_START, UPGRADED))


def _refuse_shoals_name(who: str) -> None:
    if who == SHOAL:
        raise ReservedName(f"{SHOAL} stands for changes that no person asked for; say who asks for this one")
