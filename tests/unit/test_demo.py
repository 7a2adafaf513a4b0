"""The demonstration: it leaves what a person has alone."""

import pytest

from config.settings import load_settings, parse_overrides
from daemon.demo import ALONE
from daemon.memory.graph import configured_target
from daemon.memory.journal import GRAPHS


def test_a_persons_own_graph_cluster_and_socket_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = {
        "GRAPH__URI": "bolt://neo4j.home:7687",
        "GRAPH__USER_GRAPH__URI": "bolt://neo4j.home:7688",
        "RAY__ADDRESS": "auto",
        "SERVER__URI": "tcp://127.0.0.1:10300",
        "METRICS__PORT": "9000",
    }
    for name, value in theirs.items():
        monkeypatch.setenv(f"SHOAL_{name}", value)

    settings = load_settings(overrides=parse_overrides(f"{key}={value}" for key, value in ALONE.items())).settings

    assert [configured_target(settings.graph, graph) for graph in GRAPHS] == [None, None]
    assert (settings.ray.address, settings.server.uri, settings.metrics.port) == ("", "", 0)
