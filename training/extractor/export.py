"""From trained weights to the files that the extractor runs: two int8 ONNX graphs and what they are read with."""

from __future__ import annotations

import shutil
import tempfile
import warnings
from dataclasses import asdict
from pathlib import Path

import onnx
import torch
from onnxruntime.quantization import QuantType, quantize_dynamic
from torch import nn

from actors.extractor import ExtractorConfig
from training.encoder.export import forget_origin
from training.extractor.model import Network, Shape
from training.extractor.origin import Origin

_OPSET = 20
_EXACT_LAYERS = 2


def load_checkpoint(path: Path) -> Network:
    """The network that a training run saved, ready to be run."""
    saved = torch.load(path, weights_only=True)
    network = Network(Shape(**saved["shape"]))
    network.load_state_dict(saved["weights"])
    network.eval()
    return network


def read_origin(path: Path) -> Origin | None:
    """What a checkpoint was made of; None for one from before that was recorded."""
    record = torch.load(path, weights_only=True).get("origin")
    return Origin.from_record(record) if record else None


def save_checkpoint(network: Network, path: Path, origin: Origin) -> None:
    """Keep weights, shape and what they were made of."""
    torch.save({"shape": asdict(network.shape), "weights": network.state_dict(), "origin": origin.record()}, path)


def write_version(
    network: Network,
    tokenizer: Path,
    schema: Path,
    config: ExtractorConfig,
    folder: Path,
    *,
    quantised: bool = True,
) -> None:
    """Fill `folder` with a version's files; `quantised=False` keeps float weights, to measure what int8 costs."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(tokenizer, folder / "tokenizer.json")
    shutil.copyfile(schema, folder / "schema.yaml")
    write_config(config, folder)
    with tempfile.TemporaryDirectory() as scratch:
        for name, write in (("encoder", _export_encoder), ("pairs", _export_pairs)):
            graph = Path(scratch, f"{name}.onnx")
            write(network, graph)
            if quantised:
                _quantise(graph, folder / graph.name)
            else:
                shutil.copyfile(graph, folder / graph.name)
            forget_origin(folder / graph.name)


def write_config(config: ExtractorConfig, folder: Path) -> None:
    """Write what training found out beside the weights."""
    (folder / "extractor.json").write_text(config.model_dump_json(indent=2) + "\n", encoding="utf-8")


def _export_encoder(network: Network, target: Path) -> None:
    ids = torch.randint(1000, 30000, (1, 24))
    length = torch.export.Dim("length", min=4, max=512)
    _export(
        network.encoder,
        (ids, torch.zeros_like(ids)),
        target,
        {"ids": {1: length}, "types": {1: length}},
        ["tags", "correction", "hidden", "attention"],
    )


def _export_pairs(network: Network, target: Path) -> None:
    shape, length, nodes = network.shape, torch.export.Dim("length", min=4, max=512), torch.export.Dim("nodes", min=3)
    first = torch.arange(1, 8)[None]
    inputs = (
        torch.randn(1, 24, shape.width),
        torch.rand(1, shape.heads, 24, 24),
        first,
        first,
        torch.zeros_like(first),
        torch.zeros(1, 7, 7, dtype=torch.long),
    )
    dynamic = {
        "hidden": {1: length},
        "attention": {2: length, 3: length},
        "first": {1: nodes},
        "last": {1: nodes},
        "types": {1: nodes},
        "distance": {1: nodes, 2: nodes},
    }
    _export(network.pairs, inputs, target, dynamic, ["relation", "status", "time", "link"])


def _export(
    module: nn.Module,
    inputs: tuple[torch.Tensor, ...],
    target: Path,
    dynamic: dict[str, dict[int, torch.export.Dim]],
    outputs: list[str],
) -> None:
    names = ["node_types" if name == "types" and "first" in dynamic else name for name in dynamic]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own deprecations
        torch.onnx.export(
            module,
            inputs,
            str(target),
            input_names=names,
            output_names=outputs,
            dynamic_shapes=dynamic,
            dynamo=True,
            external_data=False,
            opset_version=_OPSET,
            verbose=False,
        )


def _quantise(source: Path, target: Path) -> None:
    quantize_dynamic(
        source,
        target,
        per_channel=True,
        weight_type=QuantType.QInt8,
        op_types_to_quantize=["MatMul", "Gather"],
        nodes_to_exclude=_outlying(source),
        # Where a processor has no VNNI, sums of products of eight bits overflow: half a point of F1.
        reduce_range=True,
        extra_options={"MatMulConstBOnly": True},
    )


def _outlying(graph: Path) -> list[str]:
    """The narrowing products of the first layers: few inputs of theirs are so large that int8 loses the rest.

    Keeping two of them exact adds 3.5 MB and gives back three quarters of what int8 takes from entity F1.
    """
    model = onnx.load(graph)
    weights = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    narrowing = [
        node.name
        for node in model.graph.node
        if node.op_type == "MatMul" and any(_narrows(weights.get(name, ())) for name in node.input)
    ]
    return narrowing[:_EXACT_LAYERS]


def _narrows(dimensions: tuple[int, ...]) -> bool:
    return len(dimensions) == 2 and dimensions[0] == 4 * dimensions[1]
