"""How the network learns: its losses, its optimizer, and the loop over epochs."""

from __future__ import annotations

import copy
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import structlog
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own habit

from actors.extraction.decoding import decode_tags
from training.annotation import Example
from training.extractor.augment import Augmenter
from training.extractor.batches import IGNORED, EncoderBatch, Labelled, Labeller, PairBatch, encoder_batch, pair_batch
from training.extractor.model import Network

_log = structlog.get_logger(__name__)
# A turn's summed losses are of this order at the start, and step sizes are chosen for losses near one.
_LOSS_SCALE = 8.0
MASK_TOKEN = 103
"""[MASK] in the base vocabulary. Hidden tokens make the network read the whole turn, not learn turns by heart."""
_MOST_WRONG_SPANS = 4
_IMPOSSIBLE = -1e4


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that decides what training makes of the data."""

    seed: int = 11
    epochs: int = 8
    public_epochs: int = 1
    share: float = 1.0
    augment: bool = True
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
    hidden_tokens: float = 0.06


def learn(
    network: Network,
    examples: Sequence[Example],
    labeller: Labeller,
    augmenter: Augmenter,
    recipe: Recipe,
    after_epoch: Callable[[int, Network], None],
) -> Network:
    """Train `network`; returns its averaged weights, which `after_epoch` also sees, with the epoch's number from 1."""
    rng = random.Random(recipe.seed)
    averaged = copy.deepcopy(network)
    optimizer = _optimizer(network, recipe)
    steps = recipe.epochs * -(-len(examples) // recipe.batch)
    warm_up = max(1, int(recipe.warm_up * steps))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warm_up, max(0.0, (steps - step) / (steps - warm_up)))
    )
    for epoch in range(1, recipe.epochs + 1):
        began = time.monotonic()
        network.train()
        sums: dict[str, float] = {}
        # The first epoch sees the examples as they were written.
        varied = [labeller.label(augmenter.vary(e, rng) if epoch > 1 else e) for e in examples]
        for chunk in _batches(varied, recipe.batch, rng):
            found = losses(network, encoder_batch(chunk), chunk, labeller, recipe)
            (sum(found.values(), torch.zeros(())) / (_LOSS_SCALE * len(chunk))).backward()
            nn.utils.clip_grad_norm_(network.parameters(), recipe.clip)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad(set_to_none=True)
            # Early weights are worth forgetting sooner.
            _average(averaged, network, min(recipe.average, schedule.last_epoch / (schedule.last_epoch + 10)))
            for name, value in found.items():
                sums[name] = sums.get(name, 0.0) + float(value.detach())
        shown = {name: round(value / len(examples), 3) for name, value in sums.items()}
        _log.info("epoch", number=epoch, of=recipe.epochs, seconds=round(time.monotonic() - began), **shown)
        after_epoch(epoch, averaged)
    averaged.eval()
    return averaged


def losses(
    network: Network, batch: EncoderBatch, examples: Sequence[Labelled], labeller: Labeller, recipe: Recipe
) -> dict[str, Tensor]:
    """Each head's negative log likelihood, summed over the batch."""
    ids = batch.ids.masked_fill(torch.rand(batch.ids.shape) < recipe.hidden_tokens, MASK_TOKEN)
    tags, correction, hidden, attention = network.encoder(ids, batch.types, batch.mask)
    words = tags.gather(1, batch.words.unsqueeze(-1).expand(-1, -1, tags.shape[-1]))
    scores = words.detach().numpy()
    predicted = [
        decode_tags(scores[row, : len(example.words)])[: len(example.nodes) + _MOST_WRONG_SPANS]
        for row, example in enumerate(examples)
    ]
    pairs = pair_batch(examples, predicted, labeller.labels, labeller.symmetric, batch.ids.shape[1])
    corrected = F.binary_cross_entropy_with_logits(correction, batch.correction, reduction="sum")
    return {
        "tags": F.cross_entropy(words.flatten(0, 1), batch.tags.flatten(), ignore_index=IGNORED, reduction="sum"),
        "correction": recipe.correction_weight * corrected,
        **_pair_losses(network, hidden, attention, pairs, batch.mask, recipe),
    }


def _pair_losses(
    network: Network, hidden: Tensor, attention: Tensor, pairs: PairBatch, mask: Tensor, recipe: Recipe
) -> dict[str, Tensor]:
    relation, status, dating, links = network.pairs(
        hidden, attention, pairs.first, pairs.last, pairs.types, pairs.distance
    )
    wrong = ~pairs.positive & pairs.possible.unsqueeze(-1)
    if pairs.known is not None:
        wrong &= pairs.known
    found = {"negative": F.softplus(relation[wrong]).sum()}
    if len(pairs.owner):
        # Whichever pair of an argument's mentions carries a relation best is the one that has to.
        scores = relation[pairs.owner, :, :, pairs.predicate].masked_fill(~pairs.pairs, _IMPOSSIBLE).flatten(1)
        best, at = scores.max(-1)
        subject, object_ = at // relation.shape[1], at % relation.shape[1]
        found["positive"] = recipe.positive_weight * F.softplus(-best).sum()
        found["status"] = F.cross_entropy(status[pairs.owner, subject, object_], pairs.status, reduction="sum")
        found["time"] = F.cross_entropy(dating[pairs.owner, subject, object_], pairs.time, reduction="sum")
    if len(pairs.links):
        row, node = pairs.links.T
        log_probs = (links[row, node] + mask[row, 0]).log_softmax(-1)
        found["links"] = -log_probs.masked_fill(~pairs.antecedents, _IMPOSSIBLE).logsumexp(-1).sum()
    return found


def _optimizer(network: Network, recipe: Recipe) -> torch.optim.AdamW:
    """Lower layers learn more slowly; norms and biases do not decay."""
    depth = len(network.encoder.layers)
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        if not parameter.requires_grad:
            continue
        rate = recipe.head_lr
        if name.startswith("encoder.layers."):
            rate = recipe.encoder_lr * recipe.layer_decay ** (depth - 1 - int(name.split(".")[2]))
        elif name.startswith(("encoder.positions", "encoder.types", "encoder.norm")):
            rate = recipe.encoder_lr * recipe.layer_decay**depth
        decay = recipe.weight_decay if parameter.dim() > 1 else 0.0
        groups.setdefault((rate, decay), []).append(parameter)
    return torch.optim.AdamW(
        [{"params": members, "lr": rate, "weight_decay": decay} for (rate, decay), members in groups.items()],
        fused=True,
    )


def _average(mean: Network, network: Network, keep: float) -> None:
    """Move `mean` towards `network`: an exponential moving average of the weights."""
    learned = [(m, n) for m, n in zip(mean.parameters(), network.parameters(), strict=True) if n.requires_grad]
    with torch.no_grad():
        torch._foreach_lerp_([m for m, _ in learned], [n for _, n in learned], 1 - keep)


def _batches(examples: Sequence[Labelled], size: int, rng: random.Random) -> Iterator[list[Labelled]]:
    """Random batches of similar length."""
    order = list(examples)
    rng.shuffle(order)
    pools = [order[at : at + 16 * size] for at in range(0, len(order), 16 * size)]
    by_length = [sorted(pool, key=lambda e: len(e.sequence.ids)) for pool in pools]
    chunks = [pool[at : at + size] for pool in by_length for at in range(0, len(pool), size)]
    rng.shuffle(chunks)
    yield from chunks
