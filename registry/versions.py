"""A model version and its manifest: what it is, what it came from, what it was measured to do."""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, field_validator

from registry.errors import InvalidVersionId, VersionCorrupt

NAME = re.compile(r"^[a-z][a-z0-9_-]{0,63}$")
VERSION = re.compile(r"^[0-9]{1,9}\.[0-9]{1,9}\.[0-9]{1,9}(?:[-+][0-9A-Za-z.-]{1,64})?$")
FILE_PATH = re.compile(r"[^/\\\x00-\x1f\x7f]+(?:/[^/\\\x00-\x1f\x7f]+)*")
MANIFEST = "manifest.json"
MAX_MANIFEST_BYTES = 1 << 20


class FileEntry(BaseModel):
    """One file of a version: path relative to the version's folder, size in bytes, SHA-256 in hex."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str
    size: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")

    @field_validator("path")
    @classmethod
    def _inside_the_folder(cls, value: str) -> str:
        if not FILE_PATH.fullmatch(value) or {".", ".."} & set(value.split("/")) or value == MANIFEST:
            raise ValueError("a relative path with / inside the version's folder, other than the manifest's own")
        return value


class Manifest(BaseModel):
    """What is known of a version. `quality` holds only what was measured, by the names of `training.evaluate`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=NAME.pattern)
    version: str = Field(pattern=VERSION.pattern)
    kind: str
    runtime: str
    files: tuple[FileEntry, ...]
    licence: str
    trained_from: tuple[str, ...] = ()
    parents: tuple[str, ...] = ()
    quality: dict[str, Any] = Field(default_factory=dict)
    created_at: AwareDatetime
    notes: str = ""

    @field_validator("files")
    @classmethod
    def _each_once(cls, files: tuple[FileEntry, ...]) -> tuple[FileEntry, ...]:
        if len({entry.path for entry in files}) != len(files):
            raise ValueError("each file once")
        return files

    def __str__(self) -> str:
        return f"{self.name}@{self.version}"

    @property
    def content(self) -> str:
        """All of it as JSON, in one fixed order: two manifests that say the same have equal content."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, indent=1)

    @classmethod
    def read(cls, folder: Path) -> Self:
        """The manifest in `folder`. Raises: VersionCorrupt, OSError."""
        path = folder / MANIFEST
        try:
            found = path.lstat()
            if not stat.S_ISREG(found.st_mode) or found.st_size > MAX_MANIFEST_BYTES:
                raise VersionCorrupt(f"{path}: not a manifest")
            return cls.model_validate_json(path.read_bytes())
        except FileNotFoundError as error:
            raise VersionCorrupt(f"{path}: missing") from error
        except ValidationError as error:
            faults = "; ".join(
                f"{'.'.join(map(str, fault['loc'])) or 'manifest'}: {fault['msg']}" for fault in error.errors()
            )
            raise VersionCorrupt(f"{path}: {faults}") from error


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """A verified version on disk: `path` is the folder that holds its files."""

    manifest: Manifest
    path: Path

    def __str__(self) -> str:
        return str(self.manifest)


def parse_id(version: str) -> tuple[str, str]:
    """`name@version` taken apart. Raises: InvalidVersionId."""
    name, _, number = version.partition("@")
    if not NAME.fullmatch(name) or not VERSION.fullmatch(number):
        raise InvalidVersionId(f"{version!r}: expected name@version, such as extractor@1.0.0")
    return name, number


def precedence(version: str) -> tuple[object, ...]:
    """A key that sorts `1.2.3` strings from oldest to newest, by the rules of semantic versioning."""
    core, _, suffix = version.partition("-") if "-" in version.split("+")[0] else (version.split("+")[0], "", "")
    numbers = tuple(int(number) for number in core.split("."))
    marks = tuple((0, int(mark), "") if mark.isdigit() else (1, 0, mark) for mark in suffix.split("."))
    return (numbers, not suffix, marks, version)


def describe_files(folder: Path) -> tuple[FileEntry, ...]:
    """Entries for every file under `folder` but its manifest, by path. Raises: VersionCorrupt for a symlink."""
    return tuple(
        FileEntry(path=relative, size=(folder / relative).stat().st_size, sha256=sha256(folder / relative))
        for relative in sorted(_walk(folder))
        if relative != MANIFEST
    )


def check_files(manifest: Manifest, folder: Path, *, digests: bool, exact: bool = True) -> None:
    """Compare what lies in `folder` with the manifest: sizes, `digests` when asked, nothing unlisted when `exact`.

    Raises: VersionCorrupt, OSError.
    """
    found = set(_walk(folder))
    for entry in manifest.files:
        if entry.path not in found:
            raise VersionCorrupt(f"{manifest}: {entry.path} is missing")
        path = folder / entry.path
        size = path.stat().st_size
        if size != entry.size:
            raise VersionCorrupt(f"{manifest}: {entry.path} has {size} bytes instead of {entry.size}")
        if digests and sha256(path) != entry.sha256:
            raise VersionCorrupt(f"{manifest}: {entry.path} was altered: its SHA-256 is not the manifest's")
    unlisted = found - {entry.path for entry in manifest.files} - {MANIFEST}
    if exact and unlisted:
        raise VersionCorrupt(f"{manifest}: {min(unlisted)} is not in the manifest")


def sha256(path: Path) -> str:
    """The file's SHA-256 in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _walk(folder: Path, prefix: str = "") -> Iterator[str]:
    """Relative paths of all regular files; a link could lead out of the folder, so it makes the version corrupt."""
    with os.scandir(folder) as entries:
        for entry in entries:
            relative = prefix + entry.name
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(folder / entry.name, f"{relative}/")
            elif entry.is_file(follow_symlinks=False):
                yield relative
            else:
                raise VersionCorrupt(f"{folder / entry.name}: neither a file nor a folder")
