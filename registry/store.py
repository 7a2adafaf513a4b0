"""The versions on disk: immutable folders that become visible whole, by one rename."""

from __future__ import annotations

import secrets
from pathlib import Path

import structlog

from registry.disk import (
    STAGING,
    copy_file,
    exclusive,
    private_folder,
    staging,
    storage_errors,
    sync_folder,
    write_file,
)
from registry.errors import UnknownModel, UnknownVersion, VersionCorrupt, VersionExists
from registry.versions import MANIFEST, NAME, VERSION, Manifest, ModelVersion, check_files, parse_id, precedence

log = structlog.get_logger(__name__)


class Store:
    """All registered versions under `root`: `versions/<name>/<version>/` holds a manifest and the files it lists.

    Reading takes no lock and writes nothing. Two processes may register at once.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def register(self, manifest: Manifest, folder: Path) -> ModelVersion:
        """Copy the listed files out of `folder`, verify them, and make the version visible.

        Registering again what is registered changes nothing, or mends it where its files were damaged.

        Raises:
            VersionExists: the version is registered with another manifest.
            VersionCorrupt: `folder` does not hold what the manifest lists.
            StorageFailed: the disk refused; nothing became visible.
            RegistryBusy: another process held the lock for too long.
        """
        with storage_errors(f"cannot register {manifest}"):
            if registered := self._registered(manifest):
                return registered
            check_files(manifest, folder, digests=False, exact=False)
            with staging(self.root) as staged:
                _stage(manifest, folder, staged)
                with exclusive(self.root):
                    # Another process may have been first.
                    if registered := self._registered(manifest):
                        return registered
                    target = self._folder(str(manifest))
                    private_folder(target.parent)
                    self.discard(str(manifest))
                    staged.rename(target)
                    sync_folder(target.parent)
        log.info("version_registered", version=str(manifest))
        return self.get(str(manifest))

    def get(self, version: str, *, verify: bool = False) -> ModelVersion:
        """A registered version by `name@version`, its files' sizes checked, with `verify` their digests too.

        Raises:
            InvalidVersionId, UnknownModel, UnknownVersion: there is no such version.
            VersionCorrupt: it is damaged.
            StorageFailed: the disk refuses to read it.
        """
        folder = self._folder(version)
        with storage_errors(f"cannot read {version}"):
            if not folder.is_dir():
                raise self._unknown(version)
            if folder.is_symlink():
                raise VersionCorrupt(f"{version}: {folder} is a link")
            manifest = Manifest.read(folder)
            if str(manifest) != version:
                raise VersionCorrupt(f"{version}: its manifest is that of {manifest}")
            check_files(manifest, folder, digests=verify)
        return ModelVersion(manifest, folder)

    def verify(self, version: str) -> ModelVersion:
        """`get` with every byte checked: about 2 s for a GB."""
        return self.get(version, verify=True)

    def names(self) -> list[str]:
        """The models that have at least one registered version, sorted."""
        return sorted({parse_id(version)[0] for version in self.ids()})

    def ids(self, name: str | None = None) -> list[str]:
        """Every registered `name@version`, damaged ones too: by name, then oldest to newest."""
        if name is not None and not NAME.fullmatch(name):
            return []
        found = [
            (folder.parent.name, folder.name)
            for folder in self.root.glob(f"versions/{name or '*'}/*")
            if NAME.fullmatch(folder.parent.name) and VERSION.fullmatch(folder.name)
        ]
        found.sort(key=lambda pair: (pair[0], precedence(pair[1])))
        return [f"{model}@{number}" for model, number in found]

    def versions(self, name: str | None = None) -> list[ModelVersion]:
        """Every usable version, in the order of `ids`; a damaged one is logged and left out."""
        usable = []
        for version in self.ids(name):
            try:
                usable.append(self.get(version))
            except VersionCorrupt as error:
                log.warning("version_corrupt", version=version, error=str(error))
        return usable

    def discard(self, version: str) -> None:
        """Take a version out of sight at once. Its bytes go with the next sweep of staging, so that a crash here
        leaves no half of it visible. The caller holds the registry's lock and knows that nobody needs it."""
        folder = self._folder(version)
        if folder.exists():
            private_folder(self.root / STAGING)
            folder.rename(self.root / STAGING / f"{version}-{secrets.token_hex(4)}")
            sync_folder(folder.parent)

    def _folder(self, version: str) -> Path:
        name, number = parse_id(version)
        return self.root / "versions" / name / number

    def _registered(self, manifest: Manifest) -> ModelVersion | None:
        """The version that is there with this manifest; None where it is missing or damaged."""
        folder = self._folder(str(manifest))
        if not folder.is_dir():
            return None
        try:
            if Manifest.read(folder).content != manifest.content:
                raise VersionExists(f"{manifest} is registered with other content; give the new one another version")
            return self.verify(str(manifest))
        except VersionCorrupt as error:
            log.warning("version_corrupt", version=str(manifest), error=str(error))
            return None

    def _unknown(self, version: str) -> UnknownModel | UnknownVersion:
        name, _ = parse_id(version)
        if registered := self.ids(name):
            return UnknownVersion(f"{version} is not registered; registered are {', '.join(registered)}")
        return UnknownModel(f"no version of {name!r} is registered; known are {', '.join(self.names()) or 'none'}")


def _stage(manifest: Manifest, folder: Path, staged: Path) -> None:
    for entry in manifest.files:
        private_folder((staged / entry.path).parent)
        copy_file(folder / entry.path, staged / entry.path)
    write_file(staged / MANIFEST, manifest.content.encode())
    for subfolder in {(staged / entry.path).parent for entry in manifest.files} | {staged}:
        sync_folder(subfolder)
    check_files(manifest, staged, digests=True)
