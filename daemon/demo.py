"""`shoal demo`: a fresh daemon, a conversation through its socket, and what became of it."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from importlib.resources import files
from time import perf_counter
from urllib.request import urlopen

from prometheus_client.parser import text_string_to_metric_families
from rich.rule import Rule

from config.settings import Settings, load_settings, parse_overrides
from daemon import show
from daemon.client import Client
from daemon.errors import DaemonError
from daemon.models import whoami
from daemon.protocol import (
    ActivateModel,
    AwaitStored,
    Ingest,
    Ingested,
    ModelActivated,
    Recall,
    Recalled,
    ReportStatus,
    RollbackModel,
    Status,
    Stop,
    Stopping,
    Stored,
)
from registry.store import Store

STORED_TIMEOUT_S = 60.0
ROLLED_TURN = "Is it raining in Graz right now?"
MOVED = (
    "shoal_turns_total",
    "shoal_turn_seconds_count",
    "shoal_turn_seconds_sum",
    "shoal_overhead_seconds_sum",
    "shoal_stored_seconds_count",
    "shoal_dead_letters",
    "shoal_active_version",
)


ALONE = {
    "graph.uri": "",
    **{f"graph.{graph}.{key}": "" for graph in ("user_graph", "agent_graph") for key in ("uri", "database")},
    "ray.address": "",
    "server.uri": "",
    "metrics.port": "0",
    "log.level": "warning",
}
"""What of a person's own settings the demonstration must not use: their graph above all."""


async def play(about: str) -> None:
    """Run the whole demonstration in a folder that is removed afterwards. Raises: DaemonError when a part fails."""
    console = show.console()
    began = perf_counter()
    with tempfile.TemporaryDirectory(prefix="shoal-demo-") as folder:
        chosen = [f"{key}={value}" for key, value in {"home": folder, "runtime_dir": f"{folder}/run", **ALONE}.items()]
        settings = load_settings(overrides=parse_overrides(chosen)).settings
        console.print(Rule("a fresh daemon"))
        async with _daemon(settings, chosen), Client(settings.server_uri, settings.server) as client:
            status = await client.request(ReportStatus(), Status)
            before = await _metrics(status)

            console.print(Rule("a conversation, through the socket"))
            last = await _converse(client)
            stored = await client.request(AwaitStored(seq=last, timeout_s=STORED_TIMEOUT_S), Stored)
            if not all(stored.stored.values()):
                raise DaemonError(f"receipt {last} is not in every graph after {STORED_TIMEOUT_S:g} s: {stored.stored}")

            console.print(Rule("the user graph"))
            found = await client.request(Recall(limit=500), Recalled)
            console.print(show.facts(found.facts, found.total))
            console.print(Rule("the agent graph"))
            nodes = await client.request(Recall(graph="agent"), Recalled)
            console.print(show.agent_nodes(nodes.facts))

            console.print(Rule(f"what it recalls about {about}"))
            found = await client.request(Recall(name=about), Recalled)
            console.print(show.facts(found.facts, found.total))

            console.print(Rule("a model rolled back, and forward"))
            await _roll(client, settings)

            console.print(Rule("the metrics that moved"))
            after = await _metrics(status)
            moved = [(name, f"{before.get(name, 0.0):g}", f"{value:g}") for name, value in after.items()]
            console.print(show.rows(("metric", "before", "after"), [row for row in moved if row[1] != row[2]]))
            console.print(Rule("a clean stop"))
            await client.request(Stop(), Stopping)
    console.print(f"done in {perf_counter() - began:.1f} s; nothing is left of it", style="bold")


@asynccontextmanager
async def _daemon(settings: Settings, chosen: Sequence[str]) -> AsyncIterator[None]:
    """`shoal start` as a person would run it; its lines appear as they come. On leaving it has ended."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "daemon", *(argument for item in chosen for argument in ("--set", item)), "start"),
        stdout=asyncio.subprocess.PIPE,
        cwd=settings.home,
    )
    assert process.stdout is not None  # noqa: S101 - a pipe was asked for
    async for line in process.stdout:
        print(line.decode().rstrip(), flush=True)
        if line.startswith(b"shoal ready"):
            break
    else:
        raise DaemonError(f"the daemon did not start (exit code {await process.wait()})")
    try:
        yield
    except BaseException:
        process.terminate()
        raise
    finally:
        rest, _ = await process.communicate()
        print(rest.decode().rstrip(), flush=True)


async def _converse(client: Client) -> int:
    """Play the conversation; returns the last receipt."""
    console = show.console()
    receipt = 0
    for line in files("daemon").joinpath("demo.txt").read_text(encoding="utf-8").splitlines():
        speaker, said, text = line.partition(": ")
        if line.startswith("#") or not said:
            continue
        reply = await client.request(Ingest(text=text, speaker=speaker, session="demo"), Ingested)
        console.print(show.turn(reply, text) if speaker == "user" else f"‹ {text}")
        receipt = reply.seq
    return receipt


async def _roll(client: Client, settings: Settings) -> None:
    """Back to the oldest classifier by one request, and forward to the newest by another."""
    console = show.console()
    versions = Store(settings.registry_root).ids("classifier")
    who = whoami()
    for request in (
        RollbackModel(name="classifier", to=versions[0], who=who, why="the demo goes back"),
        ActivateModel(version=versions[-1], who=who, why="and forward again"),
    ):
        moved = await client.request(request, ModelActivated)
        reply = await client.request(Ingest(text=ROLLED_TURN, session="demo-2"), Ingested)
        console.print(f"{moved.previous} → {moved.version}")
        console.print(show.turn(reply, ROLLED_TURN))


async def _metrics(status: Status) -> dict[str, float]:
    """The samples worth showing, by name and labels."""
    if status.metrics_url is None:
        return {}
    raw = await asyncio.to_thread(lambda: urlopen(str(status.metrics_url), timeout=5).read())  # noqa: S310 - loopback
    samples: dict[str, float] = {}
    for family in text_string_to_metric_families(raw.decode()):
        for sample in family.samples:
            if sample.name in MOVED:
                labels = ",".join(f"{key}={value}" for key, value in sample.labels.items())
                samples[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return samples
