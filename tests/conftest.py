"""Rules for every test: each module belongs to a category, and nothing of the person's own settings leaks in."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from actors.ray_runtime import connect, disconnect, set_environment
from config.logs import configure_logging
from config.settings import RaySettings, load_settings

ROOT = Path(__file__).parent
CATEGORIES = ("unit", "contract", "integration", "bench")
pytest_plugins = ["tests.neo4j.server"]

# Models and helpers of the tests are imported as tests.…, here and in Ray's workers.
sys.path.insert(0, str(ROOT.parent))
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT.parent), os.environ.get("PYTHONPATH"))))
# Before the unit tests import Ray, which they do only to forbid its use.
set_environment(private=True)
# A suite that a script started in the background ignores it, and so would every process that a test interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_configure(config: pytest.Config) -> None:
    for category in CATEGORIES:
        config.addinivalue_line("markers", f"{category}: the tests under tests/{category}")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        category = item.path.relative_to(ROOT).parts[0]
        if category not in CATEGORIES:
            raise pytest.UsageError(
                f"{item.path} must lie in one of {', '.join(f'tests/{name}' for name in CATEGORIES)}"
            )
        item.add_marker(category)


@pytest.fixture(autouse=True, scope="session")
def _no_settings_from_outside(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The tests see the defaults, whatever the person who runs them has configured for their own daemon."""
    for variable in [name for name in os.environ if name.startswith("SHOAL_") and not name.startswith("SHOAL_TEST_")]:
        del os.environ[variable]
    empty = tmp_path_factory.mktemp("config") / "shoal.toml"
    empty.touch()
    os.environ["SHOAL_CONFIG"] = str(empty)


@pytest.fixture(autouse=True)
def _logs_as_in_a_daemon() -> None:
    """Without this structlog would draw every traceback with its variables, and take a second for each."""
    configure_logging(load_settings().settings.log, sys.stderr)


@pytest.fixture(scope="session")
def shared_ray(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RaySettings]:
    """One private Ray for the whole run: runtimes that start beside it use it and leave it running."""
    settings = load_settings().settings
    lane = ThreadPoolExecutor(1)  # Ray's processes end with the thread that started them
    lane.submit(connect, settings.ray, tmp_path_factory.mktemp("ray")).result()
    yield settings.ray
    lane.submit(disconnect).result()
    lane.shutdown()
