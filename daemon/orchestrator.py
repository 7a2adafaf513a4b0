"""Runs a plan: small models side by side, each under its deadline, all under the turn's."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from time import perf_counter

import structlog

from actors.contract import Runtime
from actors.errors import ActorError, SlmDisabled, SlmFailed, SlmTimeout, SlmUnavailable
from actors.messages import Answer, Request, Result, Turn
from daemon.routing import Plan, Step

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Understanding:
    """What the small models made of a turn.

    `missing` maps a model that gave nothing to the error's code; `stages_s` is each step's time from call to answer;
    `model_time_s` is the longest chain of computing, the part of the turn that no orchestration could save.
    """

    answers: Mapping[str, Answer]
    missing: Mapping[str, str]
    stages_s: Mapping[str, float]
    model_time_s: float

    @property
    def models(self) -> dict[str, str]:
        """Which version answered for each small model."""
        return {slm: answer.model for slm, answer in self.answers.items()}

    def result(self, slm: str) -> Result | None:
        """A small model's result, None where it is missing."""
        answer = self.answers.get(slm)
        return answer.result if answer else None


class Orchestrator:
    """Runs plans on a runtime. A small model that fails, is slow or is down costs its own result alone."""

    def __init__(self, runtime: Runtime, turn_deadline_s: float) -> None:
        self._runtime = runtime
        self._turn_deadline_s = turn_deadline_s

    async def understand(self, plan: Plan, turn: Turn) -> Understanding:
        """Run every step; always returns, at the latest when the turn's deadline ends."""
        ends_at = perf_counter() + self._turn_deadline_s
        answers: dict[str, Answer] = {}
        missing = dict.fromkeys(plan.disabled, SlmDisabled.code)
        stages_s: dict[str, float] = {}
        tasks: dict[str, asyncio.Task[None]] = {}

        async def run(step: Step) -> None:
            before = [tasks[slm] for slm in step.after if slm in tasks]
            if before:
                await asyncio.wait(before)
            started = perf_counter()
            try:
                answers[step.slm] = await self._call(step, turn, answers, ends_at - started)
            except ActorError as error:
                missing[step.slm] = error.code
                # Where hosts are processes of their own nobody else tells; that another's result is missing is no news.
                if isinstance(error, SlmFailed | SlmUnavailable) and not _absent(step, answers):
                    log.warning("small_model_failed", slm=step.slm, code=error.code, error=str(error))
            finally:
                stages_s[step.slm] = perf_counter() - started

        async with asyncio.TaskGroup() as group:
            for step in plan.steps:
                tasks[step.slm] = group.create_task(run(step))
        return Understanding(answers, missing, stages_s, _longest_chain(plan, answers))

    async def again(self, step: Step, turn: Turn) -> Answer:
        """One step alone, for a turn that went without it. Raises: ActorError."""
        return await self._call(step, turn, {}, self._turn_deadline_s)

    async def _call(self, step: Step, turn: Turn, answers: Mapping[str, Answer], left_s: float) -> Answer:
        if absent := _absent(step, answers):
            raise SlmUnavailable(f"{step.slm} needs the result of {', '.join(absent)}")
        deadline_s = min(step.deadline_s, left_s)
        if deadline_s <= 0:
            raise SlmTimeout(f"{step.slm}: the turn's time is used up")
        request = Request(turn, {slm: answers[slm].result for slm in step.after})
        return await self._runtime.call(step.slm, request, deadline_s)


def _absent(step: Step, answers: Mapping[str, Answer]) -> list[str]:
    return [slm for slm in step.after if slm not in answers]


def _longest_chain(plan: Plan, answers: Mapping[str, Answer]) -> float:
    ends_s: dict[str, float] = {}
    for step in plan.steps:
        begins_s = max((ends_s[slm] for slm in step.after if slm in ends_s), default=0.0)
        ends_s[step.slm] = begins_s + (answers[step.slm].computed_s if step.slm in answers else 0.0)
    return max(ends_s.values(), default=0.0)
