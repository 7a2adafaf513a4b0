"""Tiny language models made on the spot, and a server that answers as recorded: what a generative version needs.

Their weights are random, so that what they say is garbage; their tokenizer is fitted to the instructions, so that these
are a few hundred tokens, as many as for a real model, and are read as fast.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from actors.generation.prompt import Prompt
from actors.messages import Turn
from config.schema import load_schema

CHAT = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
WIDTH, LAYERS, HEADS, INNER, CONTEXT, VOCABULARY = 32, 1, 2, 64, 4096, 3000


def write_gguf(path: Path) -> None:
    """A random Qwen2 as GGUF."""
    tokenizer = _tokenizer()
    tokens = [tokenizer.id_to_token(number) for number in range(tokenizer.get_vocab_size())]
    merges = [" ".join(pair) for pair in json.loads(tokenizer.to_str())["model"]["merges"]]
    end = tokenizer.token_to_id("<|im_end|>")
    writer = gguf.GGUFWriter(path, "qwen2")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_rope_freq_base(10_000.0)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token.startswith("<|") else 1 for token in tokens])
    writer.add_token_merges(merges)
    writer.add_eos_token_id(end)
    writer.add_pad_token_id(end)
    writer.add_chat_template(CHAT)
    for name, values in _weights(len(tokens)).items():
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_mlx(folder: Path) -> None:
    """A random Qwen2 as mlx-lm reads it."""
    import mlx.core as mx

    tokenizer = _tokenizer()
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "Qwen2TokenizerFast", "eos_token": "<|im_end|>", "chat_template": CHAT})
    )
    config = {
        "model_type": "qwen2", "hidden_size": WIDTH, "num_hidden_layers": LAYERS, "intermediate_size": INNER,
        "num_attention_heads": HEADS, "num_key_value_heads": HEADS, "rms_norm_eps": 1e-6, "rope_theta": 10_000.0,
        "vocab_size": tokenizer.get_vocab_size(), "max_position_embeddings": CONTEXT, "tie_word_embeddings": False,
        "eos_token_id": tokenizer.token_to_id("<|im_end|>"),
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    names = {
        "token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head",
        "blk": "model.layers", "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
        "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
        "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
        "ffn_down": "mlp.down_proj",
    }  # fmt: skip
    weights = _weights(tokenizer.get_vocab_size())
    renamed = {".".join(names.get(part, part) for part in name.split(".")): mx.array(w) for name, w in weights.items()}
    mx.save_safetensors(str(folder / "model.safetensors"), renamed, metadata={"format": "mlx"})


def _tokenizer() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False,
        special_tokens=["<|im_start|>", "<|im_end|>"],
    )  # fmt: skip
    turn = Turn("", "", "", "user", "", 0.0)
    instructions = [message["content"] for message in Prompt(load_schema()).messages(turn)]
    tokenizer.train_from_iterator(instructions * 3, trainer)
    return tokenizer


def _weights(vocabulary: int) -> dict[str, Any]:
    random = np.random.default_rng(0)

    def some(*shape: int) -> Any:
        return random.normal(scale=0.2, size=shape).astype(np.float32)

    weights = {
        "token_embd.weight": some(vocabulary, WIDTH),
        "output_norm.weight": np.ones(WIDTH, np.float32),
        "output.weight": some(vocabulary, WIDTH),
    }
    for layer in range(LAYERS):
        block = f"blk.{layer}"
        for norm in ("attn_norm", "ffn_norm"):
            weights[f"{block}.{norm}.weight"] = np.ones(WIDTH, np.float32)
        for side in "qkv":
            weights[f"{block}.attn_{side}.weight"] = some(WIDTH, WIDTH)
            weights[f"{block}.attn_{side}.bias"] = some(WIDTH)
        weights[f"{block}.attn_output.weight"] = some(WIDTH, WIDTH)
        weights[f"{block}.ffn_gate.weight"] = some(INNER, WIDTH)
        weights[f"{block}.ffn_up.weight"] = some(INNER, WIDTH)
        weights[f"{block}.ffn_down.weight"] = some(WIDTH, INNER)
    return weights


Answering = Callable[[Mapping[str, Any]], "tuple[int, Mapping[str, Any]]"]


@contextmanager
def chat_server(answer: Answering) -> Iterator[str]:
    """A server of OpenAI's chat completions on loopback; `answer` makes status and body of a request's body.

    Yields its base address.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._send(200, {"object": "list", "data": [{"id": "recorded", "object": "model"}]})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if self.path != "/v1/chat/completions":
                self._send(404, {"error": {"message": self.path}})
            else:
                self._send(*answer(body | {"authorization": self.headers.get("Authorization")}))

        def _send(self, status: int, body: Mapping[str, Any]) -> None:
            payload = json.dumps(body).encode()
            try:
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(payload)))
                self.end_headers()
                self.wfile.write(payload)
            except OSError:
                self.close_connection = True  # who asked has given up

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name in the standard library
            """Keep quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    serving.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        serving.join()
        server.server_close()


def completion(content: str) -> dict[str, Any]:
    """A chat completion as llama-server sent it, with another content."""
    return {
        "choices": [{"finish_reason": "stop", "index": 0, "message": {"role": "assistant", "content": content}}],
        "created": 1795272801,
        "model": "recorded",
        "system_fingerprint": "b0-unknown",
        "object": "chat.completion",
        "usage": {"completion_tokens": 28, "prompt_tokens": 2033, "total_tokens": 2061},
        "id": "chatcmpl-TynZl9jFGF2mUVuuZnbp1o1OuJdDTyJD",
    }
