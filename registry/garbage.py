"""Removing old versions, never one that serves or that a rollback would lead to."""

from __future__ import annotations

import structlog

from registry.active import ActivePointers
from registry.disk import exclusive, storage_errors, sweep

log = structlog.get_logger(__name__)


def collect_garbage(active: ActivePointers, keep: int = 3) -> list[str]:
    """Remove all but the newest `keep` versions of each model; the active one, the one that was active
    before it and the one that a rollback would lead to always stay.

    Returns the removed versions. Raises: PointerCorrupt (which versions matter is then unknown), RegistryBusy,
    StorageFailed; ValueError for a negative `keep`.
    """
    if keep < 0:
        raise ValueError(f"keep is {keep}; it counts versions")
    removed = []
    with storage_errors("cannot remove old versions"), exclusive(active.root):
        for name in active.store.names():
            versions = active.store.ids(name)
            needed = {active.previous(name), *versions[max(0, len(versions) - keep) :]}
            if pointer := active.pointer(name):
                # After a rollback the way forward matters as much as the way further back.
                needed |= {pointer.to_version, pointer.from_version}
            for version in versions:
                if version not in needed:
                    active.store.discard(version)
                    removed.append(version)
        sweep(active.root)
    log.info("garbage_collected", removed=removed)
    return removed
