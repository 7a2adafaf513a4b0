"""Describe a folder of trained files as a model version."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from registry.versions import FileEntry, Manifest, ModelVersion

BUNDLED = Path(__file__).resolve().parents[1] / "registry" / "bundled"


def describe_version(
    folder: Path,
    *,
    name: str,
    version: str,
    kind: str,
    runtime: str,
    licence: str,
    trained_from: Sequence[str],
    quality: Mapping[str, Any],
    parents: Sequence[str] = (),
    notes: str = "",
) -> ModelVersion:
    """Write `folder/manifest.json` over the files that lie there; `parents` are "name@version"."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "manifest.json")
    manifest = Manifest(
        name=name,
        version=version,
        kind=kind,
        runtime=runtime,
        files=tuple(_entry(folder, path) for path in paths),
        licence=licence,
        trained_from=tuple(trained_from),
        parents=tuple(parents),
        quality=dict(quality),
        created_at=datetime.now(UTC).replace(microsecond=0),
        notes=notes,
    )
    (folder / "manifest.json").write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return ModelVersion(manifest, folder)


def _entry(folder: Path, path: Path) -> FileEntry:
    content = path.read_bytes()
    return FileEntry(
        path=path.relative_to(folder).as_posix(), size=len(content), sha256=hashlib.sha256(content).hexdigest()
    )
