"""Where Ray's sockets lie: short, private, and swept."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from actors import ray_runtime
from actors.errors import RayFailed


def test_a_short_folder_is_used_as_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(ray_runtime, "MAX_PRIVATE_FOLDER", 1000)
    assert ray_runtime._session_folder(tmp_path / "run") == tmp_path / "run" / "ray" / "s"
    assert (tmp_path / "run" / "ray").stat().st_mode & 0o777 == 0o700


def test_a_long_folder_gets_a_short_one_of_its_own(tmp_path: Path) -> None:
    first, second = (ray_runtime._session_folder(tmp_path / ("x" * 50) / name) for name in ("one", "two"))
    try:
        assert first != second
        assert len(str(first)) < ray_runtime.MAX_PRIVATE_FOLDER
        assert first.parent.stat().st_mode & 0o777 == 0o700
    finally:
        first.parent.rmdir()
        second.parent.rmdir()


def test_a_folder_that_others_can_enter_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(ray_runtime, "MAX_PRIVATE_FOLDER", 1000)
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray").chmod(0o755)
    with pytest.raises(RayFailed):
        ray_runtime._session_folder(tmp_path)


def test_a_link_to_a_folder_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(ray_runtime, "MAX_PRIVATE_FOLDER", 1000)
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (tmp_path / "ray").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RayFailed):
        ray_runtime._session_folder(tmp_path)


def test_only_sessions_of_daemons_that_are_gone_are_swept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(ray_runtime, "MAX_PRIVATE_FOLDER", 1000)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    folder = ray_runtime._session_folder(tmp_path)
    ours, theirs, other = (folder / f"session_2026-01-01_{pid}" for pid in (os.getpid(), gone.pid, "notes"))
    for session in (ours, theirs, other):
        session.mkdir(parents=True)
    ray_runtime._session_folder(tmp_path)
    assert ours.exists()
    assert other.exists()
    assert not theirs.exists()
