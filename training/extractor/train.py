"""Train, calibrate, measure and describe an extractor: `python -m training.extractor.train --version 1.2.3`.

Seeded; under an hour on two cores. The version is written to `--out` and registered, never promoted.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import structlog
import torch

from actors.extraction.assembly import Calibration
from actors.extraction.sequence import Limits, SequenceBuilder
from actors.extractor import Extractor, ExtractorConfig
from actors.runtimes.onnx import open_tokenizer
from config.schema import Schema, load_schema
from config.settings import SCHEMA, load_settings
from registry.versions import ModelVersion
from training.annotation import Example, read_examples
from training.card import write_papers
from training.encoder.export import PACKAGE, base_weights
from training.extractor.augment import NONE, Augmenter, Rates
from training.extractor.batches import Labeller
from training.extractor.calibrate import fit, fit_partial, role_type, time_types
from training.extractor.evaluation import ABOUT, ExtractorEvaluation, evaluate_examples
from training.extractor.export import load_checkpoint, read_origin, save_checkpoint, write_config, write_version
from training.extractor.learning import Recipe, learn
from training.extractor.model import Network, Shape
from training.extractor.origin import Origin
from training.extractor.score import Report
from training.register import describe_version, register_version
from training.splits import CONVERSATIONS, PUBLIC, conversation_keys, held_out_ids, is_held_out, public_files

_log = structlog.get_logger(__name__)
TUNING_SHARE = 0.1
"""Of the training split, conversations that thresholds and calibration are fitted to."""


@dataclass(frozen=True, slots=True)
class Parts:
    """The examples that weights are fitted to, those that calibration is, and those that neither sees."""

    train: list[Example]
    tune: list[Example]
    held_out: list[Example]


def split(examples: Sequence[Example], share: float = 1.0) -> Parts:
    """Whole conversations to each part, by hash; of those to train on a share, a smaller one within a larger."""
    held_out, keys = held_out_ids(examples), conversation_keys(examples)
    tune = {e.id for e in examples if is_held_out(f"tune:{keys[e.id]}", TUNING_SHARE)} - held_out
    return Parts(
        [e for e in examples if e.id not in held_out | tune and is_held_out(f"share:{keys[e.id]}", share)],
        [e for e in examples if e.id in tune],
        [e for e in examples if e.id in held_out],
    )


def train(
    parts: Parts, schema: Schema, recipe: Recipe, checkpoints: Path, start: Path | None, data: str
) -> tuple[Network, Origin]:
    """Averaged weights after the last epoch, and what they were made of; after each epoch both are also saved to
    `checkpoints`. `data` is the folder of `parts`, as a manifest names it.

    It begins with the base weights, or with a checkpoint of an earlier run at `start`, and learns first from the public
    sets where the recipe says so.
    """
    torch.manual_seed(recipe.seed)
    base = base_weights()
    labeller = Labeller(SequenceBuilder(open_tokenizer(base / "tokenizer.json"), Limits()), schema)
    labels = labeller.labels
    if start:
        network = load_checkpoint(start)
    else:
        network = Network(Shape(labels.tags, labels.node_types, len(labels.predicates), len(labels.statuses)))
        network.encoder.load_base(base / "model.safetensors")
    checkpoints.mkdir(parents=True, exist_ok=True)

    before = read_origin(start) if start else None
    origin = Origin(asdict(recipe), (), 0, start=before, unknown_start=bool(start and not before))

    def taught(examples: Sequence[Example], epochs: int, name: str) -> Network:
        return learn(
            network,
            examples,
            labeller,
            Augmenter(examples, Rates() if recipe.augment else NONE),
            replace(recipe, epochs=epochs),
            lambda epoch, averaged: save_checkpoint(
                averaged, checkpoints / f"{name}-{epoch}.pt", replace(origin, stage=f"{name}-{epoch}")
            ),
        )

    if recipe.public_epochs:
        public = read_examples(public_files(), schema)
        origin = replace(origin, data=(_shown(PUBLIC),), turns=len(public))
        network = taught(public, recipe.public_epochs, "public")
    origin = replace(origin, data=(data, *origin.data), turns=len(parts.train))
    network = taught(parts.train, recipe.epochs, "epoch")
    return network, replace(origin, stage=f"epoch-{recipe.epochs}")


def publish(
    network: Network,
    parts: Parts,
    schema_file: Path,
    notes: str,
    version: str,
    folder: Path,
    data: Sequence[str] = ("training/data/conversations",),
    trained_on: int | None = None,
) -> ModelVersion:
    """Write the version's folder: int8 files, fitted calibration, and a manifest with what it was measured to do, its
    model card and its report. `trained_on` is the number of turns, None where that is not known."""
    schema = load_schema(schema_file)
    config = ExtractorConfig(
        limits=Limits(),
        time_types=time_types(parts.train),
        role_type=role_type(parts.train, schema),
        calibration=Calibration(),
    )
    settings = load_settings().settings.slm["extractor"]

    def described(folder: Path, quality: dict[str, Any]) -> ModelVersion:
        return describe_version(
            folder,
            name="extractor",
            version=version,
            kind="extractor",
            runtime="onnx",
            licence="Apache-2.0",
            trained_from=(f"sentence-transformers/all-MiniLM-L6-v2 (package {PACKAGE})", *data),
            quality=quality,
            notes=notes,
        )

    def opened(folder: Path) -> Extractor:
        return Extractor.load(described(folder, {}), settings)

    def measured(folder: Path) -> ExtractorEvaluation:
        return evaluate_examples(opened(folder), parts.held_out, schema)

    tokenizer = base_weights() / "tokenizer.json"
    with TemporaryDirectory() as scratch:
        exact = Path(scratch)
        write_version(network, tokenizer, schema_file, config, exact, quantised=False)
        write_version(network, tokenizer, schema_file, config, folder)
        calibration = replace(fit(opened(folder), parts.tune, schema), partial_threshold=0.0)
        write_config(config.model_copy(update={"calibration": calibration}), folder)
        calibration = replace(calibration, partial_threshold=fit_partial(opened(folder), parts.tune, schema))
        config = config.model_copy(update={"calibration": calibration})
        for target in (exact, folder):
            write_config(config, target)
        evaluation, in_float = measured(folder), _summary(measured(exact).report)
    quality = _summary(evaluation.report) | {
        "float_weights": {name: {"f1": in_float[name]["f1"]} for name in ("entity", "relation")},
        "tuned_on": len(parts.tune),
    }
    if trained_on is not None:
        quality["trained_on"] = trained_on
    write_papers(described(folder, quality), ABOUT, evaluation)
    return described(folder, quality)


def main() -> None:
    """Parse options, train, publish."""
    parser = argparse.ArgumentParser(prog="python -m training.extractor.train", description=__doc__)
    parser.add_argument("--version", required=True)
    parser.add_argument("--out", type=Path, default=Path("build/models"), help="folder of versions")
    parser.add_argument("--no-register", action="store_true", help="leave the registry alone")
    parser.add_argument("--schema", type=Path, default=SCHEMA, help="entity types, predicates and statuses to learn")
    parser.add_argument("--data", type=Path, default=CONVERSATIONS, help="folder of annotated .txt files")
    parser.add_argument("--checkpoints", type=Path, default=Path("build/extractor"))
    parser.add_argument("--start", type=Path, help="go on from a checkpoint of an earlier run, at half the rates")
    parser.add_argument("--from-checkpoint", type=Path, help="publish what an earlier run saved, without training")
    parser.add_argument("--notes", default="", help="what the manifest should say beside the recipe")
    parser.add_argument("--epochs", type=int, default=Recipe().epochs)
    parser.add_argument(
        "--public-epochs",
        type=int,
        help=f"epochs on public sets first; {Recipe().public_epochs}, none with --schema or --start",
    )
    parser.add_argument(
        "--share", type=float, default=Recipe().share, help="of the training data, to see what more would give"
    )
    parser.add_argument("--no-augmentation", action="store_true", help="learn from the examples as they were written")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.set_flush_denormal(True)
    if options.public_epochs is None:
        options.public_epochs = Recipe().public_epochs if options.schema == SCHEMA and not options.start else 0
    elif options.public_epochs and options.schema != SCHEMA:
        parser.error("the public sets are examples of the shipped schema: no --public-epochs with another")
    schema = load_schema(options.schema)
    parts = split(read_examples(sorted(options.data.glob("*.txt")), schema), options.share)
    recipe = Recipe(
        epochs=options.epochs,
        public_epochs=options.public_epochs,
        share=options.share,
        augment=not options.no_augmentation,
    )
    if options.start:
        recipe = replace(recipe, encoder_lr=recipe.encoder_lr / 2, head_lr=recipe.head_lr / 2)
    _log.info("data", train=len(parts.train), tune=len(parts.tune), held_out=len(parts.held_out))
    if options.from_checkpoint:
        network, origin = load_checkpoint(options.from_checkpoint), read_origin(options.from_checkpoint)
    else:
        data = _shown(options.data)
        network, origin = train(parts, schema, recipe, options.checkpoints, options.start, data)
    made_of = origin.told() if origin else "Its checkpoint does not record what it was made of."
    notes = f"{options.notes} {made_of}".strip()
    folder: Path = options.out / "extractor" / options.version
    if folder.exists():
        shutil.rmtree(folder)
    sources = origin.sources() if origin else [_shown(options.data)]
    turns = origin.turns if origin else None
    version = publish(network, parts, options.schema, notes, options.version, folder, sources, turns)
    if not options.no_register:
        register_version(version)
    _log.info("published", version=str(version), folder=str(folder))


def _shown(data: Path) -> str:
    """A folder as a manifest names it: nobody needs to know where a repository lies."""
    root = PUBLIC.parents[2]
    return str(data.resolve().relative_to(root)) if data.resolve().is_relative_to(root) else data.name


def _summary(report: Report) -> dict[str, Any]:
    """The overall figures and the relations' by category; not the latency, which is the machine's."""
    overall = {k: v for k, v in report.items() if not k.startswith("by_") and k != "latency_ms"}
    categories = report["by_category"]
    assert isinstance(categories, dict)  # noqa: S101 - tells mypy
    return overall | {"by_category": {name: {"relation": found["relation"]} for name, found in categories.items()}}


if __name__ == "__main__":
    main()
