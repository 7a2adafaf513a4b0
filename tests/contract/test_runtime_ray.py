"""What only Ray can break: processes that die, sockets and folders it opens, daemons that are killed."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from actors.contract import Runtime
from actors.errors import ModelLoadError, RayFailed, SlmTimeout, SlmUnavailable
from actors.messages import Classification
from actors.ray_runtime import RayRuntime
from config.settings import RaySettings
from tests.contract.conftest import Models, Start, scripted_settings, turn
from tests.contract.gates import Gate, eventually

DEADLINE_S = 30.0


@pytest.fixture
def kind(shared_ray: RaySettings) -> str:
    return "ray"


async def say(runtime: Runtime, text: str, deadline_s: float = DEADLINE_S) -> Classification:
    answer = await runtime.call("scripted", turn(text), deadline_s)
    assert isinstance(answer.result, Classification)
    return answer.result


async def pids(runtime: Runtime) -> list[int]:
    return [host.pid for host in await runtime.health()]


async def down(runtime: Runtime) -> bool:
    return all(host.state == "down" for host in await runtime.health())


async def kill_9(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    await eventually(lambda: not psutil.pid_exists(pid))


async def test_after_kill_9_the_host_comes_back_with_the_active_version(start: Start, models: Models) -> None:
    runtime = await start()
    models.publish("scripted@2.0.0", activate=True)
    assert (await say(runtime, "before")).category == "1.0.0"
    [pid] = await pids(runtime)
    await kill_9(pid)
    assert (await say(runtime, "after")).category == "2.0.0"
    [health] = await runtime.health()
    assert (health.state, health.model, health.restarts) == ("serving", "scripted@2.0.0", 1)
    assert health.pid != pid


async def test_a_call_in_flight_is_tried_again_after_the_restart(start: Start, gate: Gate) -> None:
    runtime = await start()
    call = asyncio.create_task(say(runtime, f"gate:{gate.path}"))
    await gate.reached()
    [pid] = await pids(runtime)
    await kill_9(pid)
    gate.open()
    await gate.reached()
    assert not call.done()
    gate.open()
    assert (await call).reason.startswith("gate")


async def test_another_replica_takes_over_at_once(start: Start, gate: Gate) -> None:
    runtime = await start(scripted={"replicas": 2})
    call = asyncio.create_task(say(runtime, f"gate:{gate.path}"))
    await gate.reached()
    busy = next(host.pid for host in await runtime.health() if host.queued)
    await kill_9(busy)
    gate.open()
    await gate.reached()
    gate.open()
    assert (await call).reason.startswith("gate")
    assert [(await say(runtime, str(number))).reason for number in range(5)] == list("01234")


async def test_a_request_that_kills_its_host_fails_and_the_next_is_served(start: Start) -> None:
    runtime = await start()
    with pytest.raises(SlmUnavailable):
        await say(runtime, "die")
    assert (await say(runtime, "next")).reason == "next"


async def test_a_call_to_a_host_that_is_away_ends_at_its_deadline(start: Start, models: Models, gate: Gate) -> None:
    models.publish("scripted@2.0.0", load_gate=str(gate.path))
    runtime = await start()
    models.activate("scripted@2.0.0")
    await kill_9((await pids(runtime))[0])

    async def refused() -> bool:
        try:
            await say(runtime, "hello", deadline_s=0.1)
        except SlmTimeout:  # until Ray has told us
            return False
        except SlmUnavailable:
            return True
        return False

    await eventually(refused)
    with pytest.raises(SlmUnavailable, match="restarting"):
        await say(runtime, "hello", deadline_s=0.1)
    assert await down(runtime)
    await gate.reached()
    gate.open()
    assert (await say(runtime, "back")).category == "2.0.0"


async def test_no_restarts_left_means_unavailable_at_once(start: Start) -> None:
    runtime = await start(scripted={"max_restarts": 0})
    await kill_9((await pids(runtime))[0])
    with pytest.raises(SlmUnavailable):
        await say(runtime, "hello")
    with pytest.raises(SlmUnavailable, match="dead"):
        await say(runtime, "hello")
    assert await down(runtime)


async def test_a_host_that_restarts_on_a_broken_version_says_so_and_a_swap_heals_it(
    start: Start, models: Models
) -> None:
    models.publish("scripted@2.0.0", broken=True)
    runtime = await start()
    models.activate("scripted@2.0.0")
    await kill_9((await pids(runtime))[0])
    with pytest.raises(SlmUnavailable, match="broken"):
        await say(runtime, "hello")
    assert await down(runtime)
    with pytest.raises(ModelLoadError):
        await runtime.swap("scripted", "scripted@2.0.0")
    await runtime.swap("scripted", "scripted@1.0.0")
    assert (await say(runtime, "healed")).category == "1.0.0"


async def test_hosts_see_no_gpu_nor_the_folder_that_shoal_was_started_in(start: Start) -> None:
    runtime = await start()
    [pid] = await pids(runtime)
    environment = psutil.Process(pid).environ()
    assert environment["RAY_USAGE_STATS_ENABLED"] == "0"
    import ray

    found: list[str] = ray.get(ray.remote(lambda: sys.path).remote())
    # The root of the tests is there because they put it into PYTHONPATH, and only after Ray's own folder.
    assert found.count(str(Path.cwd())) <= 1
    assert found[0] != str(Path.cwd())
    assert ray.get(ray.remote(lambda: ray.get_gpu_ids()).remote()) == []
    assert ray.cluster_resources().get("GPU", 0) == 0


def listeners(processes: list[psutil.Process]) -> set[str]:
    return {
        connection.laddr.ip
        for process in processes
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }


@asynccontextmanager
async def daemon(home: Path, **ray: Any) -> AsyncIterator[tuple[asyncio.subprocess.Process, dict[str, Any]]]:
    """A `ray_daemon` in a process group of its own, and what it said."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.contract.ray_daemon", str(home), json.dumps(ray)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdout
    try:
        async for line in process.stdout:
            if line.startswith(b'{"health"'):
                yield process, json.loads(line)
                return
        assert process.stderr
        raise AssertionError((await process.stderr.read()).decode())
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@pytest.mark.timeout(300)  # it starts Ray twice
async def test_a_private_ray_is_private_and_dies_with_a_killed_daemon(models: Models) -> None:
    home = models.root.parent
    async with daemon(home) as (process, said):
        assert said["model"] == "scripted@1.0.0"
        # Ray's own agents follow the daemon too, within a minute.
        family = [child for child in psutil.Process(process.pid).children(recursive=True) if not is_agent(child)]
        assert {host["pid"] for host in said["health"]} < {child.pid for child in family}
        assert {ip.removeprefix("::ffff:") for ip in listeners([psutil.Process(process.pid), *family])} == {"127.0.0.1"}
        os.killpg(process.pid, signal.SIGINT)  # what Ctrl-C does in a terminal
        process.kill()
        await process.wait()
        await eventually(lambda: not any(alive(child) for child in family))
    async with daemon(home) as (_, said):
        assert said["model"] == "scripted@1.0.0"


def is_agent(process: psutil.Process) -> bool:
    return process.cmdline()[0].strip() in ("ray::DashboardAgent", "ray::RuntimeEnvAgent")


def alive(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


async def test_joins_a_cluster_and_leaves_it_running(start: Start, models: Models) -> None:
    import ray

    ours = await start()
    address = ray.get_runtime_context().gcs_address
    async with daemon(models.root.parent, address=address, namespace="other") as (process, said):
        assert said["model"] == "scripted@1.0.0"
        assert process.stdin
        process.stdin.close()
        assert await process.wait() == 0
    assert (await say(ours, "still here")).reason == "still here"


async def test_two_daemons_in_one_namespace_are_refused(start: Start, models: Models, tmp_path: Path) -> None:
    await start()
    second = RayRuntime(scripted_settings(tmp_path, ray={"start_timeout_s": 0.5}), models.root)
    with pytest.raises(RayFailed, match="another Shoal"):
        await second.start()


@pytest.mark.parametrize(
    "ray",
    [{"address": "127.0.0.1:1", "start_timeout_s": 3.0}, {"object_store_mb": 1_000_000_000}],
    ids=["gone", "huge"],
)
async def test_a_ray_that_cannot_be_had_is_an_error(models: Models, ray: dict[str, Any]) -> None:
    with pytest.raises(AssertionError, match="RayFailed"):
        async with daemon(models.root.parent, **ray):
            pass
