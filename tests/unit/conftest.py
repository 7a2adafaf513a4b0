"""Unit tests run without Ray: one that starts it is in the wrong folder."""

from __future__ import annotations

from typing import NoReturn

import hypothesis
import pytest
import ray

# How long an example takes is the machine's affair: timings are asserted nowhere.
hypothesis.settings.register_profile("shoal", deadline=None)
hypothesis.settings.load_profile("shoal")


@pytest.fixture(autouse=True)
def _no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> NoReturn:
        raise RuntimeError("unit tests must not start Ray; move this one to tests/contract or tests/integration")

    monkeypatch.setattr(ray, "init", refuse)
