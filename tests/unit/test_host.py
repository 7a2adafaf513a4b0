"""What a host does when even its thread fails; what it promises otherwise is in tests/contract."""

import asyncio
import json
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from actors.errors import ModelLoadError, SlmUnavailable
from actors.host import Host, HostSpec
from actors.messages import Request, Result, Turn
from config.settings import SlmSettings
from registry.active import ActivePointers
from registry.store import Store
from registry.versions import Manifest, describe_files
from tests.contract.gates import Gate
from tests.contract.slms import Scripted

REQUEST = Request(Turn(id="t", user="me", session="s", speaker="user", text="hello", said_at=0.0))


@pytest.fixture
def spec(tmp_path: Path) -> HostSpec:
    files = tmp_path / "files"
    files.mkdir()
    (files / "script.json").write_text(json.dumps({"tag": "1.0.0"}))
    manifest = Manifest(
        name="scripted",
        version="1.0.0",
        kind="scripted",
        runtime="python",
        files=describe_files(files),
        licence="Apache-2.0",
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
    )
    Store(tmp_path / "registry").register(manifest, files)
    ActivePointers(tmp_path / "registry").activate("scripted@1.0.0", who="test", why="first")
    settings = SlmSettings(implementation="tests.contract.slms:Scripted", model="scripted", events=("text",))
    return HostSpec("scripted", settings, tmp_path / "registry")


async def test_a_host_without_its_thread_is_down_and_refuses_at_once(spec: HostSpec) -> None:
    host = Host(spec)
    host._lane.close()
    assert not host.up
    assert (await host.health()).state == "down"
    with pytest.raises(SlmUnavailable):
        await host.handle(REQUEST, 5.0)
    await host.drain(1.0)


async def test_what_waits_when_the_thread_dies_ends(spec: HostSpec, tmp_path: Path) -> None:
    host = Host(spec)
    gate = Gate(tmp_path / "gate")
    turn = Turn(id="t", user="me", session="s", speaker="user", text=f"gate:{gate.path}", said_at=0.0)
    running = asyncio.create_task(host.handle(Request(turn), 20.0))
    await gate.reached()
    waiting = [asyncio.create_task(host.handle(REQUEST, 20.0)) for _ in range(3)]
    await asyncio.sleep(0)
    host._lane.close()
    gate.open()
    assert (await running).model == "scripted@1.0.0"
    ended = await asyncio.gather(*waiting, return_exceptions=True)
    assert {type(error) for error in ended} == {SlmUnavailable}
    await host.drain(1.0)


async def test_the_model_is_told_when_an_answer_must_be_there(spec: HostSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Request] = []
    run = Scripted.run

    def watched(self: Scripted, requests: Sequence[Request]) -> Sequence[Result]:
        seen.extend(requests)
        return run(self, requests)

    monkeypatch.setattr(Scripted, "run", watched)
    host = Host(spec)
    before = time.monotonic()
    await host.handle(REQUEST, 20.0)
    assert before + 20.0 <= seen[0].deadline <= time.monotonic() + 20.0
    await host.drain(1.0)


async def test_a_caller_that_gives_up_leaves_nothing_behind(spec: HostSpec, tmp_path: Path) -> None:
    host = Host(spec)
    gate = Gate(tmp_path / "gate")
    turn = Turn(id="t", user="me", session="s", speaker="user", text=f"gate:{gate.path}", said_at=0.0)
    running = asyncio.create_task(host.handle(Request(turn), 20.0))
    await gate.reached()
    waiting = asyncio.create_task(host.handle(REQUEST, 20.0))
    await asyncio.sleep(0)
    waiting.cancel()
    running.cancel()
    await asyncio.gather(waiting, running, return_exceptions=True)
    gate.open()
    assert (await host.handle(REQUEST, 20.0)).model == "scripted@1.0.0"
    assert (await host.health()).queued == 0
    await host.drain(1.0)


async def test_a_tampered_version_is_not_served(spec: HostSpec) -> None:
    version = Store(spec.registry_root).get("scripted@1.0.0")
    script = version.path / "script.json"
    script.chmod(0o600)
    script.write_text(json.dumps({"tag": "9.9.9"}))
    host = Host(spec)
    with pytest.raises(ModelLoadError, match="altered"):
        await host.ready()
    with pytest.raises(SlmUnavailable, match="altered"):
        await host.handle(REQUEST, 1.0)
    await host.drain(1.0)
