"""Which small models an event needs, and in which order: pure, from the settings alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from graphlib import TopologicalSorter
from typing import Literal, TypeAlias

from config.settings import SlmSettings

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
    """The plan for a kind of event. The settings have refused a circle of `after` already."""
    wanted = {name: slm for name, slm in slms.items() if kind in slm.events}
    order = tuple(TopologicalSorter({name: slm.after for name, slm in wanted.items()}).static_order())
    return Plan(
        steps=tuple(
            Step(name, wanted[name].after, wanted[name].deadline_s)
            for name in order
            if name in wanted and wanted[name].enabled
        ),
        disabled=tuple(name for name in wanted if not wanted[name].enabled),
    )
