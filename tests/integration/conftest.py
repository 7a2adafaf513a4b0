"""One daemon for every test that does not kill it: Ray, the bundled models, the embedded graph."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.integration.daemon_process import DaemonProcess, daemon

HERE = Path(__file__).parent
# Starting everything takes a while where the machine is busy.
TIMEOUT_S = 300


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.timeout(TIMEOUT_S))


PATIENT = {"turn__deadline_s": 30, **{f"slm__{slm}__deadline_s": 10 for slm in ("encoder", "extractor", "classifier")}}
"""A busy machine is no reason for a turn to go without a small model here: deadlines have tests of their own."""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a path short enough for a socket's."""
    with tempfile.TemporaryDirectory(prefix="shoal-") as name:
        yield Path(name)


@pytest.fixture(scope="session")
async def shoal() -> AsyncIterator[DaemonProcess]:
    """The shared daemon. Each test speaks as a user of its own. In the end nothing waits, and nothing went wrong."""
    with tempfile.TemporaryDirectory(prefix="shoal-") as name:
        async with daemon(Path(name), **PATIENT) as running:
            yield running
            report = await running.drained()
            assert report.dead_letters == 0
            running.process.terminate()
            assert await running.ended() == 0
        assert "Traceback" not in running.log
        assert "shoal stopped" in running.told
