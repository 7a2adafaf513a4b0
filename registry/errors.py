"""What can go wrong with the registry. Every error carries the code that the wire shows."""


class RegistryError(Exception):
    """Base of all errors of the registry."""

    code = "registry_error"


class InvalidVersionId(RegistryError):
    """Not of the form `name@version`, or with characters that neither may hold."""

    code = "invalid_version_id"


class UnknownModel(RegistryError):
    """No version of a model of this name is registered."""

    code = "unknown_model"


class UnknownVersion(RegistryError):
    """The model is known, this version of it is not registered."""

    code = "unknown_version"


class VersionExists(RegistryError):
    """This version is registered already, with other content: versions never change."""

    code = "version_exists"


class VersionCorrupt(RegistryError):
    """A version's manifest or files are missing, truncated, altered or not what they claim to be."""

    code = "version_corrupt"


class NothingActive(RegistryError):
    """No version of this model has been activated."""

    code = "nothing_active"


class PointerCorrupt(RegistryError):
    """The file that names the active version cannot be read; activating any version mends it."""

    code = "pointer_corrupt"


class NothingToRollBack(RegistryError):
    """No earlier version that is still registered was ever active."""

    code = "nothing_to_roll_back"


class ReservedName(RegistryError):
    """Somebody gives the name that stands for Shoal itself as their own."""

    code = "reserved_name"


class RegistryBusy(RegistryError):
    """Another process held the registry's lock for too long."""

    code = "registry_busy"


class StorageFailed(RegistryError):
    """The disk refused: full, read-only or not permitted. What was to be written did not become visible."""

    code = "registry_storage_failed"
