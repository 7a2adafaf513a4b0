"""Which class runs a version: the settings say it, by small model and by the manifest's runtime."""

from __future__ import annotations

from importlib import import_module

from actors.contract import SLM
from config.settings import SlmSettings
from registry.versions import ModelVersion


def load_version(version: ModelVersion, settings: SlmSettings) -> SLM:
    """The version, loaded. Raises: ModelLoadError, and ImportError or AttributeError where there is no such class."""
    path = settings.implementations.get(version.manifest.runtime, settings.implementation)
    module, _, name = path.partition(":")
    implementation: type[SLM] = getattr(import_module(module), name)
    return implementation.load(version, settings)
