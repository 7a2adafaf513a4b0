"""The command `shoal`: starts the daemon, and speaks to it over its socket.

Exit codes: 0 done; 1 the daemon refused or failed; 2 wrong usage; 3 no daemon answers; 4 a setting is wrong.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

import typer
from pydantic import ValidationError

from actors.errors import ActorError, RuntimeLost
from config.logs import configure_logging
from config.schema import SchemaError, load_schema
from config.settings import LoadedSettings, SettingsError, flatten, load_settings, parse_overrides
from daemon import cli_models, detach, show
from daemon.client import REPLY_TIMEOUT_S, Client
from daemon.errors import DaemonError, DaemonUnreachable
from daemon.protocol import (
    AwaitStored,
    DeadLetterSettled,
    DiscardDeadLetter,
    Forget,
    Forgotten,
    Ingest,
    Ingested,
    InspectQueue,
    Message,
    Queue,
    Recall,
    Recalled,
    ReportStatus,
    RetryDeadLetter,
    Status,
    Stop,
    Stopping,
    Stored,
    Watch,
    Watching,
    faults,
    ingested_schema,
)
from registry.errors import RegistryError

FAILED, USAGE, UNREACHABLE, BAD_SETTINGS = 1, 2, 3, 4
T = TypeVar("T")

app = typer.Typer(
    name="shoal",
    help="Keeps a shoal of small models beside a big one, and remembers.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
queue_app = typer.Typer(help="What waits for the graphs, and what they refused.", invoke_without_command=True)
forget_app = typer.Typer(help="Erase from memory: an entity, a session, everything. Asks first.", no_args_is_help=True)
app.add_typer(queue_app, name="queue")
app.add_typer(forget_app, name="forget")
app.add_typer(cli_models.app, name="models")

Json = Annotated[bool, typer.Option("--json", help="Print JSON for a script.")]
User = Annotated[str | None, typer.Option(help="Whose memory; `user` of the settings when left out.")]


@app.callback()
def settings_options(
    context: typer.Context,
    config: Annotated[Path | None, typer.Option(help="A settings file in place of the user's own.")] = None,
    sets: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="One setting, such as graph.uri=bolt://…")
    ] = None,
) -> None:
    """Keeps a shoal of small models beside a big one, and remembers."""
    context.obj = load_settings(config, parse_overrides(sets or []))
    configure_logging(context.obj.settings.log)  # before anything logs: stdout is for results, --json ones too


@app.command()
def start(
    context: typer.Context,
    detached: Annotated[bool, typer.Option("--detach", help="Return once it is ready; it runs on.")] = False,
) -> None:
    """Start the daemon: in the foreground, or --detach."""
    loaded: LoadedSettings = context.obj
    if detached:
        ready = detach.start(loaded.settings, _settings_arguments(context))
        show.console().print(ready, soft_wrap=True)
        return
    from daemon.app import serve  # here, so that no other command waits for its imports

    raise typer.Exit(asyncio.run(serve(loaded.settings, lambda line: print(line, flush=True))))


@app.command()
def demo(
    about: Annotated[str, typer.Option(help="Whom the demonstration recalls.")] = "Emma",
) -> None:
    """Play a conversation into a fresh daemon in a temporary folder, and show what became of it."""
    from daemon.demo import play

    asyncio.run(play(about))


@app.command()
def stop(context: typer.Context) -> None:
    """Stop the daemon: it refuses new turns, finishes those under way and leaves the rest in the journal."""

    async def ask(client: Client) -> int:
        report = await client.request(ReportStatus(), Status)
        await client.request(Stop(), Stopping)
        return report.pid

    settings = context.obj.settings
    pid = _talk(context, ask)
    if not detach.wait_gone(pid, settings.server.drain_timeout_s * 3 + 20):
        raise DaemonError(f"the daemon (pid {pid}) has not ended yet; a second SIGTERM forces it")
    show.console().print("stopped")


@app.command("status")
def status_command(context: typer.Context, as_json: Json = False) -> None:
    """Health of every actor, active versions, queue, graphs. Exits with 1 when something is down."""
    report = _talk(context, lambda client: client.request(ReportStatus(), Status))
    _print(report, show.status(report), as_json)
    if report.state != "ready":
        raise typer.Exit(FAILED)


@app.command()
def say(
    context: typer.Context,
    text: Annotated[str, typer.Argument(help="What is said; - reads lines from standard input.")],
    user: User = None,
    session: Annotated[str, typer.Option(help="The conversation it belongs to.")] = "shell",
    speaker: Annotated[str, typer.Option(help='"user", "agent" or a name.')] = "user",
    wait: Annotated[bool, typer.Option("--wait", help="Return once it is in both graphs.")] = False,
    as_json: Json = False,
) -> None:
    """Say something: prints what was understood and the receipt."""

    async def send(client: Client) -> None:
        for line in _lines(text):
            message = Ingest(
                text=line, user=user, session=session, speaker=speaker, wait="stored" if wait else "accepted"
            )
            reply = await client.request(message, Ingested)
            _print(reply, show.turn(reply, line if text == "-" else ""), as_json)

    _talk(context, send)


@app.command()
def watch(context: typer.Context, as_json: Json = False) -> None:
    """Show every turn as it happens, until interrupted."""

    async def follow(client: Client) -> None:
        await client.request(Watch(), Watching)
        async for event in client.events():
            if isinstance(event, Ingested):
                _print(event, show.turn(event, str(event.understood.get("text", ""))), as_json)
            elif isinstance(event, Stored):
                where = ", ".join(graph for graph, done in event.stored.items() if done)
                _print(event, f"  receipt {event.seq} stored: {where}", as_json)

    _talk(context, follow)


@app.command()
def stored(
    context: typer.Context,
    receipt: Annotated[int, typer.Argument(min=1)],
    timeout_s: Annotated[float, typer.Option("--timeout", help="Seconds to wait.")] = 0.0,
    as_json: Json = False,
) -> None:
    """Whether a receipt is in both graphs. Exits with 1 when it is not."""
    message = AwaitStored(seq=receipt, timeout_s=timeout_s)
    reply = _talk(context, lambda client: client.request(message, Stored), timeout_s + REPLY_TIMEOUT_S)
    places = ", ".join(f"{graph}: {'stored' if done else 'waiting'}" for graph, done in reply.stored.items())
    refused = f"; refused by {', '.join(reply.dead)}: `shoal queue`" if reply.dead else ""
    _print(reply, places + refused, as_json)
    if not all(reply.stored.values()) or reply.dead:
        raise typer.Exit(FAILED)


@app.command()
def facts(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="An entity; everything when left out.")] = "",
    user: User = None,
    agent: Annotated[bool, typer.Option("--agent", help="The agent graph: episodes, topics, preferences.")] = False,
    current: Annotated[bool, typer.Option("--current", help="Leave out what no longer holds.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=10_000)] = 200,
    as_json: Json = False,
) -> None:
    """What is known, with status, confidence, dates and where it was said."""
    message = Recall(name=name, user=user, graph="agent" if agent else "user", closed=not current, limit=limit)
    reply = _talk(context, lambda client: client.request(message, Recalled))
    view = show.agent_nodes(reply.facts) if agent else show.facts(reply.facts, reply.total)
    _print(reply, view if reply.facts else f"nothing is known{' of ' + name if name else ''}", as_json)


@queue_app.callback()
def queue(context: typer.Context, as_json: Json = False) -> None:
    """What waits for the graphs, and what they refused."""
    if context.invoked_subcommand is None:
        report = _talk(context, lambda client: client.request(InspectQueue(), Queue))
        _print(report, show.queue(report), as_json)


@queue_app.command()
def retry(context: typer.Context, receipt: int, graph: str) -> None:
    """Put a dead letter back into the queue."""
    settled = _settle(context, RetryDeadLetter(seq=receipt, graph=_graph(graph)))
    show.console().print(f"receipt {receipt} waits again, as {settled.new_seq}")


@queue_app.command()
def discard(
    context: typer.Context, receipt: int, graph: str, yes: Annotated[bool, typer.Option("--yes")] = False
) -> None:
    """Erase a dead letter: what it said is lost for this graph. Asks first."""
    yes or typer.confirm(f"Erase dead letter {receipt} of the {graph} graph for good?", abort=True)
    _settle(context, DiscardDeadLetter(seq=receipt, graph=_graph(graph)))
    show.console().print(f"receipt {receipt} discarded")


@forget_app.command("entity")
def forget_entity(
    context: typer.Context, name: str, user: User = None, yes: Annotated[bool, typer.Option("--yes")] = False
) -> None:
    """Erase a person, place or thing, all facts about it, and the sentences that name it."""
    yes or typer.confirm(f"Forget {name} and everything said about it, for good?", abort=True)
    _forget(context, Forget(scope="entity", name=name, user=user))


@forget_app.command("session")
def forget_session(
    context: typer.Context, name: str, user: User = None, yes: Annotated[bool, typer.Option("--yes")] = False
) -> None:
    """Erase what one session said and taught."""
    yes or typer.confirm(f"Forget the session {name}, for good?", abort=True)
    _forget(context, Forget(scope="session", name=name, user=user))


@forget_app.command("everything")
def forget_everything(
    context: typer.Context, user: User = None, yes: Annotated[bool, typer.Option("--yes")] = False
) -> None:
    """Erase both graphs of a user."""
    yes or typer.confirm("Forget EVERYTHING, for good?", abort=True)
    _forget(context, Forget(scope="everything", user=user))


@app.command("schema")
def schema_command() -> None:
    """The JSON Schema of a turn's reply, as `say --json` prints it; asks no daemon."""
    print(json.dumps(ingested_schema(load_schema()), indent=2))


@app.command("config")
def config_command(context: typer.Context, as_json: Json = False) -> None:
    """The effective settings, and where each came from."""
    loaded: LoadedSettings = context.obj
    shown_settings = flatten(loaded.settings.model_dump(mode="json"))  # a password shows as stars
    lines = [(key, value, loaded.origins.get(key, "default")) for key, value in shown_settings]
    if as_json:
        print(json.dumps({key: {"value": value, "origin": origin} for key, value, origin in lines}, default=str))
    else:
        shown = [(key, json.dumps(value, default=str), origin) for key, value, origin in lines]
        show.console().print(show.rows(("setting", "value", "from"), shown))


def main() -> NoReturn:
    """Run `shoal`; an error becomes one line on standard error and an exit code."""
    try:
        app()
    except (SettingsError, SchemaError) as error:
        _fail(str(error), BAD_SETTINGS)
    except ValidationError as error:  # a request that this command line cannot mean
        _fail(faults(error), USAGE)
    except DaemonUnreachable as error:
        _fail(str(error), UNREACHABLE)
    except RuntimeLost as error:
        # Nothing is left to close, and what the lost runtime left in this process would crash the interpreter's end.
        with suppress(SystemExit):
            _fail(f"{error} [{error.code}]", FAILED)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(FAILED)
    except (DaemonError, ActorError, RegistryError) as error:
        _fail(f"{error} [{error.code}]", FAILED)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(141)
    except OSError as error:
        _fail(str(error), FAILED)
    sys.exit(0)


def _fail(text: str, code: int) -> NoReturn:
    show.console(stderr=True).print(f"shoal: {text}", style="red", soft_wrap=True)
    sys.exit(code)


def _talk(
    context: typer.Context, conversation: Callable[[Client], Awaitable[T]], timeout_s: float = REPLY_TIMEOUT_S
) -> T:
    settings = context.obj.settings

    async def converse() -> T:
        async with Client(settings.server_uri, settings.server, timeout_s) as client:
            return await conversation(client)

    return asyncio.run(converse())


def _settle(context: typer.Context, message: RetryDeadLetter | DiscardDeadLetter) -> DeadLetterSettled:
    return _talk(context, lambda client: client.request(message, DeadLetterSettled))


def _forget(context: typer.Context, message: Forget) -> None:
    reply = _talk(context, lambda client: client.request(message, Forgotten))
    done = all(reply.stored.values())
    if done and reply.names == []:
        show.console().print("nothing of that name is known")
        return
    show.console().print("forgotten" if done else f"will be forgotten once the graphs answer (receipt {reply.seq})")


def _print(message: Message, view: Any, as_json: bool) -> None:
    if as_json:
        print(message.model_dump_json(exclude_none=True), flush=True)
    else:
        show.console().print(view)


def _lines(text: str) -> Iterator[str]:
    if text != "-":
        yield text
        return
    # What is no UTF-8 comes through as it does in an argument, and is refused with its code when it is sent.
    with open(sys.stdin.fileno(), encoding="utf-8", errors="surrogateescape", closefd=False) as lines:
        for line in lines:
            if line.strip():
                yield line.rstrip("\n")


def _graph(name: str) -> Any:
    if name not in ("user", "agent"):
        raise typer.BadParameter("the graph is `user` or `agent`")
    return name


def _settings_arguments(context: typer.Context) -> list[str]:
    """The options before the command, for the process that `--detach` starts."""
    parameters = context.parent.params if context.parent else {}
    arguments = ["--config", str(Path(parameters["config"]).absolute())] if parameters.get("config") else []
    for item in parameters.get("sets") or ():
        arguments += ["--set", item]
    return arguments
