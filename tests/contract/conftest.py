"""A registry, settings and both runtimes for the contract suite."""

from __future__ import annotations

import json
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from actors.contract import Runtime
from actors.local_runtime import LocalRuntime
from actors.messages import Request, Turn
from actors.ray_runtime import RayRuntime
from config.settings import Settings, load_settings
from registry.active import ActivePointers
from registry.store import Store
from registry.versions import Manifest, describe_files
from tests.contract.gates import Gate
from tests.contract.slms import SCRIPT

Start = Callable[..., Awaitable[Runtime]]


class Models:
    """A registry of scripted models."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._store = Store(root)
        self._active = ActivePointers(root)

    def publish(self, version: str, *, activate: bool = False, **script: Any) -> str:
        """Register a version of a scripted model, such as "scripted@1.0.0"; its tag is its number."""
        name, number = version.split("@")
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, SCRIPT).write_text(json.dumps({"tag": number, **script}))
            manifest = Manifest(
                name=name,
                version=number,
                kind="scripted",
                runtime="python",
                files=describe_files(Path(folder)),
                licence="Apache-2.0",
                created_at=datetime(2026, 1, 1, tzinfo=UTC),
            )
            self._store.register(manifest, Path(folder))
        if activate:
            self.activate(version)
        return version

    def activate(self, version: str) -> None:
        self._active.activate(version, who="test", why="the test says so")


@pytest.fixture
def models(tmp_path: Path) -> Models:
    registry = Models(tmp_path / "registry")
    registry.publish("scripted@1.0.0", activate=True)
    return registry


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    gate = Gate(tmp_path / "gate")
    yield gate
    gate.open()


def scripted_settings(home: Path, ray: dict[str, Any] | None = None, **slms: dict[str, Any]) -> Settings:
    """Settings whose small models are the scripted one, changed by `scripted`, and further blocks."""
    block = {"implementation": "tests.contract.slms:Scripted", "model": "scripted", "events": ["text"]}
    off = {name: {"enabled": False} for name in ("encoder", "extractor", "classifier")}
    slm = {**off, **slms, "scripted": block | slms.get("scripted", {})}
    tree = {"home": str(home), "runtime_dir": str(home / "run"), "slm": slm, "ray": ray or {}}
    return load_settings(overrides=tree).settings


@pytest.fixture(params=["local", "ray"])
def kind(request: pytest.FixtureRequest) -> str:
    if request.param == "ray":
        request.getfixturevalue("shared_ray")
    return str(request.param)


@pytest.fixture
async def start(kind: str, models: Models, tmp_path: Path) -> AsyncIterator[Start]:
    """Start a runtime of the kind under test; keywords change the settings' blocks."""
    runtimes: list[Runtime] = []

    async def start(**blocks: dict[str, Any]) -> Runtime:
        settings = scripted_settings(tmp_path, **blocks)
        runtime = (RayRuntime if kind == "ray" else LocalRuntime)(settings, models.root)
        runtimes.append(runtime)
        await runtime.start()
        return runtime

    yield start
    for runtime in runtimes:
        await runtime.stop(0.1)


def turn(text: str) -> Request:
    return Request(Turn(id="t", user="me", session="s", speaker="user", text=text, said_at=0.0))
