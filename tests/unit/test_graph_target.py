"""Which server and database the settings mean for each graph."""

from __future__ import annotations

from typing import Any

from config.settings import GraphSettings, load_settings
from daemon.memory.graph import Target, configured_target


def graph_settings(**graph: Any) -> GraphSettings:
    return load_settings(overrides={"graph": graph}).settings.graph


def test_without_an_address_the_embedded_graph_is_meant() -> None:
    assert configured_target(graph_settings(password="secret"), "user") is None


def test_two_settings_point_both_graphs_at_a_neo4j() -> None:
    settings = graph_settings(uri="bolt://db:7687", password="secret")
    for name in ("user", "agent"):
        assert configured_target(settings, name) == Target("bolt://db:7687", "neo4j", "secret", "")


def test_each_graph_may_have_a_server_and_a_database_of_its_own() -> None:
    own = {"uri": "bolt://other:7687", "database": "agents"}
    settings = graph_settings(uri="bolt://db:7687", user_graph={"database": "people"}, agent_graph=own)
    assert configured_target(settings, "user") == Target("bolt://db:7687", "neo4j", "", "people")
    assert configured_target(settings, "agent") == Target("bolt://other:7687", "neo4j", "", "agents")


def test_one_graph_may_be_embedded_beside_a_server() -> None:
    settings = graph_settings(agent_graph={"uri": "bolt://other:7687"})
    assert configured_target(settings, "user") is None
    assert configured_target(settings, "agent") is not None


def test_a_target_does_not_show_its_password() -> None:
    target = configured_target(graph_settings(uri="bolt://db:7687", password="secret"), "user")
    assert target is not None
    assert "secret" not in repr(target)
