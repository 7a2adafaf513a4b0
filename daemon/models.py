"""Moving a running daemon to another model version: the hosts first, then the registry's pointer."""

from __future__ import annotations

import asyncio
import getpass
from collections.abc import Mapping
from contextlib import suppress

from actors.contract import Runtime
from actors.errors import ActorError
from config.settings import SlmSettings
from registry.active import ActivePointers
from registry.errors import NothingToRollBack, RegistryError
from registry.store import Store


class Models:
    """The registry beside the hosts that serve from it."""

    def __init__(self, store: Store, active: ActivePointers, runtime: Runtime, slms: Mapping[str, SlmSettings]) -> None:
        self._store = store
        self._active = active
        self._runtime = runtime
        self._slms = slms
        self._moving = asyncio.Lock()

    def serving(self) -> dict[str, str]:
        """Small model -> the "name@version" that the registry has active for it."""
        versions = {}
        for slm, settings in self._slms.items():
            with suppress(RegistryError):
                versions[slm] = self._active.current(settings.model)
        return versions

    async def activate(self, version: str, *, who: str, why: str) -> str | None:
        """Serve a version; returns the one before. On any error the old one serves on.

        Raises:
            RegistryError: the version is unknown or damaged.
            ModelLoadError: the small model cannot load it.
        """
        async with self._moving:
            name = (await asyncio.to_thread(self._store.get, version)).manifest.name
            before = self._current(name)
            await self._swap(name, version, before)
            try:
                await asyncio.to_thread(self._active.activate, version, who=who, why=why)
            except RegistryError:
                await self._back(name, before, version)
                raise
            return before

    async def rollback(self, name: str, *, to: str | None, who: str, why: str) -> tuple[str, str | None]:
        """Serve the version before, or `to`; returns (now, before). Raises: as `activate`, NothingToRollBack."""
        async with self._moving:
            before = self._current(name)
            target = to or await asyncio.to_thread(self._active.previous, name)
            if target is None:
                raise NothingToRollBack(f"no version of {name} was active before {before}")
            await asyncio.to_thread(self._store.get, target)
            await self._swap(name, target, before)
            try:
                now = await asyncio.to_thread(self._active.rollback, name, to=target, who=who, why=why)
            except RegistryError:
                await self._back(name, before, target)
                raise
            return now, before

    def _current(self, name: str) -> str | None:
        try:
            return self._active.current(name)
        except RegistryError:
            return None

    async def _back(self, name: str, before: str | None, version: str) -> None:
        if before is not None:
            await self._swap(name, before, version)

    async def _swap(self, name: str, version: str, before: str | None) -> None:
        """Swap every small model that runs on this registry entry; all or none."""
        swapped: list[str] = []
        for slm, settings in self._slms.items():
            if settings.model != name or not settings.enabled:
                continue
            try:
                await self._runtime.swap(slm, version)
            except ActorError:
                for done in swapped:
                    if before is not None:
                        await self._runtime.swap(done, before)
                raise
            swapped.append(slm)


def whoami() -> str:
    """Who the registry's history names for a change from the command line."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"
