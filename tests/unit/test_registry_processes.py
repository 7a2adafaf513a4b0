"""The registry when several processes change it at once, when one dies at any point, and when the disk is full."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from registry.active import ActivePointers
from registry.disk import STAGING
from registry.errors import UnknownModel
from registry.store import Store
from registry.versions import Manifest
from tests.unit.test_registry import ME, write_version

PROGRAM = [sys.executable, str(Path(__file__).with_name("registry_processes.py"))]


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """Folders of versions, not yet registered."""
    for version in ("1.0.0", "2.0.0", "3.0.0"):
        write_version(tmp_path / "made" / version, version, weights=version.encode() * 3000)
    return tmp_path / "made"


@pytest.fixture
def active(tmp_path: Path, made: Path) -> ActivePointers:
    """A registry in which toy@1.0.0 and then toy@2.0.0 were activated."""
    active = ActivePointers(tmp_path / "registry")
    for version in ("1.0.0", "2.0.0"):
        active.store.register(write_version(made / f"again-{version}", version), made / f"again-{version}")
        active.activate(f"toy@{version}", **ME)
    return active


def run_at_once(*processes: list[object]) -> list[list[str]]:
    """Start all, let all go at the same moment, and return the error codes that each met."""
    running = [
        subprocess.Popen([*PROGRAM, *map(str, arguments)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for arguments in processes
    ]
    for process in running:
        assert process.stdout.readline() == "ready\n"
    for process in running:
        process.stdin.write("go\n")
        process.stdin.flush()
    codes = [json.loads(process.communicate(timeout=60)[0]) for process in running]
    assert [process.returncode for process in running] == [0] * len(running)
    return codes


def roots_after_crashes(active: ActivePointers, tmp_path: Path, action: str, argument: object) -> list[ActivePointers]:
    """The registries that a crash at each call left behind; the last one is of a run that ended."""
    results = tmp_path / "results"
    results.mkdir()
    command = [*PROGRAM, "crash_everywhere", active.root, results, action, str(argument)]
    subprocess.run(command, check=True, timeout=60)
    left = [ActivePointers(root) for root in sorted(results.iterdir())]
    assert len(left) > 5
    return left


def assert_history_is_a_chain(active: ActivePointers) -> None:
    changes = active.history("toy")
    versions = [None, *(change.to_version for change in changes)]
    assert [change.from_version for change in changes] == versions[:-1]
    assert changes[-1].to_version == active.current("toy")


def test_processes_that_register_the_same_version_all_succeed(tmp_path, made):
    root = tmp_path / "registry"
    assert run_at_once(*[["repeat", root, "register", made / "1.0.0", made / "2.0.0"]] * 4) == [[]] * 4
    assert Store(root).ids() == ["toy@1.0.0", "toy@2.0.0"]
    assert Store(root).verify("toy@1.0.0")
    assert list((root / STAGING).iterdir()) == []


def test_of_processes_that_register_different_content_one_wins(tmp_path, made):
    root = tmp_path / "registry"
    write_version(made / "other", "1.0.0", weights=b"other" * 3000)
    codes = run_at_once(*[["repeat", root, "register", made / folder] for folder in ("1.0.0", "other") * 2])
    assert Counter(map(tuple, codes)) == {(): 2, ("version_exists",): 2}
    assert Store(root).verify("toy@1.0.0")


def test_processes_that_move_one_pointer_lose_no_change(active):
    turns = ["toy@1.0.0", "toy@2.0.0"] * 5
    assert run_at_once(*[["repeat", active.root, "activate", *turns]] * 4) == [[]] * 4
    assert len(active.history("toy")) == 2 + 4 * len(turns)
    assert_history_is_a_chain(active)


def test_garbage_collection_beside_activation_never_takes_what_serves(active, made):
    active.store.register(write_version(made / "late", "3.0.0"), made / "late")
    codes = run_at_once(
        ["repeat", active.root, "activate", *["toy@1.0.0", "toy@2.0.0", "toy@3.0.0"] * 5],
        ["repeat", active.root, "collect", *[0] * 15],
    )
    assert {*codes[0]} <= {"unknown_version"}, "what was collected before its turn came"
    assert codes[1] == []
    assert active.store.verify(active.current("toy"))
    assert_history_is_a_chain(active)


def test_a_crash_at_any_point_of_an_activation_leaves_one_truth(active, tmp_path):
    left = roots_after_crashes(active, tmp_path, "activate", "toy@1.0.0")
    currents = [registry.current("toy") for registry in left]
    assert currents == sorted(currents, reverse=True), "once it is changed it stays changed"
    assert {*currents} == {"toy@1.0.0", "toy@2.0.0"}
    for registry in left:
        assert_history_is_a_chain(registry)
        assert len(registry.history("toy")) == 2 + (registry.current("toy") == "toy@1.0.0")
        registry.activate("toy@2.0.0", **ME)
        assert_history_is_a_chain(registry)
        recorded = (registry.root / "history" / "toy.jsonl").read_text().splitlines()
        assert len(recorded) == len(registry.history("toy")), "the file itself lacks nothing after the next change"


def test_a_crash_at_any_point_of_a_rollback_leaves_one_truth(active, tmp_path):
    for registry in roots_after_crashes(active, tmp_path, "rollback", "toy"):
        assert_history_is_a_chain(registry)
        assert registry.store.verify(registry.current("toy"))


def test_a_crash_at_any_point_of_a_registration_shows_all_or_nothing(active, made, tmp_path):
    seen = []
    for registry in roots_after_crashes(active, tmp_path, "register", made / "3.0.0"):
        store = registry.store
        seen.append("toy@3.0.0" in store.ids())
        assert [str(store.verify(version)) for version in store.ids()] == store.ids()
        assert registry.current("toy") == "toy@2.0.0"
        folder = made / f"next-{registry.root.name}"
        store.register(write_version(folder, "4.0.0"), folder)
        assert list((registry.root / STAGING).iterdir()) == [], "the next registration sweeps what the crash left"
    assert seen == sorted(seen)
    assert {*seen} == {False, True}


def test_a_crash_while_a_damaged_version_is_mended_can_be_mended_again(active, made, tmp_path):
    (active.store.get("toy@2.0.0").path / "weights.bin").write_bytes(b"")
    for registry in roots_after_crashes(active, tmp_path, "register", made / "again-2.0.0"):
        registry.store.register(Manifest.read(made / "again-2.0.0"), made / "again-2.0.0")
        assert registry.store.verify(registry.current("toy"))


def test_a_crash_at_any_point_of_garbage_collection_takes_no_more_than_it_should(active, made, tmp_path):
    for version in ("3.0.0", "4.0.0"):
        active.store.register(write_version(made / f"late-{version}", version), made / f"late-{version}")
    for registry in roots_after_crashes(active, tmp_path, "collect", 0):
        store = registry.store
        assert {"toy@1.0.0", "toy@2.0.0"} <= {*store.ids()}
        assert [str(store.verify(version)) for version in store.ids()] == store.ids()


def test_a_full_disk_makes_nothing_visible(tmp_path, made):
    root = tmp_path / "registry"
    assert run_at_once(["limited", root, "register", made / "1.0.0", 5000]) == [["registry_storage_failed"]]
    with pytest.raises(UnknownModel):
        Store(root).get("toy@1.0.0")
    assert list((root / STAGING).iterdir()) == []


def test_a_full_disk_leaves_the_old_version_active(active):
    assert run_at_once(["limited", active.root, "activate", "toy@1.0.0", 50]) == [["registry_storage_failed"]]
    assert active.current("toy") == "toy@2.0.0"
    assert len(active.history("toy")) == 2
    assert list((active.root / STAGING).iterdir()) == []


def test_a_change_whose_history_line_found_no_room_is_written_down_by_the_next(active):
    full = (active.root / "history" / "toy.jsonl").stat().st_size + 7
    assert run_at_once(["limited", active.root, "activate", "toy@1.0.0", full]) == [[]]
    assert active.current("toy") == "toy@1.0.0"
    assert_history_is_a_chain(active)
    assert run_at_once(["limited", active.root, "activate", "toy@2.0.0", full]) == [["registry_storage_failed"]]
    assert active.current("toy") == "toy@1.0.0"
    active.activate("toy@2.0.0", **ME)
    assert len((active.root / "history" / "toy.jsonl").read_text().splitlines()) == 4
    assert_history_is_a_chain(active)
