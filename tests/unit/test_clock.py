"""The clock that turns are dated by."""

from __future__ import annotations

import pytest

from daemon import clock
from daemon.clock import BELIEVED_S, Clock

NOW = 1_770_000_000.0


def given(monkeypatch: pytest.MonkeyPatch, own: Clock, *machine: float) -> list[float]:
    times = iter(machine)
    monkeypatch.setattr(clock.time, "time", lambda: next(times))
    return [own.now() for _ in machine]


def test_a_clock_that_steps_back_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    times = given(monkeypatch, Clock(), NOW, NOW - 7200, NOW - 7199, NOW + 1)
    assert times == sorted(set(times))
    assert times[0] == NOW
    assert times[-1] == NOW + 1


def test_the_last_time_of_an_earlier_process_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    assert given(monkeypatch, Clock(NOW), NOW - 60)[0] > NOW


def test_a_clock_that_was_years_ahead_freezes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    ahead = NOW + BELIEVED_S + 1
    assert given(monkeypatch, Clock(ahead), NOW, NOW + 1) == [NOW, NOW + 1]
    assert given(monkeypatch, Clock(), ahead, NOW, NOW + 1) == [ahead, NOW, NOW + 1]
