"""`shoal models`: the registry from the command line.

A running daemon is told to swap; where none owns the data folder the pointer alone moves.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from config.settings import Settings
from daemon import show
from daemon.client import Client
from daemon.errors import NobodyListens
from daemon.models import whoami
from daemon.ownership import sole_owner
from daemon.protocol import ActivateModel, ModelActivated, RollbackModel
from registry.active import CHANGE, ActivePointers
from registry.bundled import register_bundled
from registry.errors import RegistryError
from registry.garbage import collect_garbage
from registry.store import Store
from registry.versions import Manifest

app = typer.Typer(help="Model versions: list, swap, roll back, verify, register.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="Print JSON for a script.")]
Why = Annotated[str, typer.Option(help="Kept in the history.")]


@app.command("list")
def list_versions(context: typer.Context, as_json: Json = False) -> None:
    """Every registered version; the active ones are marked."""
    store, active = _registry(context)
    pointers = {name: _current(active, name) for name in store.names()}
    versions = [(version, pointers[version.manifest.name] == str(version)) for version in store.versions()]
    if as_json:
        print(json.dumps([_described(version.manifest) | {"active": is_active} for version, is_active in versions]))
        return
    lines = [
        ("●" if is_active else " ", str(version), version.manifest.runtime, f"{_size(version.manifest) / 1e6:.1f} MB",
         f"{version.manifest.created_at:%Y-%m-%d}", version.manifest.licence)
        for version, is_active in versions
    ]  # fmt: skip
    show.console().print(show.rows(("", "version", "runtime", "size", "made", "licence"), lines))


@app.command("show")
def show_version(context: typer.Context, version: str) -> None:
    """A version's manifest: files, quality as measured, what it was trained from."""
    store, _ = _registry(context)
    print(store.get(version).manifest.model_dump_json(indent=2))


@app.command()
def activate(context: typer.Context, version: str, why: Why = "") -> None:
    """Serve another version (NAME@VERSION)."""
    store, active = _registry(context)

    def offline() -> ModelActivated:
        before = _current(active, store.get(version).manifest.name)
        active.activate(version, who=whoami(), why=why)
        return ModelActivated(version=version, previous=before)

    request = ActivateModel(version=version, who=whoami(), why=why)
    _told(_online_or(context, lambda client: client.request(request, ModelActivated), offline))


@app.command()
def rollback(
    context: typer.Context,
    name: str,
    to: Annotated[str | None, typer.Option(help="NAME@VERSION; the version before when left out.")] = None,
    why: Why = "",
) -> None:
    """Go back to the version that was active before."""
    _, active = _registry(context)

    def offline() -> ModelActivated:
        before = _current(active, name)
        return ModelActivated(version=active.rollback(name, to=to, who=whoami(), why=why), previous=before)

    request = RollbackModel(name=name, to=to, who=whoami(), why=why)
    _told(_online_or(context, lambda client: client.request(request, ModelActivated), offline))


@app.command()
def history(context: typer.Context, name: str, as_json: Json = False) -> None:
    """Who changed the active version, when, why, from what to what."""
    _, active = _registry(context)
    changes = active.history(name)
    if as_json:
        print(json.dumps([CHANGE.dump_python(change, mode="json") for change in changes]))
        return
    lines = [
        (
            f"{change.at.astimezone():%Y-%m-%d %H:%M:%S}",
            change.action,
            change.from_version or "-",
            change.to_version,
            change.who,
            change.why,
        )
        for change in changes
    ]
    show.console().print(show.rows(("when", "what", "from", "to", "who", "why"), lines))


@app.command()
def verify(context: typer.Context, version: Annotated[str, typer.Argument(help="All when left out.")] = "") -> None:
    """Check every byte of a version, or of all, against its manifest."""
    store, _ = _registry(context)
    damaged = []
    for name in [version] if version else store.ids():
        try:
            store.verify(name)
            show.console().print(f"{name}: whole")
        except RegistryError as error:
            damaged.append(name)
            show.console().print(f"{name}: {error} [{error.code}]", style="red")
    if damaged:
        raise typer.Exit(1)


@app.command()
def register(context: typer.Context, folder: Path) -> None:
    """Add a version from a folder that holds manifest.json and its files. It is not activated."""
    store, _ = _registry(context)
    version = store.register(Manifest.read(folder), folder)
    show.console().print(f"registered {version}; `shoal models activate {version}` serves it")


@app.command()
def prune(
    context: typer.Context,
    keep: Annotated[int, typer.Option(min=0, help="How many of the newest versions of each model stay.")] = 3,
) -> None:
    """Remove old versions; never an active one, nor one that a rollback leads to."""
    _, active = _registry(context)
    removed = collect_garbage(active, keep)
    show.console().print("\n".join(f"removed {version}" for version in removed) or "nothing to remove")


def _registry(context: typer.Context) -> tuple[Store, ActivePointers]:
    settings: Settings = context.obj.settings
    store, active = Store(settings.registry_root), ActivePointers(settings.registry_root)
    if not store.ids():  # else the daemon's start does it: it also mends and promotes, which no question should
        register_bundled(store, active)
    return store, active


def _online_or(
    context: typer.Context, ask: Callable[[Client], Awaitable[ModelActivated]], offline: Callable[[], ModelActivated]
) -> ModelActivated:
    settings: Settings = context.obj.settings

    # Every small model that runs on the version may take its whole time to load, and again to go back.
    timeout_s = 30 + 2 * sum(slm.load_timeout_s for slm in settings.slm.values())

    async def converse() -> ModelActivated:
        async with Client(settings.server_uri, settings.server, timeout_s) as client:
            return await ask(client)

    try:
        return asyncio.run(converse())
    except NobodyListens:
        # One that is only just starting, or stopping, has chosen its versions and must not be passed by.
        with sole_owner(settings.home):
            return offline()


def _told(reply: ModelActivated) -> None:
    show.console().print(f"{reply.version} serves" + (f" (before: {reply.previous})" if reply.previous else ""))


def _current(active: ActivePointers, name: str) -> str | None:
    try:
        return active.current(name)
    except RegistryError:
        return None


def _size(manifest: Manifest) -> int:
    return sum(file.size for file in manifest.files)


def _described(manifest: Manifest) -> dict[str, Any]:
    return {"size_bytes": _size(manifest)} | manifest.model_dump(mode="json", exclude={"files"})
