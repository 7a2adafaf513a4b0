"""Small models for the contract suite: real ones, whose version's script and requests tell them what to do."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from actors.errors import ModelLoadError, RequestRejected
from actors.messages import Classification, Request, Result
from config.settings import SlmSettings
from registry.versions import ModelVersion

SCRIPT = "script.json"


class Scripted:
    """Echoes what it is told; some texts are orders: raise, reject, exit, short, die, gate:PATH."""

    def __init__(self, script: dict[str, Any]) -> None:
        self._script = script
        self._computed = 0

    @classmethod
    def load(cls, version: ModelVersion, settings: SlmSettings) -> Self:
        script = json.loads((version.path / SCRIPT).read_text())
        if gate := script.get("load_gate"):
            wait_at(gate)
        if script.get("broken"):
            raise ModelLoadError(f"{version}: its script says that it is broken")
        return cls(script)

    def run(self, requests: Sequence[Request]) -> Sequence[Result]:
        self._computed += len(requests)
        results = [self._result(request, len(requests)) for request in requests]
        return results[1:] if any(request.turn.text == "short" for request in requests) else results

    def close(self) -> None:
        if "closed" in self._script:
            Path(self._script["closed"]).touch()

    def _result(self, request: Request, batch: int) -> Classification:
        match request.turn.text.partition(":"):
            case "raise", _, _:
                raise ValueError("something that the user said")
            case "reject", _, _:
                raise RequestRejected("not for me")
            case "exit", _, _:
                raise SystemExit(1)
            case "stop", _, _:
                raise StopIteration
            case "die", _, _:
                os._exit(1)
            case "gate", _, path:
                wait_at(path)
        return Classification(
            needs_research=False,
            research_confidence=float(batch),
            needs_memory=False,
            memory_confidence=float(self._computed),
            category=self._script["tag"],
            category_confidence=1.0,
            reason=request.turn.text,
        )


class Shouting(Scripted):
    """A seventh small model: it uses what an earlier one found."""

    def _result(self, request: Request, batch: int) -> Classification:
        earlier = request.upstream["scripted"]
        assert isinstance(earlier, Classification)
        return Classification(False, 0.0, False, 0.0, self._script["tag"], 1.0, earlier.reason.upper())


def wait_at(gate: str) -> None:
    """Block until a test opens and closes the gate, a named pipe."""
    with open(gate, "rb") as pipe:  # noqa: PTH123
        pipe.read()
