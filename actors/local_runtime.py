"""Hosts in the daemon's own process: unit tests and the smallest machines use it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from actors.errors import SlmUnavailable, StartTimeout
from actors.fleet import Berth, Fleet, specs
from actors.host import Host, HostSpec
from actors.lane import Lane
from actors.messages import Answer, HostHealth, Request
from config.settings import Settings


class LocalRuntime:
    """A `Runtime` whose hosts share this process and its event loop; each model has a thread of its own."""

    def __init__(self, settings: Settings, registry_root: Path) -> None:
        self._slms = settings.slm
        self._registry_root = registry_root
        self._fleet: Fleet | None = None

    async def start(self) -> None:
        hosts = await asyncio.gather(
            *(_load(spec) for spec in specs(self._slms, self._registry_root)), return_exceptions=True
        )
        loaded = [host for host in hosts if isinstance(host, Berth)]
        failures = [host for host in hosts if isinstance(host, BaseException)]
        fleet = Fleet(self._slms, loaded)
        if failures:
            await fleet.drain(0.0)
            raise failures[0]
        self._fleet = fleet

    async def call(self, slm: str, request: Request, deadline_s: float) -> Answer:
        return await self._started.call(slm, request, deadline_s)

    async def swap(self, slm: str, version: str) -> None:
        await self._started.swap(slm, version)

    async def health(self) -> Sequence[HostHealth]:
        return await self._started.health()

    async def stop(self, drain_timeout_s: float) -> None:
        if self._fleet:
            await self._fleet.drain(drain_timeout_s)

    @property
    def _started(self) -> Fleet:
        if self._fleet is None:
            raise SlmUnavailable("the runtime has not started")
        return self._fleet


async def _load(spec: HostSpec) -> Berth:
    lane = Lane(f"{spec.slm}-{spec.replica}-load")
    loading = lane.run(Host, spec)
    lane.close()
    try:
        async with asyncio.timeout(spec.settings.load_timeout_s):
            host = await loading
    except TimeoutError:
        raise StartTimeout(f"{spec.slm}: not loaded in {spec.settings.load_timeout_s} s") from None
    await host.ready()
    return Berth(spec, host)
