"""Open a small model for evaluation: the active version, a named one, or what ships with the code."""

from __future__ import annotations

from actors.contract import SLM
from actors.implementations import load_version
from config.settings import Settings
from registry.active import ActivePointers
from registry.bundled import BUNDLED
from registry.errors import NothingActive, UnknownModel, UnknownVersion
from registry.store import Store
from registry.versions import MANIFEST, Manifest, ModelVersion, parse_id, precedence
from training.errors import TrainingError


def open_slm(name: str, settings: Settings, version: str | None = None) -> tuple[SLM, ModelVersion]:
    """The small model that the settings call `name`, loaded, and the version it was loaded from.

    `version` is "1.2.3" or "model@1.2.3"; without it, the active one of the registry, else the newest bundled.

    Raises:
        TrainingError: the settings have no such small model.
        RegistryError: there is no such version, or its files are not what its manifest says.
        ModelLoadError: the files cannot be used.
    """
    if name not in settings.slm:
        raise TrainingError(f"no small model {name!r}; the settings have {', '.join(settings.slm)}")
    found = find_version(settings.slm[name].model, settings, version)
    return load_slm(name, settings, found), found


def load_slm(name: str, settings: Settings, version: ModelVersion) -> SLM:
    """The small model that the settings call `name`, loaded from a version. Raises: ModelLoadError."""
    return load_version(version, settings.slm[name])


def find_version(model: str, settings: Settings, version: str | None = None) -> ModelVersion:
    """The version that `open_slm` would load. Raises: RegistryError."""
    known = _bundled(model)
    root = settings.registry_root
    if version is None:
        try:
            version = ActivePointers(root).current(model) if root.exists() else None
        except (NothingActive, UnknownModel):
            version = None
        if version is None and known:
            version = list(known)[-1]
    elif "@" not in version:
        version = f"{model}@{version}"
    if version is None:
        raise UnknownModel(f"no version of {model} is active, and none ships with the code")
    try:
        if root.exists():
            return Store(root).get(version, verify=True)
    except (UnknownModel, UnknownVersion):
        pass
    if version not in known:
        raise UnknownVersion(f"{version} is neither registered nor bundled")
    return ModelVersion(known[version], BUNDLED / model / known[version].version)


def version_before(version: ModelVersion, settings: Settings) -> str | None:
    """The newest older version of the same model that is registered or bundled, as "name@version"."""
    name, than = version.manifest.name, precedence(version.manifest.version)
    root = settings.registry_root
    known = {*_bundled(name), *(Store(root).ids(name) if root.exists() else ())}
    older = [one for one in known if precedence(parse_id(one)[1]) < than]
    return max(older, key=lambda one: precedence(parse_id(one)[1]), default=None)


def _bundled(model: str) -> dict[str, Manifest]:
    """What ships with the code, oldest first."""
    manifests = [Manifest.read(path.parent) for path in BUNDLED.glob(f"{model}/*/{MANIFEST}")]
    return {str(manifest): manifest for manifest in sorted(manifests, key=lambda m: precedence(m.version))}
