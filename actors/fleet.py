"""The replicas of every small model and what all runtimes do with them: choose, retry, swap together, drain."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from actors.errors import SlmDisabled, SlmUnavailable, UnknownSlm
from actors.host import HostSpec
from actors.messages import Answer, HostHealth, Request
from config.settings import SlmSettings

ARRIVAL_GRACE_S = 1.0


class Replica(Protocol):
    """A host, wherever it lives: see `actors.host.Host`. `health` never raises, the others ActorErrors alone."""

    @property
    def up(self) -> bool: ...

    async def handle(self, request: Request, remaining_s: float) -> Answer: ...

    async def swap(self, version: str) -> str: ...

    async def health(self) -> HostHealth: ...

    async def drain(self, timeout_s: float) -> None: ...


class Berth:
    """One replica's place in the fleet, with the number of calls it has not answered yet."""

    def __init__(self, spec: HostSpec, replica: Replica) -> None:
        self.spec = spec
        self.replica = replica
        self.outstanding = 0
        self.idle = asyncio.Event()
        self.idle.set()

    async def call(self, request: Request, remaining_s: float) -> Answer:
        self.outstanding += 1
        self.idle.clear()
        try:
            return await self.replica.handle(request, remaining_s)
        finally:
            self.outstanding -= 1
            if not self.outstanding:
                self.idle.set()


class Fleet:
    """All berths by small model. `slms` are the settings' blocks; `berths` holds those that are enabled."""

    def __init__(self, slms: Mapping[str, SlmSettings], berths: Sequence[Berth]) -> None:
        self._slms = slms
        self._berths = {name: [berth for berth in berths if berth.spec.slm == name] for name in slms}
        self._open = True

    async def call(self, slm: str, request: Request, deadline_s: float) -> Answer:
        """The answer of the replica with the least to do; a second try elsewhere when its host is lost."""
        berths = self._find(slm)
        deadline = time.monotonic() + deadline_s
        first = _least_busy(berths)
        try:
            return await first.call(request, deadline_s)
        except SlmUnavailable:
            remaining_s = deadline - time.monotonic()
            if remaining_s <= 0 or not self._open:
                raise
        others = [berth for berth in berths if berth is not first] or berths
        return await _least_busy(others).call(request, remaining_s)

    async def swap(self, slm: str, version: str) -> None:
        """Swap every replica, or none: where one fails, the others go back to what they served."""
        berths = self._find(slm)
        outcomes = await asyncio.gather(*(berth.replica.swap(version) for berth in berths), return_exceptions=True)
        failures = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        if not failures:
            return
        swapped = [(b, before) for b, before in zip(berths, outcomes, strict=True) if isinstance(before, str)]
        await asyncio.gather(*(b.replica.swap(before) for b, before in swapped if before), return_exceptions=True)
        raise failures[0]

    async def health(self) -> Sequence[HostHealth]:
        """Every replica's state."""
        return await asyncio.gather(*(berth.replica.health() for berths in self._berths.values() for berth in berths))

    async def drain(self, timeout_s: float) -> None:
        """Refuse new calls and drain every replica at once. Never raises for a replica that is lost."""
        self._open = False
        berths = [berth for berths in self._berths.values() for berth in berths]
        await asyncio.gather(*(berth.replica.drain(timeout_s) for berth in berths), return_exceptions=True)
        with suppress(TimeoutError):  # a host that has answered everything may be ahead of its last answers
            async with asyncio.timeout(ARRIVAL_GRACE_S):
                await asyncio.gather(*(berth.idle.wait() for berth in berths))

    def _find(self, slm: str) -> list[Berth]:
        if slm not in self._slms:
            raise UnknownSlm(f"{slm}: known are {', '.join(self._slms)}")
        if not self._slms[slm].enabled:
            raise SlmDisabled(f"{slm}: slm.{slm}.enabled is false")
        if not self._open:
            raise SlmUnavailable(f"{slm}: shutting down")
        return self._berths[slm]


def specs(slms: Mapping[str, SlmSettings], registry_root: Path) -> list[HostSpec]:
    """One spec for each replica of each enabled small model."""
    return [
        HostSpec(name, settings, registry_root, replica)
        for name, settings in slms.items()
        if settings.enabled
        for replica in range(settings.replicas)
    ]


def _least_busy(berths: Sequence[Berth]) -> Berth:
    return min(berths, key=lambda berth: (not berth.replica.up, berth.outstanding))
