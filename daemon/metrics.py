"""What Prometheus sees, served on loopback. No metric holds what was said or who said it."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from importlib.metadata import version
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, start_http_server

from config.settings import MetricsSettings
from daemon.errors import MetricsPortInUse

LATENCY_BUCKETS_S = (0.001, 0.002, 0.004, 0.006, 0.008, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)


class Metrics:
    """Shoal's metrics in a registry of their own, so that two daemons in one process do not meet."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.turns = Counter("shoal_turns", "Turns that ended, by outcome.", ["outcome"], registry=registry)
        self.refused = Counter("shoal_refused", "Requests refused, by code.", ["code"], registry=registry)
        self.missing = Counter(
            "shoal_missing_results",
            "Turns that went without a small model's result.",
            ["slm", "code"],
            registry=registry,
        )
        self.turn = self._histogram("shoal_turn_seconds", "Text in to receipt out.", [])
        self.stage = self._histogram("shoal_stage_seconds", "One stage of a turn.", ["stage"])
        self.previews = Counter("shoal_previews", "Previews that ended, by outcome.", ["outcome"], registry=registry)
        self.preview = self._histogram("shoal_preview_seconds", "One stage of a preview, or all of it.", ["stage"])
        self.model = self._histogram("shoal_model_seconds", "Computing inside a small model.", ["slm"])
        self.overhead = self._histogram("shoal_overhead_seconds", "A turn's time apart from model time.", [])
        self.stored = self._histogram("shoal_stored_seconds", "Receipt to commit in a graph.", ["graph"])
        self.queue_depth = Gauge("shoal_queue_depth", "Entries not yet in the graph.", ["graph"], registry=registry)
        self.queue_age = Gauge("shoal_queue_age_seconds", "Age of the oldest of them.", ["graph"], registry=registry)
        self.dead_letters = Gauge(
            "shoal_dead_letters", "Writes that a graph refused for good.", ["graph"], registry=registry
        )
        self.graph_up = Gauge("shoal_graph_up", "1 while the graph answers.", ["graph"], registry=registry)
        self.actor_up = Gauge("shoal_actor_up", "1 while the replica serves.", ["slm", "replica"], registry=registry)
        self.restarts = Gauge("shoal_actor_restarts", "Restarts of a replica.", ["slm", "replica"], registry=registry)
        self.actor_memory = Gauge(
            "shoal_actor_memory_bytes", "Resident memory of a replica's process.", ["slm", "replica"], registry=registry
        )
        self.connections = Gauge("shoal_connections", "Clients connected.", registry=registry)
        self.active_version = Gauge(
            "shoal_active_version", "1 for the version that serves.", ["slm", "version"], registry=registry
        )
        Info("shoal_build", "What runs.", registry=registry).info({"version": version("shoal")})
        self._server: WSGIServer | None = None

    def _histogram(self, name: str, text: str, labels: list[str]) -> Histogram:
        return Histogram(name, text, labels, buckets=LATENCY_BUCKETS_S, registry=self.registry)

    def show_versions(self, versions: Mapping[str, str]) -> None:
        """Replace what `shoal_active_version` shows by small model -> "name@version"."""
        self.active_version.clear()
        for slm, served in versions.items():
            self.active_version.labels(slm, served).set(1)

    def serve(self, settings: MetricsSettings) -> str | None:
        """Start the endpoint; its URL, None when switched off. Port 0 takes a free one.

        Raises:
            MetricsPortInUse: something else listens at the port.
            OSError: the address cannot be listened at.
        """
        if not settings.enabled:
            return None
        try:
            self._server, thread = start_http_server(settings.port, settings.host, self.registry)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            raise MetricsPortInUse(
                f"something else listens at {settings.host}:{settings.port}: set metrics.port to another port, "
                "or to 0 for any free one"
            ) from None
        thread.name = "metrics"
        return f"http://{settings.host}:{self._server.server_port}/metrics"

    def close(self) -> None:
        """Stop the endpoint."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None
