"""Measured through the socket of a running daemon: latency, stages, throughput, storing, memory."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from itertools import cycle, islice
from time import perf_counter

import psutil

from config.settings import Settings
from daemon.client import Client
from daemon.protocol import AwaitStored, Ingest, Ingested, ReportStatus, Status, Stored
from tests.bench.measure import Latency

WARM_UP = 20


async def latency(settings: Settings, turns: Sequence[str], count: int) -> tuple[Latency, dict[str, Latency], Latency]:
    """One client, one turn after the other: (text to receipt, per stage, overhead apart from model time)."""
    total_ms: list[float] = []
    overhead_ms: list[float] = []
    stages_ms: dict[str, list[float]] = defaultdict(list)
    async with Client(settings.server_uri, settings.server) as client:
        for number, text in enumerate(islice(cycle(turns), WARM_UP + count)):
            began = perf_counter()
            reply = await client.request(Ingest(text=text, session=f"latency-{number // 8}"), Ingested)
            spent_ms = (perf_counter() - began) * 1000
            if number < WARM_UP:
                continue
            if reply.missing:
                raise RuntimeError(f"a turn went without {reply.missing}: its time would flatter")
            total_ms.append(spent_ms)
            overhead_ms.append(spent_ms - reply.stages_ms["model_time"])
            for stage, stage_ms in reply.stages_ms.items():
                stages_ms[stage].append(stage_ms)
    return (
        Latency.of(total_ms),
        {stage: Latency.of(times) for stage, times in stages_ms.items()},
        Latency.of(overhead_ms),
    )


async def throughput(settings: Settings, turns: Sequence[str], clients: int, count: int) -> float:
    """Turns per second of `clients` connections that each send their next turn when the last is acknowledged."""

    async def talk(number: int) -> None:
        async with Client(settings.server_uri, settings.server) as client:
            for text in islice(cycle(turns), number, number + count // clients):
                await client.request(Ingest(text=text, session=f"load-{clients}-{number}"), Ingested)

    began = perf_counter()
    await asyncio.gather(*(talk(number) for number in range(clients)))
    return (count // clients) * clients / (perf_counter() - began)


async def storing(settings: Settings, turns: Sequence[str], count: int) -> Latency:
    """Receipt to committed in both graphs, one turn at a time."""
    times_ms: list[float] = []
    async with Client(settings.server_uri, settings.server) as client:
        for text in islice(cycle(turns), count):
            reply = await client.request(Ingest(text=text, session="storing"), Ingested)
            began = perf_counter()
            stored = await client.request(AwaitStored(seq=reply.seq, timeout_s=60), Stored)
            if not all(stored.stored.values()):
                raise RuntimeError(f"receipt {reply.seq} was not stored within a minute")
            times_ms.append((perf_counter() - began) * 1000)
    return Latency.of(times_ms)


async def memory_mb(settings: Settings) -> dict[str, float]:
    """Resident memory of the daemon and of every process it started, in MB."""
    async with Client(settings.server_uri, settings.server) as client:
        status = await client.request(ReportStatus(), Status)
    used = {f"actor {actor['slm']}-{actor['replica']}": actor["rss_bytes"] / 1e6 for actor in status.actors}
    actors = {actor["pid"] for actor in status.actors}
    daemon = psutil.Process(status.pid)
    used["daemon"] = daemon.memory_info().rss / 1e6
    rest: dict[str, float] = defaultdict(float)
    for child in daemon.children(recursive=True):
        if child.pid not in actors:
            rest["graph server" if "java" in child.name() else f"ray: {child.name()[:24]}"] += (
                child.memory_info().rss / 1e6
            )
    return used | dict(rest)
