"""The model versions that ship with the code."""

from __future__ import annotations

from pathlib import Path

import structlog

from registry.active import ActivePointers
from registry.errors import RegistryError, VersionExists
from registry.store import Store
from registry.versions import MANIFEST, Manifest, ModelVersion, precedence

BUNDLED = Path(__file__).parent / "bundled"

log = structlog.get_logger(__name__)


def newest_bundled(name: str, runtime: str, folder: Path = BUNDLED) -> ModelVersion | None:
    """The newest version of a model that ships with the code and runs on `runtime`. Raises: VersionCorrupt."""
    manifests = [Manifest.read(path.parent) for path in folder.glob(f"{name}/*/{MANIFEST}")]
    fitting = [manifest for manifest in manifests if manifest.runtime == runtime]
    newest = max(fitting, key=lambda manifest: precedence(manifest.version), default=None)
    return ModelVersion(newest, folder / name / newest.version) if newest else None


def register_bundled(store: Store, active: ActivePointers, folder: Path = BUNDLED) -> list[ModelVersion]:
    """Register every `folder`/<name>/<version>/ and offer each model's newest (see `ActivePointers.offer`).

    What a person activated stays active. A bundled version that cannot be used is logged and passed over, so that it
    keeps no other from serving. Returns the versions that are registered.
    """
    registered = []
    for manifest_path in folder.glob(f"*/*/{MANIFEST}"):
        try:
            manifest = Manifest.read(manifest_path.parent)
            try:
                registered.append(store.register(manifest, manifest_path.parent))
            except VersionExists as error:
                # Somebody registered their own build of it; versions never change, so theirs stays.
                log.warning("bundled_version_differs", version=str(manifest), error=str(error))
                registered.append(store.get(str(manifest)))
        except (RegistryError, OSError) as error:
            log.error("bundled_version_unusable", path=str(manifest_path.parent), error=str(error))
    newest: dict[str, ModelVersion] = {}
    for version in sorted(registered, key=lambda version: precedence(version.manifest.version)):
        newest[version.manifest.name] = version
    for version in newest.values():
        try:
            active.offer(str(version))
        except RegistryError as error:
            log.error("bundled_version_not_activated", version=str(version), error=str(error))
    return registered
