"""What every runtime of a language model promises, proved on real runtimes with tiny random weights."""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from actors.errors import GenerationTimeout, GeneratorUnavailable, ModelLoadError
from actors.generation.prompt import Prompt, answer_schema
from actors.generator import Generator, GeneratorConfig
from actors.messages import Turn
from actors.runtimes.openai import MAX_REPLY_BYTES, OpenAIGenerator
from config.schema import load_schema
from config.settings import ModelServerSettings
from tests.contract.tiny_models import chat_server, completion, write_gguf, write_mlx

# mlx-lm brings transformers along, which takes a busy machine its time to import.
pytestmark = pytest.mark.timeout(300)

SCHEMA = load_schema()
ANSWER = answer_schema(SCHEMA)
CONTEXT_TOKENS = GeneratorConfig().context_tokens


def chat(text: str) -> Any:
    return Prompt(SCHEMA).messages(Turn("t", "me", "s", "user", text, 0.0))


@pytest.fixture(scope="module")
def opened(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Generator]:
    folder = tmp_path_factory.mktemp(request.param)
    generator: Generator
    if request.param == "gguf":
        from actors.runtimes.gguf import GgufGenerator

        write_gguf(folder / "model.gguf")
        generator = GgufGenerator(folder / "model.gguf", CONTEXT_TOKENS, 1)
    else:
        from actors.runtimes.mlx import MlxGenerator

        write_mlx(folder)
        generator = MlxGenerator(folder)
    generator.prepare(chat("Emma lives in Lisbon."))
    yield generator
    generator.close()


local = pytest.mark.parametrize("opened", ["gguf", "mlx"], indirect=True)


@local
def test_the_same_chat_gets_the_same_answer_whatever_was_asked_between(opened: Generator) -> None:
    def ask(text: str) -> str:
        return opened.complete(chat(text), ANSWER, 12, math.inf)

    first = ask("Emma lives in Lisbon.")
    assert ask("Emma lives in Lisbon.") == first
    ask("Tom plays Zelda, and his dog Biscuit likes it.")
    assert ask("Emma lives in Lisbon.") == first


@local
def test_a_deadline_ends_a_generation_and_the_next_one_is_whole(opened: Generator) -> None:
    before = opened.complete(chat("Emma lives in Lisbon."), ANSWER, 12, math.inf)
    with pytest.raises(GenerationTimeout):
        opened.complete(chat("Tom plays Zelda."), ANSWER, 2000, time.monotonic())
    assert opened.complete(chat("Emma lives in Lisbon."), ANSWER, 12, math.inf) == before


@local
def test_a_model_may_be_asked_from_another_thread_than_it_was_loaded_in(opened: Generator) -> None:
    answers: list[str] = []
    asking = threading.Thread(
        target=lambda: answers.append(opened.complete(chat("Emma lives in Lisbon."), ANSWER, 12, math.inf))
    )
    asking.start()
    asking.join()
    assert answers == [opened.complete(chat("Emma lives in Lisbon."), ANSWER, 12, math.inf)]


@pytest.mark.parametrize("opened", ["gguf"], indirect=True)
def test_a_chat_that_does_not_fit_is_refused_and_the_model_lives_on(opened: Generator) -> None:
    with pytest.raises(GeneratorUnavailable):
        opened.complete(chat("Emma " * CONTEXT_TOKENS), ANSWER, 4, math.inf)
    assert isinstance(opened.complete(chat("Emma lives in Lisbon."), ANSWER, 4, math.inf), str)


@pytest.mark.parametrize("opened", ["gguf"], indirect=True)
def test_a_chat_that_cannot_be_spelt_is_refused_and_the_model_lives_on(opened: Generator) -> None:
    with pytest.raises(GeneratorUnavailable):
        opened.complete([{"role": "user", "content": "half \ud83d"}], ANSWER, 4, math.inf)
    assert isinstance(opened.complete(chat("Emma lives in Lisbon."), ANSWER, 4, math.inf), str)


@pytest.mark.parametrize("opened", ["gguf"], indirect=True)
@pytest.mark.parametrize(
    "schema",
    [
        ANSWER,
        {
            "type": "object",
            "properties": {"predicate": {"enum": list(SCHEMA.predicates)}, "sure": {"type": "boolean"}},
            "required": ["predicate", "sure"],
            "additionalProperties": False,
        },
    ],
)
def test_even_random_weights_are_held_to_the_schema(opened: Generator, schema: dict[str, Any]) -> None:
    told = json.loads(opened.complete(chat("Emma lives in Lisbon."), schema, 2000, math.inf))
    jsonschema.validate(told, schema)


@pytest.mark.parametrize("content", [None, b"", b"GGUF", b"\x00garbage" * 100])
def test_a_broken_gguf_does_not_load(tmp_path: Path, content: bytes | None) -> None:
    from actors.runtimes.gguf import GgufGenerator

    if content is not None:
        (tmp_path / "model.gguf").write_bytes(content)
    with pytest.raises(ModelLoadError):
        GgufGenerator(tmp_path / "model.gguf", CONTEXT_TOKENS, 1)


@pytest.mark.parametrize("damage", ["missing", "config.json", "model.safetensors", "tokenizer.json", "code"])
def test_a_broken_mlx_folder_does_not_load(tmp_path: Path, damage: str) -> None:
    from actors.runtimes.mlx import MlxGenerator

    if damage != "missing":
        write_mlx(tmp_path)
    if (tmp_path / damage).exists():
        (tmp_path / damage).write_bytes(b"\x00garbage")
    if damage == "code":
        config = json.loads((tmp_path / "config.json").read_text())
        (tmp_path / "config.json").write_text(json.dumps(config | {"model_file": "model.py"}))
        (tmp_path / "model.py").write_text("raise SystemExit('this ran')")
    with pytest.raises(ModelLoadError):
        MlxGenerator(tmp_path)


# --- a model's server ---------------------------------------------------------------------------------


def ask(address: str, deadline_s: float = 60.0, **settings: Any) -> str:
    generator = OpenAIGenerator(address, "tiny", ModelServerSettings(**settings))
    generator.prepare(chat("Emma lives in Lisbon."))
    return generator.complete(chat("Emma lives in Lisbon."), ANSWER, 77, time.monotonic() + deadline_s)


def test_a_server_is_asked_as_openai_documents_it() -> None:
    asked: list[Any] = []

    def answer(body: Any) -> tuple[int, Any]:
        asked.append(body)
        return 200, completion("{}")

    with chat_server(answer) as address:
        assert ask(address, api_key="s3cret") == "{}"
    (body,) = asked
    assert body["model"] == "tiny"
    assert body["max_tokens"] == 77
    assert body["messages"] == chat("Emma lives in Lisbon.")
    assert body["response_format"]["json_schema"]["schema"] == ANSWER
    assert body["authorization"] == "Bearer s3cret"


def test_a_server_that_takes_no_schema_is_asked_without_from_then_on() -> None:
    asked: list[bool] = []

    def answer(body: Any) -> tuple[int, Any]:
        asked.append("response_format" in body)
        return (400, {"error": {"message": "unknown field"}}) if asked[-1] else (200, completion("free text"))

    with chat_server(answer) as address:
        generator = OpenAIGenerator(address, "tiny", ModelServerSettings())
        for _ in range(2):
            assert generator.complete(chat("hi"), ANSWER, 5, math.inf) == "free text"
    assert asked == [True, False, False]


@pytest.mark.parametrize("status", [400, 422, 501])
def test_a_refusal_that_is_not_about_the_schema_does_not_switch_it_off(status: int) -> None:
    asked: list[bool] = []

    def answer(body: Any) -> tuple[int, Any]:
        asked.append("response_format" in body)
        too_long = "long" in body["messages"][-1]["content"]
        return (status, {"error": {"message": "the prompt is too long"}}) if too_long else (200, completion("{}"))

    with chat_server(answer) as address:
        generator = OpenAIGenerator(address, "tiny", ModelServerSettings())
        with pytest.raises(GeneratorUnavailable, match=str(status)):
            generator.complete(chat("long"), ANSWER, 5, math.inf)
        assert generator.complete(chat("hi"), ANSWER, 5, math.inf) == "{}"
    assert asked == [True, False, True]


def test_a_real_llama_cpp_answers_over_the_protocol(opened_server: str) -> None:
    told = json.loads(ask(opened_server, deadline_s=math.inf))
    assert isinstance(told, dict)


@pytest.fixture
def opened_server(tmp_path: Path) -> Iterator[str]:
    """llama.cpp's own server on a free port of loopback."""
    import xllamacpp

    write_gguf(tmp_path / "model.gguf")
    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(tmp_path / "model.gguf")
    parameters.hostnames, parameters.port = ["127.0.0.1"], 0
    parameters.n_ctx, parameters.n_parallel, parameters.verbosity, parameters.ui = CONTEXT_TOKENS, 1, -1, False
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = 1
    server = xllamacpp.Server(parameters)
    yield f"{server.listening_address}/v1"
    del server


@pytest.mark.parametrize(
    "reply",
    [
        (500, {}),
        (404, {}),
        (302, {}),
        (200, {}),
        (200, []),
        (200, {"choices": []}),
        (200, {"choices": [{"message": None}]}),
        (200, {"padding": "x" * MAX_REPLY_BYTES}),
    ],
    ids=["500", "404", "302", "empty", "list", "no choice", "no message", "endless"],
)
def test_a_server_that_answers_otherwise_is_no_model(reply: tuple[int, Any]) -> None:
    with chat_server(lambda _: reply) as address, pytest.raises(GeneratorUnavailable):
        ask(address)


def test_content_that_is_none_is_an_empty_answer() -> None:
    with chat_server(lambda _: (200, completion(None))) as address:  # type: ignore[arg-type]
        assert ask(address) == ""


def test_a_server_that_is_not_there_fails_the_call_and_not_the_load() -> None:
    with chat_server(lambda _: (200, completion("{}"))) as address:
        pass
    with pytest.raises(GeneratorUnavailable):
        ask(address)


def test_a_server_that_hangs_costs_the_deadline() -> None:
    hold = threading.Event()

    def answer(_: Any) -> tuple[int, Any]:
        hold.wait()
        return 200, completion("{}")

    with chat_server(answer) as address:
        with pytest.raises(GenerationTimeout):
            ask(address, deadline_s=0.05)
        with pytest.raises(GenerationTimeout):
            ask(address, deadline_s=-1.0)
        hold.set()


def test_a_proxy_in_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    through: list[Any] = []

    def proxy(body: Any) -> tuple[int, Any]:
        through.append(body)
        return 200, completion("from the proxy")

    with chat_server(proxy) as elsewhere, chat_server(lambda _: (200, completion("from the model"))) as address:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, elsewhere.removesuffix("/v1"))
        assert ask(address) == "from the model"
    assert through == []
