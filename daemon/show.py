"""How the command line shows things to a person."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from daemon.protocol import Ingested, Queue, Status

STATUS_STYLES = {
    "asserted": "green",
    "uncertain": "yellow",
    "ended": "dim",
    "superseded": "dim",
    "negated": "red",
    "corrected": "red",
}


def console(*, stderr: bool = False) -> Console:
    """A console that wraps for a person and never for a pipe."""
    return Console(stderr=stderr, highlight=False, soft_wrap=True)


def table(*columns: str) -> Table:
    """An empty table in the house's style."""
    made = Table(box=None, pad_edge=False, header_style="bold dim", padding=(0, 2, 0, 0))
    for column in columns:
        made.add_column(column, overflow="fold")
    return made


def turn(reply: Ingested, text: str) -> RenderableType:
    """A turn as `shoal say` and `shoal watch` show it: what was said, understood and promised."""
    lines = [Text.assemble(("› ", "bold cyan"), (text, "bold"))] if text else []
    lines += [_statement(statement) for statement in reply.understood.get("statements", ())]
    lines += [Text(f"  ? {line}", style="cyan") for line in _classification(reply.understood.get("classifier"))]
    for slm, code in reply.missing.items():
        lines.append(Text(f"  ! without {slm}: {code}", style="yellow"))
    stages = " · ".join(f"{stage} {spent_ms:.1f}" for stage, spent_ms in reply.stages_ms.items() if stage != "turn")
    total_ms = reply.stages_ms.get("turn", 0.0)
    lines.append(Text(f"  receipt {reply.seq} in {total_ms:.1f} ms  ({stages})", style="dim"))
    return Group(*lines)


def facts(found: Sequence[Mapping[str, Any]], total: int) -> RenderableType:
    """Facts as a table: what is known, how surely, since when, and where it was said."""
    made = table("subject", "predicate", "object", "status", "conf", "said", "from", "to", "last said as")
    for fact in found:
        status = str(fact.get("status", ""))
        made.add_row(
            str(fact["subject"]),
            str(fact["predicate"]),
            str(fact["object"]),
            Text(status, style=STATUS_STYLES.get(status, "")),
            f"{fact.get('confidence', 0.0):.2f}",
            f"{fact.get('times_said', 1)}×",
            str(fact.get("valid_from") or ""),
            str(fact.get("valid_to") or ""),
            str(fact.get("said_as", "")),
        )
    left = f"{total - len(found)} more: --limit shows them" if total > len(found) else ""
    return Group(made, Text(left, style="dim")) if left else made


def agent_nodes(found: Sequence[Mapping[str, Any]]) -> RenderableType:
    """The agent graph's nodes: episodes, topics, preferences, corrections."""
    made = table("kind", "what", "details")
    for node in found:
        details = ", ".join(
            f"{key} {value}" for key, value in node.items() if key not in ("kind", "what", "id", "user")
        )
        made.add_row(str(node["kind"]), str(node["what"]), details)
    return made


def status(report: Status) -> RenderableType:
    """`shoal status` for a person."""
    head = Text.assemble(
        ("shoal ", "bold"),
        f"{report.version} ",
        (report.state, "green" if report.state == "ready" else "yellow"),
        f", pid {report.pid}, up {_duration(report.uptime_s)}, runtime {report.runtime}",
        f", metrics {report.metrics_url}" if report.metrics_url else "",
    )
    actors = table("actor", "state", "version", "answered", "failed", "queued", "restarts", "memory")
    for actor in report.actors:
        state = str(actor["state"])
        actors.add_row(
            f"{actor['slm']}-{actor['replica']}",
            Text(state, style="green" if state == "serving" else "red"),
            str(actor["model"]),
            *(str(actor[key]) for key in ("answered", "failed", "queued", "restarts")),
            f"{actor['rss_bytes'] / 1e6:.0f} MB",
        )
    graphs = table("graph", "state", "waiting", "oldest", "where")
    for name, graph in report.graphs.items():
        queue = report.queue.get(name, {})
        up = bool(graph.get("up"))
        graphs.add_row(
            name,
            Text("up" if up else "down", style="green" if up else "red"),
            str(queue.get("pending", 0)),
            f"{queue.get('oldest_age_s', 0.0):.1f} s",
            str(graph.get("uri", "")) + (f"  {graph['error']}" if graph.get("error") else ""),
        )
    parts: list[RenderableType] = [head, actors, graphs]
    if report.dead_letters:
        parts.append(Text(f"{report.dead_letters} dead letters: `shoal queue` shows them", style="red"))
    return Group(*parts)


def queue(report: Queue) -> RenderableType:
    """`shoal queue` for a person."""
    waiting = table("graph", "waiting", "oldest")
    for name, graph in report.graphs.items():
        waiting.add_row(name, str(graph.get("pending", 0)), f"{graph.get('oldest_age_s', 0.0):.1f} s")
    if not report.dead_letters:
        return Group(waiting, Text("no dead letters", style="dim"))
    dead = table("receipt", "graph", "when", "error", "what")
    for letter in report.dead_letters:
        dead.add_row(
            str(letter["seq"]), str(letter["graph"]), moment(letter["at"]), str(letter["error"]), str(letter["what"])
        )
    return Group(waiting, Text("dead letters", style="bold red"), dead)


def rows(columns: Sequence[str], lines: Iterable[Sequence[str]]) -> RenderableType:
    """A plain table."""
    made = table(*columns)
    for line in lines:
        made.add_row(*line)
    return made


def moment(unix_s: float) -> str:
    """A Unix time in the person's own zone."""
    return datetime.fromtimestamp(unix_s).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _statement(statement: Mapping[str, Any]) -> Text:
    status = statement["status"]
    return Text.assemble(
        "  ",
        (argument(statement["subject"]), "bold"),
        (f" {statement['predicate']} ", "magenta"),
        (argument(statement["object"]), "bold"),
        (f"  {status}" if status != "asserted" else "", STATUS_STYLES.get(status, "")),
        (f"  {statement['time'] or statement['time_text']}" if statement.get("time_text") else "", "blue"),
        (f"  {statement['confidence']:.2f}", "dim"),
    )


def argument(side: Mapping[str, Any]) -> str:
    """A statement's subject or object, as a person would say it."""
    by_role = {"user": "you", "group": "you and others", "agent": "the assistant"}
    name = by_role.get(side["role"], str(side["name"]))
    owner = side.get("owner")
    if owner and side.get("nominal") == side["name"]:
        return f"{'your' if owner == 'user' else owner + chr(39) + 's'} {name}"
    return name


def _classification(result: Mapping[str, Any] | None) -> list[str]:
    if not result:
        return []
    needs = [need for need, key in (("research", "needs_research"), ("memory", "needs_memory")) if result[key]]
    needed = f"needs {' and '.join(needs)}" if needs else "needs neither research nor memory"
    return [f"{result['category']}: {needed} ({result['reason']})"]
