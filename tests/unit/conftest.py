"""Unit tests run without Ray: one that starts it is in the wrong folder."""

from __future__ import annotations

from typing import NoReturn

import pytest
import ray


@pytest.fixture(autouse=True)
def _no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> NoReturn:
        raise RuntimeError("unit tests must not start Ray; move this one to tests/contract or tests/integration")

    monkeypatch.setattr(ray, "init", refuse)
