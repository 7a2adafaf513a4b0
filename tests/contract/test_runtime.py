"""What every runtime promises, proved on each of them with real models, versions and threads or processes."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from actors.contract import Runtime
from actors.errors import (
    ModelLoadError,
    RequestRejected,
    SlmDisabled,
    SlmFailed,
    SlmOverloaded,
    SlmTimeout,
    SlmUnavailable,
    StartTimeout,
    UnknownSlm,
)
from actors.messages import Answer, Classification, Request
from tests.contract.conftest import Models, Start, turn
from tests.contract.gates import Gate, eventually

DEADLINE_S = 20.0


async def say(runtime: Runtime, text: str, deadline_s: float = DEADLINE_S) -> Classification:
    answer = await runtime.call("scripted", turn(text), deadline_s)
    assert isinstance(answer.result, Classification)
    return answer.result


async def queued(runtime: Runtime, count: int) -> None:
    async def waiting() -> bool:
        return sum(host.queued for host in await runtime.health()) >= count

    await eventually(waiting)


async def failed(runtime: Runtime, count: int) -> None:
    async def ended() -> bool:
        return sum(host.failed for host in await runtime.health()) >= count

    await eventually(ended)


async def test_answers_with_the_version_and_the_times(start: Start) -> None:
    runtime = await start()
    answer = await runtime.call("scripted", turn("hello"), DEADLINE_S)
    assert isinstance(answer, Answer)
    assert answer.model == "scripted@1.0.0"
    assert isinstance(answer.result, Classification)
    assert answer.result.reason == "hello"
    assert answer.waited_s >= 0
    assert answer.computed_s >= 0


async def test_batches_what_arrives_while_busy_and_answers_each_its_own(start: Start, gate: Gate) -> None:
    runtime = await start(scripted={"max_batch": 4})
    first = asyncio.create_task(say(runtime, f"gate:{gate.path}"))
    await gate.reached()
    later = [asyncio.create_task(say(runtime, str(number))) for number in range(6)]
    await queued(runtime, 7)
    gate.open()
    assert (await first).research_confidence == 1
    results = await asyncio.gather(*later)
    assert [result.reason for result in results] == [str(number) for number in range(6)]
    # Who comes into which batch is Ray's to say: calls that are made at once may overtake one another.
    assert sorted(result.research_confidence for result in results) == [2, 2, 4, 4, 4, 4]


async def test_a_deadline_ends_the_call_and_what_expired_is_not_computed(start: Start, gate: Gate) -> None:
    runtime = await start()
    running = asyncio.create_task(say(runtime, f"gate:{gate.path}"))
    await gate.reached()
    with pytest.raises(SlmTimeout):
        await say(runtime, "late", deadline_s=0.05)
    await failed(runtime, 1)
    gate.open()
    await running
    after = await say(runtime, "after")
    assert after.memory_confidence == 2  # the gate and this one


async def test_a_model_that_hangs_is_down_and_comes_back(start: Start, gate: Gate, kind: str) -> None:
    runtime = await start(scripted={"hang_timeout_s": 5.0})
    hanging = asyncio.create_task(say(runtime, f"gate:{gate.path}", deadline_s=4.0))
    await gate.reached()
    with pytest.raises(SlmTimeout):  # before the restart, or it would be tried again and hang again
        await hanging

    async def hangs() -> bool:
        return [(host.state, host.hung) for host in await runtime.health()] == [("down", True)]

    async def restarted() -> bool:
        return any(host.restarts for host in await runtime.health())

    async def serves() -> bool:
        return [host.state for host in await runtime.health()] == ["serving"]

    await eventually(hangs)
    if kind == "local":  # a thread cannot be killed: it serves again if ever it ends
        with pytest.raises(SlmUnavailable, match="hangs"):
            await say(runtime, "hello")
        gate.open()
    else:
        await eventually(restarted)
    await eventually(serves)
    assert (await say(runtime, "hello")).reason == "hello"


async def test_no_time_left_is_a_timeout(start: Start) -> None:
    runtime = await start()
    with pytest.raises(SlmTimeout):
        await say(runtime, "hello", deadline_s=0.0)


async def test_a_full_queue_refuses_at_once_and_serves_on(start: Start, gate: Gate) -> None:
    runtime = await start(scripted={"max_queued": 3})
    running = asyncio.create_task(say(runtime, f"gate:{gate.path}"))
    await gate.reached()
    waiting = [asyncio.create_task(say(runtime, str(number))) for number in range(3)]
    await queued(runtime, 4)
    with pytest.raises(SlmOverloaded):
        await say(runtime, "one too many")
    gate.open()
    await asyncio.gather(running, *waiting)
    assert (await say(runtime, "room again")).reason == "room again"


async def test_calls_that_timed_out_leave_the_queue(start: Start, gate: Gate) -> None:
    runtime = await start(scripted={"max_queued": 2})
    running = asyncio.create_task(say(runtime, f"gate:{gate.path}"))
    await gate.reached()
    late = [say(runtime, "late", deadline_s=0.05) for _ in range(2)]
    assert [type(error) for error in await asyncio.gather(*late, return_exceptions=True)] == [SlmTimeout, SlmTimeout]
    await failed(runtime, 2)
    waiting = asyncio.create_task(say(runtime, "in time"))
    await queued(runtime, 2)
    gate.open()
    await running
    assert (await waiting).reason == "in time"


async def test_bad_requests_fail_alone(start: Start, gate: Gate) -> None:
    bad = {"reject": RequestRejected, "raise": SlmFailed, "exit": SlmFailed, "stop": SlmFailed, "short": SlmFailed}
    runtime = await start()
    running = asyncio.create_task(say(runtime, f"gate:{gate.path}"))
    await gate.reached()
    batch = [asyncio.create_task(say(runtime, text)) for text in ("one", *bad, "two")]
    await queued(runtime, 8)
    gate.open()
    await running
    one, *errors, two = await asyncio.gather(*batch, return_exceptions=True)
    assert isinstance(one, Classification)
    assert isinstance(two, Classification)
    assert (one.reason, two.reason) == ("one", "two")
    assert [type(error) for error in errors] == list(bad.values())


async def test_a_failure_does_not_repeat_what_was_said(start: Start) -> None:
    runtime = await start()
    with pytest.raises(SlmFailed) as failure:
        await say(runtime, "raise")
    assert "ValueError" in str(failure.value)
    assert "user said" not in str(failure.value)


async def test_a_hundred_swaps_under_load_fail_nothing(start: Start, models: Models) -> None:
    models.publish("scripted@2.0.0")
    runtime = await start()
    stop = False
    answered: list[str] = []

    async def speak() -> None:
        while not stop:
            answered.append((await say(runtime, "hello")).category)

    speakers = [asyncio.create_task(speak()) for _ in range(4)]
    for number in range(100):
        version = ("scripted@2.0.0", "scripted@1.0.0")[number % 2]
        await runtime.swap("scripted", version)
        assert (await runtime.call("scripted", turn("which"), DEADLINE_S)).model == version
    stop = True
    await asyncio.gather(*speakers)
    assert set(answered) == {"1.0.0", "2.0.0"}


async def test_a_swap_loads_beside_and_closes_the_old_after_its_last_batch(
    start: Start, models: Models, gate: Gate, tmp_path: Path
) -> None:
    closed = tmp_path / "closed"
    models.publish("scripted@1.1.0", activate=True, closed=str(closed))
    models.publish("scripted@2.0.0")
    runtime = await start()
    running = asyncio.create_task(say(runtime, f"gate:{gate.path}"))
    await gate.reached()
    waiting = asyncio.create_task(say(runtime, "next batch"))
    await queued(runtime, 2)
    await runtime.swap("scripted", "scripted@2.0.0")
    assert not closed.exists()
    gate.open()
    assert (await running).category == "1.1.0"
    assert (await waiting).category == "2.0.0"
    await eventually(closed.exists)


async def test_serves_on_while_a_swap_loads(start: Start, models: Models, gate: Gate) -> None:
    models.publish("scripted@2.0.0", load_gate=str(gate.path))
    runtime = await start()
    swap = asyncio.create_task(runtime.swap("scripted", "scripted@2.0.0"))
    await gate.reached()
    assert (await say(runtime, "meanwhile")).category == "1.0.0"
    gate.open()
    await swap
    assert (await say(runtime, "now")).category == "2.0.0"


async def test_a_failing_swap_keeps_the_old(start: Start, models: Models) -> None:
    models.publish("scripted@2.0.0", broken=True)
    models.publish("other@1.0.0")
    runtime = await start(scripted={"replicas": 2})
    for version in ("scripted@2.0.0", "scripted@9.9.9", "other@1.0.0", "nonsense"):
        with pytest.raises(ModelLoadError):
            await runtime.swap("scripted", version)
    assert (await say(runtime, "still here")).category == "1.0.0"
    assert {host.model for host in await runtime.health()} == {"scripted@1.0.0"}


async def test_a_swap_that_takes_too_long_keeps_the_old(start: Start, models: Models, gate: Gate) -> None:
    models.publish("scripted@2.0.0", load_gate=str(gate.path))
    runtime = await start(scripted={"load_timeout_s": 2.0})
    with pytest.raises(ModelLoadError, match="not loaded in"):
        await runtime.swap("scripted", "scripted@2.0.0")
    assert (await say(runtime, "still here")).category == "1.0.0"
    await gate.reached()
    gate.open()


async def test_unknown_and_disabled_models_are_told_apart(start: Start) -> None:
    runtime = await start()
    with pytest.raises(UnknownSlm):
        await runtime.call("nobody", turn("hello"), DEADLINE_S)
    with pytest.raises(SlmDisabled):
        await runtime.call("encoder", turn("hello"), DEADLINE_S)
    with pytest.raises(UnknownSlm):
        await runtime.swap("nobody", "scripted@1.0.0")


async def test_health_tells_every_replica(start: Start) -> None:
    runtime = await start(scripted={"replicas": 2})
    await say(runtime, "hello")
    with pytest.raises(SlmFailed):
        await say(runtime, "raise")
    health = await runtime.health()
    assert sorted((host.slm, host.replica, host.state, host.model) for host in health) == [
        ("scripted", 0, "serving", "scripted@1.0.0"),
        ("scripted", 1, "serving", "scripted@1.0.0"),
    ]
    assert sum(host.answered for host in health) == 1
    assert sum(host.failed for host in health) == 1
    assert all(host.pid > 0 and host.rss_bytes > 1_000_000 and host.restarts == 0 for host in health)


async def test_a_busy_replica_leaves_the_work_to_the_other(start: Start, gate: Gate) -> None:
    runtime = await start(scripted={"replicas": 2})
    running = asyncio.create_task(say(runtime, f"gate:{gate.path}"))
    await gate.reached()
    assert [(await say(runtime, str(number))).reason for number in range(5)] == list("01234")
    gate.open()
    await running


async def test_a_model_that_cannot_load_stops_the_start(start: Start, models: Models) -> None:
    models.publish("scripted@2.0.0", activate=True, broken=True)
    with pytest.raises(ModelLoadError, match="broken"):
        await start()


async def test_an_implementation_that_is_not_there_stops_the_start(start: Start) -> None:
    with pytest.raises(ModelLoadError, match="Missing"):
        await start(scripted={"implementation": "tests.contract.slms:Missing"})


async def test_a_model_that_hangs_while_loading_stops_the_start(start: Start, models: Models, gate: Gate) -> None:
    models.publish("scripted@2.0.0", activate=True, load_gate=str(gate.path))
    with pytest.raises(StartTimeout):
        await start(scripted={"load_timeout_s": 1.0}, ray={"start_timeout_s": 4.0})


async def test_stop_lets_running_calls_end_and_refuses_new_ones(start: Start, gate: Gate) -> None:
    runtime = await start()
    running = asyncio.create_task(say(runtime, f"gate:{gate.path}"))
    await gate.reached()
    waiting = asyncio.create_task(say(runtime, "taken before the stop"))
    await queued(runtime, 2)
    stopping = asyncio.create_task(runtime.stop(DEADLINE_S))
    await asyncio.sleep(0)
    with pytest.raises(SlmUnavailable):
        await say(runtime, "too late")
    gate.open()
    assert (await running).reason.startswith("gate")
    assert (await waiting).reason == "taken before the stop"
    await stopping


async def test_every_call_ends_when_the_drain_runs_out(start: Start, gate: Gate) -> None:
    runtime = await start()
    calls = [asyncio.create_task(say(runtime, f"gate:{gate.path}"))]
    await gate.reached()
    calls += [asyncio.create_task(say(runtime, "never computed")) for _ in range(5)]
    await queued(runtime, 6)
    await runtime.stop(0.05)
    ended = await asyncio.gather(*calls, return_exceptions=True)
    assert {type(error) for error in ended} == {SlmUnavailable}


async def test_stop_is_safe_to_call_twice_and_before_start(start: Start) -> None:
    runtime = await start()
    await runtime.stop(1.0)
    await runtime.stop(1.0)
    with pytest.raises(SlmUnavailable):
        await say(runtime, "hello")


async def test_one_more_small_model_needs_only_its_file_its_block_and_its_version(start: Start, models: Models) -> None:
    models.publish("shouting@1.0.0", activate=True)
    block: dict[str, Any] = {
        "implementation": "tests.contract.slms:Shouting",
        "model": "shouting",
        "events": ["text"],
        "after": ["scripted"],
    }
    runtime = await start(shouting=block)
    earlier = await say(runtime, "hello")
    answer = await runtime.call("shouting", Request(turn("").turn, {"scripted": earlier}), DEADLINE_S)
    assert answer.model == "shouting@1.0.0"
    assert isinstance(answer.result, Classification)
    assert answer.result.reason == "HELLO"
