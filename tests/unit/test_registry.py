import json
import os
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from registry.active import ActivePointers
from registry.bundled import BUNDLED, register_bundled
from registry.disk import STAGING, exclusive, staging
from registry.errors import (
    InvalidVersionId,
    NothingActive,
    NothingToRollBack,
    PointerCorrupt,
    RegistryBusy,
    ReservedName,
    UnknownModel,
    UnknownVersion,
    VersionCorrupt,
    VersionExists,
)
from registry.garbage import collect_garbage
from registry.store import Store
from registry.versions import (
    MANIFEST,
    FileEntry,
    Manifest,
    ModelVersion,
    check_files,
    describe_files,
    parse_id,
    precedence,
)

CREATED = datetime(2026, 11, 1, tzinfo=UTC)
ME = {"who": "ana", "why": "to see"}


def write_version(folder: Path, version: str, weights: bytes = b"weights", name: str = "toy") -> Manifest:
    """A version's folder as training leaves it: two files, one of them in a subfolder, and the manifest."""
    (folder / "vocabulary").mkdir(parents=True)
    (folder / "weights.bin").write_bytes(weights)
    (folder / "vocabulary" / "words.txt").write_text(version)
    manifest = Manifest(
        name=name,
        version=version,
        kind="classifier",
        runtime="onnx",
        files=describe_files(folder),
        licence="Apache-2.0",
        trained_from=("hand-written",),
        quality={"category": {"accuracy": 0.5}},
        created_at=CREATED,
    )
    (folder / MANIFEST).write_text(manifest.content)
    return manifest


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "home" / "registry"


@pytest.fixture
def store(root: Path) -> Store:
    return Store(root)


@pytest.fixture
def active(root: Path) -> ActivePointers:
    return ActivePointers(root)


@pytest.fixture
def add(store: Store, tmp_path: Path) -> Callable[..., ModelVersion]:
    def register(version: str, **content: bytes | str) -> ModelVersion:
        folder = tmp_path / "made" / f"{len(list(tmp_path.glob('made/*')))}"
        return store.register(write_version(folder, version, **content), folder)

    return register


# Registering and reading


def test_a_registered_version_holds_exactly_what_its_manifest_lists(add, store):
    registered = add("1.0.0")
    assert str(registered) == "toy@1.0.0"
    assert store.verify("toy@1.0.0") == registered
    assert (registered.path / "weights.bin").read_bytes() == b"weights"
    assert (registered.path / "vocabulary" / "words.txt").read_text() == "1.0.0"
    assert Manifest.read(registered.path).quality == {"category": {"accuracy": 0.5}}


def test_what_the_manifest_does_not_list_is_not_copied(store, tmp_path):
    manifest = write_version(tmp_path / "made", "1.0.0")
    (tmp_path / "made" / "README.md").write_text("card")
    assert not (store.register(manifest, tmp_path / "made").path / "README.md").exists()


def test_only_this_user_can_read_any_of_it(add, active, root):
    add("1.0.0")
    active.activate("toy@1.0.0", **ME)
    everything = [root.parent, root, *root.rglob("*")]
    assert {path.stat().st_mode & 0o777 for path in everything if path.is_dir()} == {0o700}
    assert {path.stat().st_mode & 0o777 for path in everything if path.is_file()} == {0o600}


def test_registering_the_same_again_changes_nothing(add, root):
    before = add("1.0.0")
    inode = (before.path / "weights.bin").stat().st_ino
    assert add("1.0.0") == before
    assert (before.path / "weights.bin").stat().st_ino == inode
    assert list((root / STAGING).iterdir()) == []


def test_a_version_never_changes_its_content(add, store):
    add("1.0.0")
    with pytest.raises(VersionExists) as caught:
        add("1.0.0", weights=b"other")
    assert caught.value.code == "version_exists"
    assert (store.verify("toy@1.0.0").path / "weights.bin").read_bytes() == b"weights"


def test_registering_again_mends_a_damaged_version(add, store):
    damaged = add("1.0.0")
    (damaged.path / "weights.bin").write_bytes(b"")
    add("1.0.0")
    assert (store.verify("toy@1.0.0").path / "weights.bin").read_bytes() == b"weights"


def test_versions_are_listed_by_name_from_oldest_to_newest(add, store):
    for version in ("1.10.0", "1.9.0", "1.10.0-rc.1"):
        add(version)
    add("0.1.0", name="another")
    assert store.names() == ["another", "toy"]
    assert store.ids() == ["another@0.1.0", "toy@1.9.0", "toy@1.10.0-rc.1", "toy@1.10.0"]
    assert [str(version) for version in store.versions("toy")] == ["toy@1.9.0", "toy@1.10.0-rc.1", "toy@1.10.0"]
    assert store.ids("../versions/toy") == []


def test_a_damaged_version_is_listed_but_not_offered_as_usable(add, store):
    add("1.0.0")
    (add("2.0.0").path / MANIFEST).write_text("{")
    assert store.ids() == ["toy@1.0.0", "toy@2.0.0"]
    assert [str(version) for version in store.versions()] == ["toy@1.0.0"]


def test_an_empty_registry_answers_without_creating_anything(store, active, root):
    assert (store.names(), store.ids(), store.versions(), active.history("toy")) == ([], [], [], [])
    with pytest.raises(NothingActive):
        active.current("toy")
    assert not root.exists()


@pytest.mark.parametrize(
    ("version", "error"),
    [
        ("nobody@1.0.0", UnknownModel),
        ("toy@9.9.9", UnknownVersion),
        ("toy", InvalidVersionId),
        ("toy@latest", InvalidVersionId),
        ("toy@1.0.0\n", InvalidVersionId),
        ("../toy@1.0.0", InvalidVersionId),
        ("toy@1.0.0-../../x", InvalidVersionId),
        ("toy@" + "9" * 5000 + ".0.0", InvalidVersionId),
    ],
)
def test_a_version_that_cannot_be_found_is_named_in_the_error(add, store, active, version, error):
    add("1.0.0")
    for ask in (store.get, store.verify, lambda asked: active.activate(asked, **ME)):
        with pytest.raises(error) as caught:
            ask(version)
        assert version.partition("@")[0][:20] in str(caught.value)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def alter(path: Path) -> None:
    path.write_bytes(path.read_bytes().swapcase())


def replace_by_link(path: Path) -> None:
    original = path.rename(path.parent.parent / "elsewhere.bin")
    path.symlink_to(original)


def replace_by_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("damage", [truncate, alter, Path.unlink, replace_by_link, replace_by_pipe])
def test_a_damaged_file_is_found_and_the_old_version_serves_on(add, store, active, damage):
    add("1.0.0")
    active.activate("toy@1.0.0", **ME)
    damage(add("2.0.0").path / "weights.bin")
    with pytest.raises(VersionCorrupt) as caught:
        store.verify("toy@2.0.0")
    assert caught.value.code == "version_corrupt"
    assert "weights.bin" in str(caught.value)
    with pytest.raises(VersionCorrupt):
        active.activate("toy@2.0.0", **ME)
    assert active.current("toy") == "toy@1.0.0"
    assert len(active.history("toy")) == 1
    assert store.verify("toy@1.0.0")


def test_a_cheap_get_sees_sizes_and_a_full_one_sees_every_byte(add, store):
    alter(add("1.0.0").path / "weights.bin")
    assert store.get("toy@1.0.0")
    with pytest.raises(VersionCorrupt):
        store.get("toy@1.0.0", verify=True)


def test_a_file_that_the_manifest_does_not_list_makes_a_version_corrupt(add, store):
    (add("1.0.0").path / "vocabulary" / "extra.txt").write_text("planted")
    with pytest.raises(VersionCorrupt, match=r"extra\.txt"):
        store.get("toy@1.0.0")


@pytest.mark.parametrize("text", ["", "{", "[]", "\xff", '{"name": "toy"}', "[" * 100_000, " " * 2_000_000])
def test_a_manifest_that_is_none_is_a_corrupt_version(add, store, text):
    (add("1.0.0").path / MANIFEST).write_text(text, encoding="latin-1")
    with pytest.raises(VersionCorrupt, match=r"manifest\.json"):
        store.get("toy@1.0.0")


def test_a_version_that_is_a_link_is_corrupt(add, store, tmp_path):
    folder = add("1.0.0").path
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(VersionCorrupt, match="is a link"):
        store.get("toy@1.0.0")


def test_a_manifest_of_another_version_is_a_corrupt_version(add, store):
    one, two = add("1.0.0"), add("2.0.0")
    (two.path / MANIFEST).write_bytes((one.path / MANIFEST).read_bytes())
    with pytest.raises(VersionCorrupt, match="its manifest is that of toy"):
        store.get("toy@2.0.0")


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "../up", "a/../../up", "a//b", "./a", "", "a/", "a\\b", "a\0b", "a\n", ".", "..", MANIFEST]
)
def test_a_manifest_cannot_name_a_file_outside_its_folder(add, store, path):
    with pytest.raises(ValidationError):
        FileEntry(path=path, size=0, sha256="0" * 64)
    manifest = add("1.0.0").path / MANIFEST
    content = json.loads(manifest.read_text())
    content["files"][0]["path"] = path
    manifest.write_text(json.dumps(content))
    with pytest.raises(VersionCorrupt):
        store.get("toy@1.0.0")


def test_a_manifest_names_each_file_once(tmp_path):
    manifest = write_version(tmp_path / "made", "1.0.0")
    with pytest.raises(ValidationError, match="each file once"):
        Manifest(**{**manifest.model_dump(), "files": (*manifest.files, manifest.files[0])})


@pytest.mark.parametrize("damage", [truncate, alter, Path.unlink, replace_by_link, replace_by_pipe])
def test_a_source_that_is_not_what_its_manifest_says_is_refused(store, root, tmp_path, damage):
    manifest = write_version(tmp_path / "made", "1.0.0")
    damage(tmp_path / "made" / "weights.bin")
    with pytest.raises(VersionCorrupt, match=r"weights\.bin"):
        store.register(manifest, tmp_path / "made")
    assert store.ids() == []
    assert list(root.glob(f"{STAGING}/*")) == []


def test_a_source_folder_behind_a_link_is_refused(store, tmp_path):
    manifest = write_version(tmp_path / "made", "1.0.0")
    (tmp_path / "made" / "vocabulary").rename(tmp_path / "outside")
    (tmp_path / "made" / "vocabulary").symlink_to(tmp_path / "outside")
    with pytest.raises(VersionCorrupt, match="vocabulary"):
        store.register(manifest, tmp_path / "made")


NUMBERS = st.tuples(*[st.integers(0, 999_999_999)] * 3)


@given(NUMBERS, NUMBERS)
def test_release_versions_are_ordered_by_their_numbers(one, other):
    left, right = (".".join(map(str, numbers)) for numbers in (one, other))
    assert (precedence(left) < precedence(right)) == (one < other)
    assert parse_id(f"toy@{left}") == ("toy", left)


def test_pre_releases_are_ordered_as_semantic_versioning_says():
    order = ["1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta", "1.0.0-beta.2", "1.0.0-beta.11"]
    order += ["1.0.0-rc.1", "1.0.0", "1.0.0+build-7", "1.0.1-1", "1.0.1"]
    assert all(precedence(older) < precedence(newer) for older, newer in pairwise(order))


# The active pointer and its history


def test_registering_promotes_nothing(add, active):
    add("1.0.0")
    with pytest.raises(NothingActive) as caught:
        active.current("toy")
    assert caught.value.code == "nothing_active"


def test_every_change_is_in_the_history_with_who_when_why_from_and_to(add, active):
    add("1.0.0"), add("2.0.0")
    started = datetime.now(UTC)
    active.activate("toy@1.0.0", who="ana", why="first")
    active.activate("toy@2.0.0", who="ben", why="better")
    active.rollback("toy", who="ana", why="worse\nafter all")
    changes = active.history("toy")
    assert [(change.who, change.why, change.action, change.from_version, change.to_version) for change in changes] == [
        ("ana", "first", "activate", None, "toy@1.0.0"),
        ("ben", "better", "activate", "toy@1.0.0", "toy@2.0.0"),
        ("ana", "worse\nafter all", "rollback", "toy@2.0.0", "toy@1.0.0"),
    ]
    assert started <= changes[0].at <= changes[1].at <= changes[2].at <= datetime.now(UTC)


def test_rolling_back_again_goes_further_back_like_undo(add, active):
    for version in ("1.0.0", "2.0.0", "3.0.0"):
        add(version)
        active.activate(f"toy@{version}", **ME)
    assert active.previous("toy") == "toy@2.0.0"
    assert active.rollback("toy", **ME) == active.current("toy") == "toy@2.0.0"
    assert active.rollback("toy", **ME) == active.current("toy") == "toy@1.0.0"
    assert active.previous("toy") is None
    with pytest.raises(NothingToRollBack) as caught:
        active.rollback("toy", **ME)
    assert caught.value.code == "nothing_to_roll_back"
    assert active.current("toy") == "toy@1.0.0"
    active.activate("toy@3.0.0", **ME)
    assert active.rollback("toy", **ME) == "toy@1.0.0"


def test_rolling_back_to_a_named_version_forgets_the_way_there(add, active):
    for version in ("1.0.0", "2.0.0", "3.0.0", "4.0.0"):
        add(version)
        active.activate(f"toy@{version}", **ME)
    assert active.rollback("toy", to="toy@2.0.0", **ME) == "toy@2.0.0"
    assert active.previous("toy") == "toy@1.0.0"
    assert active.rollback("toy", to="toy@4.0.0", **ME) == "toy@4.0.0"
    assert active.rollback("toy", **ME) == "toy@2.0.0"


def test_activating_what_is_active_does_not_become_the_version_before(add, active):
    add("1.0.0"), add("2.0.0")
    for version in ("toy@1.0.0", "toy@2.0.0", "toy@2.0.0"):
        active.activate(version, **ME)
    assert active.rollback("toy", **ME) == "toy@1.0.0"


@pytest.mark.parametrize(
    ("to", "error"),
    [
        ("toy@1.0.0", NothingToRollBack),
        ("toy@7.0.0", UnknownVersion),
        ("another@1.0.0", UnknownVersion),
        ("1.0.0", InvalidVersionId),
    ],
)
def test_a_rollback_that_leads_nowhere_changes_nothing(add, active, to, error):
    add("1.0.0"), add("1.0.0", name="another")
    active.activate("toy@1.0.0", **ME)
    with pytest.raises(error):
        active.rollback("toy", to=to, **ME)
    assert active.current("toy") == "toy@1.0.0"
    assert len(active.history("toy")) == 1


def test_a_rollback_passes_over_what_is_no_longer_registered(add, active, root):
    for version in ("1.0.0", "2.0.0", "3.0.0"):
        add(version)
        active.activate(f"toy@{version}", **ME)
    with exclusive(root):
        active.store.discard("toy@2.0.0")
    assert active.previous("toy") == "toy@1.0.0"
    assert active.rollback("toy", **ME) == "toy@1.0.0"


@pytest.mark.parametrize("name", ["nobody", "toy"])
def test_nothing_can_be_rolled_back_before_something_is_active(add, active, name):
    add("1.0.0")
    with pytest.raises(NothingActive):
        active.rollback(name, **ME)


@pytest.mark.parametrize("name", ["../toy", "toy/x", "", "Toy", "toy\n"])
def test_a_model_name_cannot_lead_out_of_the_registry(active, name):
    with pytest.raises(UnknownModel):
        active.current(name)


@pytest.mark.parametrize("content", [b"", b"{", b"toy@1.0.0", b"\xff\xfe"])
def test_a_damaged_pointer_is_an_error_that_activating_mends(add, active, root, content):
    add("1.0.0"), add("2.0.0")
    active.activate("toy@1.0.0", **ME)
    (root / "active" / "toy.json").write_bytes(content)
    for ask in (active.current, active.previous, lambda name: active.rollback(name, **ME)):
        with pytest.raises(PointerCorrupt, match="shoal models activate"):
            ask("toy")
    assert len(active.history("toy")) == 1
    active.activate("toy@2.0.0", **ME)
    assert active.current("toy") == "toy@2.0.0"
    assert [change.to_version for change in active.history("toy")] == ["toy@1.0.0", "toy@2.0.0"]


@pytest.mark.parametrize("lost", [1, 20, 10_000])
def test_a_torn_last_line_of_the_history_is_written_again(add, active, root, lost):
    add("1.0.0"), add("2.0.0")
    active.activate("toy@1.0.0", **ME)
    active.activate("toy@2.0.0", **ME)
    whole = active.history("toy")
    path = root / "history" / "toy.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + lines[1][:-lost])
    assert active.history("toy") == whole
    active.rollback("toy", **ME)
    assert active.history("toy")[:2] == whole
    assert [json.loads(line)["to_version"] for line in path.read_text().splitlines()] == [
        "toy@1.0.0",
        "toy@2.0.0",
        "toy@1.0.0",
    ]


def test_an_unreadable_line_within_the_history_is_passed_over(add, active, root):
    add("1.0.0"), add("2.0.0")
    active.activate("toy@1.0.0", **ME)
    with (root / "history" / "toy.jsonl").open("ab") as file:
        file.write(b"\x00\x00 not a change\n")
    active.activate("toy@2.0.0", **ME)
    assert [change.to_version for change in active.history("toy")] == ["toy@1.0.0", "toy@2.0.0"]
    assert active.rollback("toy", **ME) == "toy@1.0.0"


# Sharing and cleaning up


def test_a_lock_that_is_held_too_long_is_an_error(root):
    with exclusive(root), pytest.raises(RegistryBusy) as caught, exclusive(root, timeout_s=0.02):
        pytest.fail("two held the lock")
    assert caught.value.code == "registry_busy"


def test_work_in_progress_is_left_alone_and_leftovers_are_swept(root):
    with staging(root) as mine:
        (root / STAGING / "leftover").mkdir()
        (root / STAGING / "leftover" / "half.bin").write_bytes(b"x")
        (root / STAGING / "toy.json-0123").write_bytes(b"x")
        with staging(root) as other:
            assert {*(root / STAGING).iterdir()} == {mine, other}
    assert list((root / STAGING).iterdir()) == []


def test_garbage_collection_keeps_the_newest_the_active_and_the_one_before(add, active, store, root):
    for version in ("1.0.0", "2.0.0", "3.0.0", "4.0.0", "5.0.0"):
        add(version)
    add("0.1.0", name="another")
    active.activate("toy@1.0.0", **ME)
    active.activate("toy@3.0.0", **ME)
    assert collect_garbage(active, keep=1) == ["toy@2.0.0", "toy@4.0.0"]
    assert store.ids() == ["another@0.1.0", "toy@1.0.0", "toy@3.0.0", "toy@5.0.0"]
    active.rollback("toy", **ME)
    assert collect_garbage(active, keep=0) == ["another@0.1.0", "toy@5.0.0"]
    assert store.ids() == ["toy@1.0.0", "toy@3.0.0"], "the way forward after a rollback stays"
    assert list((root / STAGING).iterdir()) == []
    assert collect_garbage(active) == []


def test_garbage_collection_stops_where_it_cannot_know_what_is_active(add, active, store, root):
    add("1.0.0"), add("2.0.0")
    active.activate("toy@1.0.0", **ME)
    (root / "active" / "toy.json").write_text("?")
    with pytest.raises(PointerCorrupt):
        collect_garbage(active, keep=1)
    assert store.ids() == ["toy@1.0.0", "toy@2.0.0"]
    with pytest.raises(ValueError, match="-1"):
        collect_garbage(active, keep=-1)


# Versions that ship with the code


@pytest.fixture
def bundled(tmp_path: Path) -> Path:
    for version in ("0.9.0", "0.10.0"):
        write_version(tmp_path / "bundled" / "toy" / version, version)
    write_version(tmp_path / "bundled" / "another" / "1.0.0", "1.0.0", name="another")
    return tmp_path / "bundled"


def test_the_first_start_registers_all_and_activates_the_newest(store, active, bundled):
    for _ in range(2):
        assert len(register_bundled(store, active, bundled)) == 3
    assert store.ids() == ["another@1.0.0", "toy@0.9.0", "toy@0.10.0"]
    assert active.current("toy") == "toy@0.10.0"
    assert [(change.who, change.why) for change in active.history("toy")] == [("(shoal)", "first start")]


def test_an_upgrade_promotes_its_version_where_shoal_chose_the_old_one(store, active, bundled):
    register_bundled(store, active, bundled)
    write_version(bundled / "toy" / "0.11.0", "0.11.0")
    register_bundled(store, active, bundled)
    assert active.current("toy") == "toy@0.11.0"
    assert [change.who for change in active.history("toy")] == ["(shoal)", "(shoal)"]
    assert active.rollback("toy", **ME) == "toy@0.10.0"


def test_an_upgrade_leaves_what_an_account_called_shoal_chose(store, active, bundled):
    register_bundled(store, active, bundled)
    active.activate("toy@0.9.0", who="shoal", why="")
    register_bundled(store, active, bundled)
    assert active.current("toy") == "toy@0.9.0"


@pytest.mark.parametrize("why", ["first start", "a newer version came with the code"])
def test_an_upgrade_knows_what_shoal_chose_under_its_former_name(store, active, bundled, why):
    register_bundled(store, active, bundled)
    active.activate("toy@0.9.0", who="shoal", why=why)
    register_bundled(store, active, bundled)
    assert active.current("toy") == "toy@0.10.0"


def test_nobody_acts_in_shoals_name(add, active):
    add("1.0.0"), add("2.0.0")
    active.activate("toy@1.0.0", **ME)
    active.activate("toy@2.0.0", **ME)
    with pytest.raises(ReservedName):
        active.activate("toy@1.0.0", who="(shoal)", why="")
    with pytest.raises(ReservedName):
        active.rollback("toy", who="(shoal)", why="")
    assert active.current("toy") == "toy@2.0.0"


@pytest.mark.parametrize("choose", ["activate", "rollback", "pin"])
def test_an_upgrade_leaves_what_a_person_chose(store, active, bundled, choose):
    register_bundled(store, active, bundled)
    if choose == "pin":
        active.activate("toy@0.10.0", **ME)
    else:
        active.activate("toy@0.9.0", **ME)
        if choose == "rollback":
            active.rollback("toy", **ME)
    chosen = active.current("toy")
    write_version(bundled / "toy" / "0.11.0", "0.11.0")
    register_bundled(store, active, bundled)
    assert active.current("toy") == chosen
    assert "toy@0.11.0" in store.ids()


def test_an_older_package_does_not_demote(store, active, bundled, tmp_path):
    register_bundled(store, active, bundled)
    write_version(tmp_path / "older" / "toy" / "0.8.0", "0.8.0")
    register_bundled(store, active, tmp_path / "older")
    assert active.current("toy") == "toy@0.10.0"


def test_a_damaged_bundled_version_keeps_no_other_from_serving(store, active, bundled):
    alter(bundled / "toy" / "0.10.0" / "weights.bin")
    (bundled / "another" / "1.0.0" / MANIFEST).write_text("{")
    register_bundled(store, active, bundled)
    assert active.current("toy") == "toy@0.9.0"
    assert store.names() == ["toy"]


def test_a_start_mends_a_damaged_copy_of_a_bundled_version(store, active, bundled):
    register_bundled(store, active, bundled)
    alter(store.get("toy@0.10.0").path / "weights.bin")
    register_bundled(store, active, bundled)
    assert store.verify(active.current("toy"))


def test_an_own_build_of_a_bundled_version_stays_and_serves(add, store, active, bundled):
    own = add("0.10.0", weights=b"own build")
    register_bundled(store, active, bundled)
    assert active.current("toy") == "toy@0.10.0"
    assert store.verify("toy@0.10.0") == own


def test_what_ships_is_whole():
    """Every version under registry/bundled can be registered as it is."""
    manifests = list(BUNDLED.glob(f"*/*/{MANIFEST}"))
    assert manifests
    for manifest_path in manifests:
        manifest = Manifest.read(manifest_path.parent)
        assert str(manifest) == f"{manifest_path.parent.parent.name}@{manifest_path.parent.name}"
        check_files(manifest, manifest_path.parent, digests=True, exact=False)
