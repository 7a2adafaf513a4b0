"""Turn a folder of trained files into a model version: described, registered, never promoted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from config.settings import load_settings
from registry.store import Store
from registry.versions import MANIFEST, Manifest, ModelVersion, describe_files
from training.card import require_papers


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
    manifest = Manifest(
        name=name,
        version=version,
        kind=kind,
        runtime=runtime,
        files=describe_files(folder),
        licence=licence,
        trained_from=tuple(trained_from),
        parents=tuple(parents),
        quality=dict(quality),
        created_at=datetime.now(UTC).replace(microsecond=0),
        notes=notes,
    )
    (folder / MANIFEST).write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return ModelVersion(manifest, folder)


def register_version(version: ModelVersion) -> ModelVersion:
    """Put a described version into the registry of the settings; what is active stays so.

    Raises:
        MissingCard: the version comes without its model card.
        RegistryError: the registry does not take it.
    """
    require_papers(version)
    return Store(load_settings().settings.registry_root).register(version.manifest, version.path)
