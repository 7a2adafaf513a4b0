"""Which small models an event needs, and in which order: pure, from the settings alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Literal, TypeAlias

from config.settings import SlmSettings
from daemon.errors import PlanError

EventKind: TypeAlias = Literal["text", "partial", "audio", "answer"]


@dataclass(frozen=True, slots=True)
class Step:
    """One small model of a plan. It starts when every model in `after` has ended, well or not."""

    slm: str
    after: tuple[str, ...]
    deadline_s: float


@dataclass(frozen=True, slots=True)
class Plan:
    """The steps for one kind of event, predecessors first. `disabled` names what the settings switched off."""

    steps: tuple[Step, ...]
    disabled: tuple[str, ...] = ()


def make_plan(kind: EventKind, slms: Mapping[str, SlmSettings]) -> Plan:
    """The plan for a kind of event. Raises: PlanError when the settings order the models in a circle."""
    wanted = {name: slm for name, slm in slms.items() if kind in slm.events}
    try:
        order = tuple(TopologicalSorter({name: slm.after for name, slm in wanted.items()}).static_order())
    except CycleError as error:
        raise PlanError(f"slm: `after` goes round in a circle: {' -> '.join(error.args[1])}") from None
    return Plan(
        steps=tuple(
            Step(name, wanted[name].after, wanted[name].deadline_s)
            for name in order
            if name in wanted and wanted[name].enabled
        ),
        disabled=tuple(name for name in wanted if not wanted[name].enabled),
    )
