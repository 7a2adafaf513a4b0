"""What a small model and a runtime promise to the rest of Shoal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, Self

from actors.messages import Answer, HostHealth, Request, Result
from config.settings import SlmSettings
from registry.versions import ModelVersion


class SLM(Protocol):
    """A small model: loads one version, handles one batch at a time, knows nothing of its host."""

    @classmethod
    def load(cls, version: ModelVersion, settings: SlmSettings) -> Self:
        """Open the version's files. Raises: ModelLoadError when they cannot be used."""

    def run(self, requests: Sequence[Request]) -> Sequence[Result]:
        """One result per request, in order: one of `actors.messages.Result`, or any other dataclass or JSON value.

        A reply tells it under the small model's name; what JSON cannot hold is left out there, with a warning.
        Raises: RequestRejected for a request that no retry can mend.
        """

    def close(self) -> None:
        """Release what `load` took. Called once."""


class Runtime(Protocol):
    """Where the hosts live. Every call ends in an answer or an `actors.errors.ActorError`."""

    async def start(self) -> None:
        """Start a host for every enabled SLM and wait until all have loaded. Raises: ModelLoadError, StartTimeout."""

    async def call(self, slm: str, request: Request, deadline_s: float) -> Answer:
        """Raises: UnknownSlm, SlmDisabled, SlmTimeout, SlmUnavailable, SlmOverloaded, RequestRejected, SlmFailed."""

    async def swap(self, slm: str, version: str) -> None:
        """Serve `version` ("name@version") from the next batch on; the old one serves on when it cannot load."""

    async def health(self) -> Sequence[HostHealth]:
        """Every replica's state, quickly: one that does not answer is "down".

        Asked from time to time it also finds hosts that hang, and has them restarted where they can be.
        Raises: RuntimeLost when no replica will ever answer again.
        """

    async def stop(self, drain_timeout_s: float) -> None:
        """Refuse new calls, let running ones end until the deadline, then stop the hosts."""
