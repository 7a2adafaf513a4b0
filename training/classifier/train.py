"""Train the turn classifier: `python -m training.classifier.train --version 1.0.0`.

A linear layer over the frozen encoder's vector and the words and word pairs of the training queries, trained so that
the three decisions are right together (see `actors.classifier.Head`). More layers were tried and are worse on this much
data; cross-validation picks the one strength of regularisation, and a temperature for calibrated confidences.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from actors.classifier import END, START, Classifier, Head, grams
from actors.encoder import DIMENSIONS, Encoder
from config.settings import load_settings
from training.classifier.queries import CLINC150, Query, choose, query_files, read_queries
from training.classifier.score import evaluate
from training.loading import open_slm
from training.register import describe_version, register_version

if TYPE_CHECKING:
    from numpy.typing import NDArray

MEANINGS = {
    "advice": "asks for advice",
    "chitchat": "small talk",
    "coding": "asks for help with code",
    "command": "asks for something to be done",
    "creative": "asks for a piece of writing",
    "current_events": "asks what is going on in the world",
    "knowledge": "asks for settled knowledge",
    "lookup": "asks for a fact of today or of a place",
    "math": "asks for a calculation",
    "personal": "about the user's own life",
    "verification": "asks to check a claim",
}


@dataclass(frozen=True, slots=True)
class Recipe:
    """Strengths by cross-validation on the training split. Our own queries count fully, CLINC150's little."""

    seed: int = 0
    folds: int = 5
    clinc_weight: float = 0.2
    gram_scale: float = 0.8
    min_count: int = 2
    penalties: tuple[float, ...] = (0.05, 0.1, 0.2)
    agreement_penalty: float = 0.1


@dataclass(frozen=True, slots=True)
class Examples:
    """Queries with their vectors [n, 384], weights [n] and answers [n, 3] (research, memory, category's number)."""

    grams: Sequence[frozenset[str]]
    vectors: NDArray[np.float32]
    weights: NDArray[np.float32]
    answers: NDArray[np.int64]

    def take(self, chosen: NDArray[np.int64]) -> Examples:
        """The examples at these positions."""
        return Examples(
            [self.grams[i] for i in chosen], self.vectors[chosen], self.weights[chosen], self.answers[chosen]
        )


def prepare(queries: Sequence[Query], weights: Sequence[float], encoder: Encoder) -> Examples:
    """Raises: KeyError for a category that has no meaning in MEANINGS."""
    order = {name: number for number, name in enumerate(MEANINGS)}
    return Examples(
        [grams(query.text) for query in queries],
        np.array([encoder.encode(query.text) for query in queries], dtype=np.float32),
        np.array(weights, dtype=np.float32),
        np.array([(q.needs_research, q.needs_memory, order[q.category]) for q in queries], dtype=np.int64),
    )


def fit(examples: Examples, penalty: float, recipe: Recipe) -> Head:
    """The head with the least penalised log loss of the combined answers; convex, so the seed decides nothing."""
    counts = Counter(gram for said in examples.grams for gram in said)
    known = sorted(g for g, count in counts.items() if count >= recipe.min_count and g not in (START, END))
    vocabulary = {gram: number for number, gram in enumerate(known)}
    features = np.zeros((len(examples.grams), DIMENSIONS + len(vocabulary)), dtype=np.float32)
    features[:, :DIMENSIONS] = examples.vectors
    for row, said in zip(features, examples.grams, strict=True):
        found = [DIMENSIONS + vocabulary[gram] for gram in said if gram in vocabulary]
        row[found] = recipe.gram_scale / np.sqrt(max(1, len(found)))

    inputs, weights = torch.from_numpy(features), torch.from_numpy(examples.weights)
    research, memory, category = torch.from_numpy(examples.answers).T
    layer = torch.zeros(features.shape[1], 2 + len(MEANINGS), requires_grad=True)
    bias = torch.zeros(2 + len(MEANINGS), requires_grad=True)
    agreement = torch.zeros(2, 2, len(MEANINGS), requires_grad=True)
    switch = torch.tensor([0.0, 1.0])
    solver = torch.optim.LBFGS(
        [layer, bias, agreement], max_iter=200, tolerance_grad=1e-4, line_search_fn="strong_wolfe"
    )

    def loss() -> torch.Tensor:
        outputs = inputs @ layer + bias
        scores = (
            (outputs[:, :1] * switch)[:, :, None, None]
            + (outputs[:, 1:2] * switch)[:, None, :, None]
            + outputs[:, None, None, 2:]
            + agreement
        )
        right = scores[torch.arange(len(scores)), research, memory, category]
        missed = scores.flatten(1).logsumexp(1) - right
        strength = penalty * layer.square().sum() + recipe.agreement_penalty * agreement.square().sum()
        return (weights * missed).sum() + strength / 2

    def closure() -> torch.Tensor:
        solver.zero_grad()
        value = loss()
        value.backward()
        return value

    solver.step(closure)
    arrays = [tensor.detach().numpy() for tensor in (layer, bias, agreement)]
    return Head(
        MEANINGS,
        vocabulary,
        vector_weights=arrays[0][:DIMENSIONS],
        gram_weights=arrays[0][DIMENSIONS:] * np.float32(recipe.gram_scale),
        bias=arrays[1],
        agreement=arrays[2],
    )


def tempered(head: Head, temperature: float) -> Head:
    """The same decisions, nearly, with confidences that are less sure above a temperature of 1."""
    scale = np.float32(1 / temperature)
    return Head(
        head.categories,
        head.vocabulary,
        head.vector_weights * scale,
        head.gram_weights * scale,
        head.bias * scale,
        head.agreement * scale,
    )


def folds(count: int, recipe: Recipe) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Positions to train on and to test on, `recipe.folds` times."""
    order = np.random.default_rng(recipe.seed).permutation(count)
    parts = np.array_split(order, recipe.folds)
    return [(np.setdiff1d(order, part), np.sort(part)) for part in parts]


def log_loss(head: Head, examples: Examples, temperature: float) -> float:
    """Mean log loss of the combined answers."""
    cooler = tempered(head, temperature)
    losses = []
    for said, vector, answer in zip(examples.grams, examples.vectors, examples.answers, strict=True):
        losses.append(-np.log(cooler.answers(cooler.outputs(said, vector))[tuple(answer)]))
    return float(np.mean(losses))


def cross_validate(own: Examples, extra: Examples, recipe: Recipe) -> tuple[float, float, float]:
    """The best penalty and temperature, and their log loss on queries that were not trained on."""
    best = (float("inf"), 0.0, 0.0)
    for penalty in recipe.penalties:
        tried = [
            (fit(join(own.take(train), extra), penalty, recipe), own.take(test))
            for train, test in folds(len(own.grams), recipe)
        ]
        for temperature in np.arange(0.5, 1.55, 0.05):
            loss = float(np.mean([log_loss(head, test, float(temperature)) for head, test in tried]))
            best = min(best, (loss, penalty, float(temperature)))
        print(f"penalty {penalty}: best so far {best}", flush=True)
    return best[1], best[2], best[0]


def join(first: Examples, second: Examples) -> Examples:
    """Both, one after the other."""
    return Examples(
        [*first.grams, *second.grams],
        np.concatenate([first.vectors, second.vectors]),
        np.concatenate([first.weights, second.weights]),
        np.concatenate([first.answers, second.answers]),
    )


def write(head: Head, folder: Path) -> None:
    """The two files that `Head.read` reads."""
    words = {"categories": dict(head.categories), "grams": list(head.vocabulary)}
    (folder / "vocabulary.json").write_text(json.dumps(words, ensure_ascii=False, indent=0) + "\n", encoding="utf-8")
    np.savez_compressed(
        folder / "weights.npz",
        vector_weights=head.vector_weights,
        gram_weights=head.gram_weights,
        bias=head.bias,
        agreement=head.agreement,
    )


def main() -> None:
    """Cross-validate, train on the training split, measure on the held-out split, describe, register."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--version", required=True)
    parser.add_argument("--out", type=Path, default=Path("build/models"), help="folder of versions")
    parser.add_argument("--no-register", action="store_true", help="leave the registry alone")
    options = parser.parse_args()
    recipe = Recipe()
    torch.manual_seed(recipe.seed)

    slm, encoder_version = open_slm("encoder", load_settings().settings)
    if not isinstance(slm, Encoder):
        raise SystemExit(f"{encoder_version} is not an encoder")
    train = choose(read_queries(query_files()), "train")
    clinc = read_queries([CLINC150])
    own = prepare(train, [1.0] * len(train), slm)
    extra = prepare(clinc, [recipe.clinc_weight] * len(clinc), slm)
    penalty, temperature, loss = cross_validate(own, extra, recipe)
    head = tempered(fit(join(own, extra), penalty, recipe), temperature)

    folder: Path = options.out / "classifier" / options.version
    folder.mkdir(parents=True, exist_ok=True)
    write(head, folder)
    quality = evaluate(Classifier(Head.read(folder)), query_files(), "held_out", None)
    version = describe_version(
        folder,
        name="classifier",
        version=options.version,
        kind="classifier",
        runtime="numpy",
        licence="Apache-2.0",
        trained_from=("training/data/queries (train split)", "CLINC150 (CC BY 3.0), 660 queries"),
        parents=(str(encoder_version),),
        quality={"held_out": quality},
        notes=f"Linear head over {encoder_version} and {len(head.vocabulary)} words and word pairs; penalty {penalty}, "
        f"temperature {temperature:.2f}, cross-validated log loss {loss:.3f}.",
    )
    print(version, json.dumps(quality))
    if not options.no_register:
        register_version(version)


if __name__ == "__main__":
    main()
