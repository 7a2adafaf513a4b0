"""How the command line shows things to a person."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from actors.messages import USER
from daemon.memory.records import SHOWN_ROLES
from daemon.protocol import Ingested, Queue, Status

STATUS_STYLES = {
    "asserted": "green",
    "uncertain": "yellow",
    "ended": "dim",
    "superseded": "dim",
    "negated": "red",
    "corrected": "red",
}

PIPED_WIDTH = 160


def console(*, stderr: bool = False) -> Console:
    """A console as wide as the person's terminal, and wide enough for whole rows in a pipe."""
    # What was said is no markup, whatever brackets and colons it holds.
    made = Console(stderr=stderr, highlight=False, markup=False, emoji=False)
    if not made.is_terminal:
        made.width = PIPED_WIDTH
    return made


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
    made = table("subject", "predicate", "object", "status", "conf", "said", "from", "to")
    made.add_column("last said as", overflow="ellipsis", no_wrap=True)
    for fact in found:
        status = str(fact.get("status", ""))
        made.add_row(
            str(fact["subject"]),
            str(fact["predicate"]),
            str(fact["object"]),
            Text(status, style=STATUS_STYLES.get(status, "")),
            f"{fact.get('confidence', 0.0):.2f}",
            f"{fact.get('times_said', 1)}×",
            _day(fact.get("valid_from")),
            _day(fact.get("valid_to")),
            str(fact.get("said_as", "")),
        )
    left = "there are more: --limit shows them" if total > len(found) else ""
    return Group(made, Text(left, style="dim")) if left else made


def agent_nodes(found: Sequence[Mapping[str, Any]]) -> RenderableType:
    """The agent graph's nodes: episodes, topics, preferences, corrections."""
    made = table("kind", "what", "details")
    for node in found:
        made.add_row(str(node["kind"]).lower(), *_agent_node(node))
    return made


def _agent_node(node: Mapping[str, Any]) -> tuple[str, str]:
    match node["kind"]:
        case "Episode":
            span = f"{moment(node['started_at'])} to {moment(node['ended_at'])}"
            return f"session {node.get('session', '')}", f"{node['turns']} turns, {span}"
        case "Topic":
            return str(node["name"]), f"{node['sort']}, {node['turns']} turns"
        case "Preference":
            held = "" if node.get("held", True) else ", no longer"
            return (
                f"{node['stance']} {node['about']}",
                f"strength {node['strength']:.2f}, said {node['times_said']}×{held}",
            )
        case _:
            return f"{node.get('wrong') or '?'} → {node.get('right', '')}", moment(node["said_at"])


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
        state = "down (hangs)" if actor["hung"] else str(actor["state"])
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
        (f"  {statement.get('time') or statement['time_text']}" if statement.get("time_text") else "", "blue"),
        (f"  {statement['confidence']:.2f}", "dim"),
    )


def argument(side: Mapping[str, Any]) -> str:
    """A statement's subject or object, as a person would say it."""
    name = SHOWN_ROLES.get(side["role"], str(side["name"]))
    if not side.get("owner") or side.get("nominal") != side["name"]:
        return name
    # An owner may be owned: "user>sister" is the user's sister.
    first, *rest = [*str(side["owner"]).split(">"), name]
    return "’s ".join([f"your {rest[0]}", *rest[1:]] if first == USER else [first, *rest])


def _classification(result: Mapping[str, Any] | None) -> list[str]:
    return [f"{result['category']}: {result['reason']}"] if result else []


def _day(moment_iso: object) -> str:
    return str(moment_iso or "")[:10]
