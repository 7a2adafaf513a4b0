"""What a replica's handle makes of what its host tells; what Ray has to do with it is in tests/contract."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from actors.errors import ModelLoadError
from actors.host import HostSpec
from actors.messages import HostHealth
from actors.ray_runtime import RayReplica
from config.settings import SlmSettings

SETTINGS = SlmSettings(implementation="tests.contract.slms:Scripted", model="scripted", events=("text",))


class Method:
    """A method of an actor: what it returns, or raises, where it is called."""

    def __init__(self, outcome: object) -> None:
        self.outcome = outcome

    def options(self, **_: Any) -> Method:
        return self

    async def remote(self, *_: Any) -> object:
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


class Returned:
    """A host that Ray has started again and that could not load its model."""

    def __init__(self, error: Exception) -> None:
        self.health = Method(HostHealth("scripted", 0, "down", "", 7, 0, 0, 0, 0))
        self.ready = Method(error)


async def test_why_a_host_came_back_without_its_model_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    from ray.exceptions import RayTaskError

    broken = RayTaskError("ready", "traceback", ModelLoadError("scripted@2.0.0: its weights are damaged"))
    replica = RayReplica(HostSpec("scripted", SETTINGS, Path("registry")), Returned(broken))
    with caplog.at_level(logging.ERROR):
        await replica._await_restart()
    assert caplog.messages == ["scripted-0 came back without its model: scripted@2.0.0: its weights are damaged"]
    assert replica.up
