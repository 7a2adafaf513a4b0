"""The orchestrator over the in-process contract of a runtime: deadlines, failures and what they cost."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from time import perf_counter

import pytest
from structlog.testing import capture_logs

from actors.errors import ActorError, SlmFailed, SlmTimeout, SlmUnavailable
from actors.messages import Answer, Encoding, HostHealth, Request, Turn
from daemon.orchestrator import Orchestrator
from daemon.routing import Plan, Step

TURN = Turn(id="t", user="me", session="s", speaker="user", text="hi", said_at=0.0)


class Scripted:
    """A runtime whose small models do what the test says: answer at once, wait for an event, or fail."""

    def __init__(self, behaviour: Mapping[str, Callable[[], object] | ActorError] | None = None) -> None:
        self.behaviour = dict(behaviour or {})
        self.calls: list[tuple[str, tuple[str, ...]]] = []

    async def start(self) -> None:
        """Nothing to start."""

    async def call(self, slm: str, request: Request, deadline_s: float) -> Answer:
        self.calls.append((slm, tuple(request.upstream)))
        behaviour = self.behaviour.get(slm)
        if isinstance(behaviour, ActorError):
            raise behaviour
        try:
            async with asyncio.timeout(deadline_s):
                if behaviour is not None:
                    await behaviour()  # type: ignore[misc]
        except TimeoutError:
            raise SlmTimeout(slm) from None
        return Answer(Encoding(slm.encode()), f"{slm}@1.0.0", 0.0, 0.25)

    async def swap(self, slm: str, version: str) -> None:
        """Not used here."""

    async def health(self) -> Sequence[HostHealth]:
        return []

    async def stop(self, drain_timeout_s: float) -> None:
        """Nothing to stop."""


def steps(*named: tuple[str, tuple[str, ...]], deadline_s: float = 5.0) -> Plan:
    return Plan(tuple(Step(slm, after, deadline_s) for slm, after in named))


async def test_a_step_gets_the_results_it_waits_for() -> None:
    runtime = Scripted()

    understanding = await Orchestrator(runtime, 5).understand(steps(("a", ()), ("b", ("a",)), ("c", ())), TURN)

    assert set(understanding.answers) == {"a", "b", "c"}
    assert dict(runtime.calls) == {"a": (), "b": ("a",), "c": ()}
    assert understanding.models == {"a": "a@1.0.0", "b": "b@1.0.0", "c": "c@1.0.0"}


async def test_independent_steps_run_side_by_side() -> None:
    meeting = asyncio.Barrier(2)
    runtime = Scripted({"a": meeting.wait, "b": meeting.wait})

    understanding = await Orchestrator(runtime, 5).understand(steps(("a", ()), ("b", ())), TURN)

    assert not understanding.missing


async def test_model_time_is_the_longest_chain() -> None:
    understanding = await Orchestrator(Scripted(), 5).understand(steps(("a", ()), ("b", ("a",)), ("c", ())), TURN)

    assert understanding.model_time_s == pytest.approx(0.5)


async def test_a_failure_costs_its_own_result_and_those_that_need_it() -> None:
    runtime = Scripted({"a": SlmFailed("broken")})

    understanding = await Orchestrator(runtime, 5).understand(steps(("a", ()), ("b", ("a",)), ("c", ())), TURN)

    assert understanding.missing == {"a": "slm_failed", "b": "slm_unavailable"}
    assert set(understanding.answers) == {"c"}
    assert ("b", ()) not in runtime.calls


async def test_why_a_small_model_failed_is_logged() -> None:
    runtime = Scripted(
        {"a": SlmFailed("ValueError in x.py:1"), "c": SlmUnavailable("c-0: dead"), "d": ActorError("hi")}
    )
    plan = steps(("a", ()), ("b", ("a",)), ("c", ()), ("d", ()))

    with capture_logs() as logged:
        await Orchestrator(runtime, 5).understand(plan, TURN)

    assert [(line["slm"], line["code"], line["error"]) for line in logged] == [
        ("a", "slm_failed", "ValueError in x.py:1"),
        ("c", "slm_unavailable", "c-0: dead"),
    ]
    assert {line["log_level"] for line in logged} == {"warning"}


async def test_what_is_switched_off_is_reported_as_missing() -> None:
    understanding = await Orchestrator(Scripted(), 5).understand(Plan((), disabled=("a",)), TURN)

    assert understanding.missing == {"a": "slm_disabled"}


async def test_the_turn_ends_at_its_deadline_however_slow_the_models_are() -> None:
    runtime = Scripted({"a": asyncio.Event().wait})
    started = perf_counter()

    understanding = await Orchestrator(runtime, 0.05).understand(steps(("a", ()), ("b", ())), TURN)

    assert understanding.missing == {"a": "slm_timeout"}
    assert set(understanding.answers) == {"b"}
    assert understanding.stages_s["a"] == pytest.approx(perf_counter() - started, abs=1.0)


async def test_a_step_alone_for_a_turn_that_went_without_it() -> None:
    answer = await Orchestrator(Scripted(), 5).again(Step("a", (), 1.0), TURN)

    assert answer.model == "a@1.0.0"
