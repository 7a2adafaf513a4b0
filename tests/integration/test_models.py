"""Model versions under a running daemon: swapped under load, rolled back, and refused when damaged."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from actors.generator import CONFIG
from daemon.client import RequestFailed
from daemon.protocol import ActivateModel, Ingested, ModelActivated, RollbackModel
from registry.active import ActivePointers
from registry.store import Store
from registry.versions import ModelVersion, describe_files
from tests.contract.tiny_models import chat_server, completion
from tests.integration.conversation import assert_just_what_was_announced, demo, recall, say
from tests.integration.daemon_process import DaemonProcess

SWAPS, CLIENTS = 100, 4


@pytest.fixture
def twin(shoal: DaemonProcess) -> tuple[str, str]:
    """The classifier's active version, and a second one with the same files."""
    store = Store(shoal.settings.registry_root)
    active = store.get(ActivePointers(shoal.settings.registry_root).current("classifier"))
    return str(active), str(copied(store, active, "99.0.0"))


def copied(store: Store, version: ModelVersion, number: str) -> ModelVersion:
    return store.register(version.manifest.model_copy(update={"version": number}), version.path)


async def serving(shoal: DaemonProcess) -> str:
    return (await shoal.status()).models["classifier"]


async def test_a_hundred_swaps_under_load_fail_no_turn(shoal: DaemonProcess, twin: tuple[str, str]) -> None:
    replies: list[Ingested] = []
    swapping = True

    async def talk(number: int) -> None:
        texts = [text for speaker, text in demo() if speaker == "user"]
        async with shoal.client() as client:
            at = number
            while swapping:
                replies.append(await say(client, texts[at % len(texts)], user="swaps", session=f"swaps {number}"))
                at += 1

    async with asyncio.TaskGroup() as load:
        for number in range(CLIENTS):
            load.create_task(talk(number))
        async with shoal.client() as client:
            before = twin[0]
            for swap in range(SWAPS):
                wanted = twin[(swap + 1) % 2]
                request = ActivateModel(version=wanted, who="test", why=f"swap {swap}")
                moved = await client.request(request, ModelActivated)
                assert (moved.version, moved.previous) == (wanted, before)
                before = wanted
        swapping = False

    assert len(replies) > SWAPS
    assert [reply.missing for reply in replies if reply.missing] == []
    assert {reply.models["classifier"] for reply in replies} == set(twin)
    await shoal.stored(max(reply.seq for reply in replies))
    async with shoal.client() as client:
        assert_just_what_was_announced(await recall(client, "swaps"), replies)
    report = await shoal.status()
    assert {actor["slm"]: actor["failed"] for actor in report.actors}["classifier"] == 0
    assert report.models["classifier"] == twin[0]


async def test_one_command_rolls_back_and_the_history_tells(shoal: DaemonProcess, twin: tuple[str, str]) -> None:
    first, second = twin
    command = [sys.executable, "-m", "daemon", "--set", f"home={shoal.settings.home}"]
    command += ["--set", f"runtime_dir={shoal.settings.runtime_dir}", "models"]

    def run(*arguments: str) -> str:
        done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=True, timeout=60)
        return done.stdout

    activated = await asyncio.to_thread(run, "activate", second, "--why", "to try it")
    assert activated == f"{second} serves (before: {first})\n"
    assert await serving(shoal) == second
    async with shoal.client() as client:
        assert (await say(client, "Is it raining?", user="rolls")).models["classifier"] == second
    rolled = await asyncio.to_thread(run, "rollback", "classifier", "--why", "it was no better")
    assert rolled == f"{first} serves (before: {second})\n"
    assert await serving(shoal) == first
    async with shoal.client() as client:
        assert (await say(client, "Is it raining?", user="rolls")).models["classifier"] == first
    *_, tried, back = ActivePointers(shoal.settings.registry_root).history("classifier")
    assert (tried.action, tried.from_version, tried.to_version, tried.why) == ("activate", first, second, "to try it")
    assert (back.action, back.from_version, back.to_version) == ("rollback", second, first)
    shown = await asyncio.to_thread(run, "history", "classifier")
    assert "it was no better" in shown


async def test_a_damaged_version_is_refused_and_the_old_one_serves_on(
    shoal: DaemonProcess, twin: tuple[str, str]
) -> None:
    store = Store(shoal.settings.registry_root)
    damaged = copied(store, store.get(twin[0]), "99.1.0")
    spoil(damaged.path / damaged.manifest.files[-1].path)
    async with shoal.client() as client:
        for request in (
            ActivateModel(version=str(damaged), who="test", why="it is damaged"),
            RollbackModel(name="classifier", to=str(damaged), who="test", why="it is damaged"),
        ):
            with pytest.raises(RequestFailed) as refused:
                await client.request(request, ModelActivated)
            assert refused.value.code in ("version_corrupt", "model_load_failed")
            assert str(damaged) in str(refused.value)
            reply = await say(client, "Is it raining in Graz?", user="damaged")
            assert reply.models["classifier"] == twin[0]
            assert not reply.missing
    assert (await shoal.status()).state == "ready"


async def test_a_generating_version_extracts_by_being_activated_and_the_one_pass_model_stands_in(
    shoal: DaemonProcess, tmp_path: Path
) -> None:
    said = {
        "entities": [{"text": "sister", "type": "PERSON"}, {"text": "Lisbon", "type": "LOCATION"}],
        "relations": [{"subject": "sister", "predicate": "resides_in", "object": "Lisbon", "status": "asserted"}],
    }

    def answer(body: Mapping[str, Any]) -> tuple[int, Any]:
        asked = body["messages"][-1]["content"]
        return (
            (200, completion(json.dumps(said)))
            if asked.endswith("Lisbon.")
            else (500, {"error": {"message": "too warm"}})
        )

    store = Store(shoal.settings.registry_root)
    one_pass = store.get(ActivePointers(shoal.settings.registry_root).current("extractor"))
    with chat_server(answer) as address:
        (tmp_path / CONFIG).write_text(json.dumps({"base_url": address, "model": "recorded", "trust": 0.9}))
        changes = {"version": "99.0.0", "runtime": "openai", "files": describe_files(tmp_path), "quality": {}}
        generating = store.register(one_pass.manifest.model_copy(update=changes), tmp_path)
        async with shoal.client() as client:
            await client.request(ActivateModel(version=str(generating), who="test", why="to try it"), ModelActivated)
            told = await say(client, "My sister moved to Lisbon.", user="generates")
            stood_in = await say(client, "Emma lives in Porto.", user="generates")
            await client.request(RollbackModel(name="extractor", who="test", why="tried"), ModelActivated)
            after = await say(client, "Tom works in Graz.", user="generates")
    assert [reply.models["extractor"] for reply in (told, stood_in, after)] == [
        str(generating), str(one_pass), str(one_pass)
    ]  # fmt: skip
    assert [reply.understood["extractor"].get("stood_in") for reply in (told, after)] == [None, None]
    assert stood_in.understood["extractor"]["stood_in"]["model"] == str(one_pass)
    await shoal.stored(after.seq)
    async with shoal.client() as client:
        facts = await recall(client, "generates")
    assert ("lives_in", "Lisbon", [str(generating)]) in [
        (fact["predicate"], fact["object"], [m for m in fact["models"] if m.startswith("extractor")]) for fact in facts
    ]


def spoil(file: Path) -> None:
    """One byte is another one."""
    file.parent.chmod(0o700)
    file.chmod(0o600)
    raw = bytearray(file.read_bytes())
    raw[len(raw) // 2] ^= 0xFF
    file.write_bytes(raw)
