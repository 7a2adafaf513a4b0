"""A model version and its manifest: what it is, what it came from, what it was measured to do."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

NAME = re.compile(r"^[a-z][a-z0-9_-]{0,63}$")
VERSION = re.compile(r"^[0-9]+\.[0-9]+\.[0-9]+(?:[-+][0-9A-Za-z.-]{1,64})?$")


class FileEntry(BaseModel):
    """One file of a version: path relative to the version's folder, size in bytes, SHA-256 in hex."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str
    size: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


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
    created_at: datetime
    notes: str = ""


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """A verified version on disk: `path` is the folder that holds its files."""

    manifest: Manifest
    path: Path

    def __str__(self) -> str:
        return f"{self.manifest.name}@{self.manifest.version}"
