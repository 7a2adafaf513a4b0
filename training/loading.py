"""Open a small model for evaluation: the active version, a named one, or what ships with the code."""

from __future__ import annotations

from importlib import import_module
from typing import cast

from actors.contract import SLM
from config.settings import Settings
from registry.active import ActivePointers
from registry.bundled import BUNDLED
from registry.errors import NothingActive, UnknownModel, UnknownVersion
from registry.store import Store
from registry.versions import MANIFEST, Manifest, ModelVersion, precedence
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
    slm = settings.slm[name]
    found = find_version(slm.model, settings, version)
    module, _, class_name = slm.implementation.partition(":")
    implementation = cast("type[SLM]", getattr(import_module(module), class_name))
    return implementation.load(found, slm), found


def find_version(model: str, settings: Settings, version: str | None = None) -> ModelVersion:
    """The version that `open_slm` would load. Raises: RegistryError."""
    bundled = [Manifest.read(path.parent) for path in BUNDLED.glob(f"{model}/*/{MANIFEST}")]
    known = {str(manifest): manifest for manifest in sorted(bundled, key=lambda m: precedence(m.version))}
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
