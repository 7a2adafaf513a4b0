"""The same models without Shoal: called directly in one process, and through Ray Serve.

`python -m tests.bench.yardsticks COUNT` measures the second and prints JSON; it runs in an environment of its own.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from importlib import import_module
from itertools import cycle, islice
from pathlib import Path
from time import perf_counter
from typing import Any

from actors.contract import SLM
from actors.messages import Request, Turn
from config.settings import Settings, load_settings
from registry.active import ActivePointers
from registry.bundled import register_bundled
from registry.store import Store
from tests.bench.measure import Latency

WARM_UP = 20
TURNS = Path(__file__).parent.joinpath("turns.txt").read_text(encoding="utf-8").splitlines()


def direct(settings: Settings, turns: Sequence[str], count: int) -> Latency:
    """Encoder, classifier and extractor one after the other, in this process."""
    with tempfile.TemporaryDirectory() as folder:
        models = _load(settings, Path(folder))
        times_ms = []
        for number, text in enumerate(islice(cycle(turns), WARM_UP + count)):
            began = perf_counter()
            encoding = models["encoder"].run([Request(_turn(text))])[0]
            models["classifier"].run([Request(_turn(text), {"encoder": encoding})])
            models["extractor"].run([Request(_turn(text))])
            if number >= WARM_UP:
                times_ms.append((perf_counter() - began) * 1000)
        for model in models.values():
            model.close()
    return Latency.of(times_ms)


def through_serve(settings: Settings, turns: Sequence[str], count: int) -> Latency:
    """One Ray Serve deployment a model, called through its handle; encoder and extractor side by side."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    import ray
    from ray import serve

    with tempfile.TemporaryDirectory() as folder:
        ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False, _node_ip_address="127.0.0.1")
        try:
            serve.start(proxy_location="Disabled")
            handles = {}
            for name in ("encoder", "classifier", "extractor"):
                deployment = serve.deployment(_Served, name=name).options(ray_actor_options={"num_cpus": 0.1})
                handles[name] = serve.run(deployment.bind(name, settings, Path(folder)), name=name, route_prefix=None)
            times_ms = []
            for number, text in enumerate(islice(cycle(turns), WARM_UP + count)):
                began = perf_counter()
                extraction = handles["extractor"].remote(Request(_turn(text)))
                encoding = handles["encoder"].remote(Request(_turn(text))).result()
                handles["classifier"].remote(Request(_turn(text), {"encoder": encoding})).result()
                extraction.result()
                if number >= WARM_UP:
                    times_ms.append((perf_counter() - began) * 1000)
        finally:
            serve.shutdown()
            ray.shutdown()
    return Latency.of(times_ms)


class _Served:
    """One model in a Ray Serve replica."""

    def __init__(self, name: str, settings: Settings, root: Path) -> None:
        self._model = _load(settings, root / name, name)[name]

    def __call__(self, request: Request) -> Any:
        return self._model.run([request])[0]


def _load(settings: Settings, root: Path, *names: str) -> dict[str, SLM]:
    store, active = Store(root), ActivePointers(root)
    register_bundled(store, active)
    models = {}
    for name in names or tuple(settings.slm):
        slm = settings.slm[name]
        module, _, class_name = slm.implementation.partition(":")
        version = store.get(active.current(slm.model))
        models[name] = getattr(import_module(module), class_name).load(version, slm)
    return models


def _turn(text: str) -> Turn:
    return Turn(id="bench", user="me", session="bench", speaker="user", text=text, said_at=1.7e9)


if __name__ == "__main__":
    print(json.dumps(asdict(through_serve(load_settings().settings, TURNS, int(sys.argv[1])))))
