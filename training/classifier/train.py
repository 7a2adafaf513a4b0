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

from actors.classifier import END, START, Classifier, Head, features, grams
from actors.encoder import Encoder
from actors.messages import Encoding
from config.settings import load_settings
from registry.versions import ModelVersion
from training.card import write_papers
from training.classifier.evaluation import ABOUT, evaluate
from training.classifier.queries import CLINC150, Query, choose, query_files, read_queries, statement_files
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
    """Strengths by cross-validation on the training split. Our own queries count fully, other turns little."""

    seed: int = 0
    folds: int = 5
    extra_weight: float = 0.2
    gram_scale: float = 1.2
    min_count: int = 2
    penalties: tuple[float, ...] = (0.05, 0.1, 0.2)
    agreement_penalty: float = 0.1


@dataclass(frozen=True, slots=True)
class Examples:
    """Queries with their features [n, width], weights [n] and answers [n, 3] (research, memory, category's number)."""

    grams: Sequence[frozenset[str]]
    vectors: NDArray[np.float32]
    weights: NDArray[np.float32]
    answers: NDArray[np.int64]

    def take(self, chosen: NDArray[np.int64]) -> Examples:
        """The examples at these positions."""
        return Examples(
            [self.grams[i] for i in chosen], self.vectors[chosen], self.weights[chosen], self.answers[chosen]
        )


def prepare(
    queries: Sequence[Query], weights: Sequence[float], encodings: Sequence[Encoding], centres: NDArray[np.float32]
) -> Examples:
    """Raises: KeyError for a category that has no meaning in MEANINGS."""
    order = {name: number for number, name in enumerate(MEANINGS)}
    return Examples(
        [grams(query.text) for query in queries],
        np.array([features(e.array(), e.layer_arrays(), centres) for e in encodings], dtype=np.float32),
        np.array(weights, dtype=np.float32),
        np.array([(q.needs_research, q.needs_memory, order[q.category]) for q in queries], dtype=np.int64),
    )


def fit(examples: Examples, centres: NDArray[np.float32], penalty: float, recipe: Recipe) -> Head:
    """The head with the least penalised log loss of the combined answers; convex, so the seed decides nothing."""
    counts = Counter(gram for said in examples.grams for gram in said)
    known = sorted(g for g, count in counts.items() if count >= recipe.min_count and g not in (START, END))
    vocabulary = {gram: number for number, gram in enumerate(known)}
    found = [[vocabulary[gram] for gram in said if gram in vocabulary] for said in examples.grams]
    starts = torch.tensor([0, *np.cumsum([len(grams) for grams in found])[:-1]])
    flat = torch.tensor([gram for grams in found for gram in sorted(grams)])
    scales = torch.tensor([[recipe.gram_scale / max(1, len(grams)) ** 0.5] for grams in found])
    vectors, weights = torch.from_numpy(examples.vectors), torch.from_numpy(examples.weights)
    research, memory, category = torch.from_numpy(examples.answers).T
    layer = torch.zeros(vectors.shape[1], 2 + len(MEANINGS), requires_grad=True)
    words = torch.zeros(len(vocabulary), 2 + len(MEANINGS), requires_grad=True)
    bias = torch.zeros(2 + len(MEANINGS), requires_grad=True)
    agreement = torch.zeros(2, 2, len(MEANINGS), requires_grad=True)
    switch = torch.tensor([0.0, 1.0])
    solver = torch.optim.LBFGS(
        [layer, words, bias, agreement], max_iter=200, tolerance_grad=1e-4, line_search_fn="strong_wolfe"
    )

    def loss() -> torch.Tensor:
        outputs = vectors @ layer + scales * torch.nn.functional.embedding_bag(flat, words, starts, mode="sum") + bias
        scores = (
            (outputs[:, :1] * switch)[:, :, None, None]
            + (outputs[:, 1:2] * switch)[:, None, :, None]
            + outputs[:, None, None, 2:]
            + agreement
        )
        right = scores[torch.arange(len(scores)), research, memory, category]
        missed = scores.flatten(1).logsumexp(1) - right
        strength = (
            penalty * (layer.square().sum() + words.square().sum())
            + recipe.agreement_penalty * agreement.square().sum()
        )
        return (weights * missed).sum() + strength / 2

    def closure() -> torch.Tensor:
        solver.zero_grad()
        value = loss()
        value.backward()
        return value

    solver.step(closure)
    return Head(
        MEANINGS,
        vocabulary,
        centres=centres,
        vector_weights=layer.detach().numpy(),
        gram_weights=words.detach().numpy() * np.float32(recipe.gram_scale),
        bias=bias.detach().numpy(),
        agreement=agreement.detach().numpy(),
    )


def tempered(head: Head, temperature: float) -> Head:
    """The same decisions, nearly, with confidences that are less sure above a temperature of 1."""
    scale = np.float32(1 / temperature)
    return Head(
        head.categories,
        head.vocabulary,
        head.centres,
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


def cross_validate(
    own: Examples, extra: Examples, centres: NDArray[np.float32], recipe: Recipe
) -> tuple[float, float, float]:
    """The best penalty and temperature, and their log loss on queries that were not trained on."""
    best = (float("inf"), 0.0, 0.0)
    for penalty in recipe.penalties:
        tried = [
            (fit(join(own.take(train), extra), centres, penalty, recipe), own.take(test))
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
        centres=head.centres,
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
    others = [*read_queries([CLINC150]), *choose(read_queries(statement_files()), "train")]
    encodings = [slm.encode(query.text) for query in train]
    centres = np.mean([encoding.layer_arrays() for encoding in encodings], axis=0)
    own = prepare(train, [1.0] * len(train), encodings, centres)
    extra = prepare(others, [recipe.extra_weight] * len(others), [slm.encode(query.text) for query in others], centres)
    penalty, temperature, loss = cross_validate(own, extra, centres, recipe)
    head = tempered(fit(join(own, extra), centres, penalty, recipe), temperature)

    folder: Path = options.out / "classifier" / options.version
    folder.mkdir(parents=True, exist_ok=True)
    write(head, folder)
    evaluation = evaluate(Classifier(Head.read(folder)), query_files(), "held_out")
    statements = evaluate(Classifier(Head.read(folder)), statement_files(), "held_out").report
    quality = {
        "held_out": evaluation.report,
        "statements_held_out": {name: statements[name] for name in ("needs_research", "needs_memory")},
    }

    def described() -> ModelVersion:
        return describe_version(
            folder,
            name="classifier",
            version=options.version,
            kind="classifier",
            runtime="numpy",
            licence="Apache-2.0",
            trained_from=(
                "training/data/queries, training/data/turns (train splits)",
                "CLINC150 (CC BY 3.0), 660 queries",
            ),
            parents=(str(encoder_version),),
            quality=quality,
            notes=f"Linear head over {encoder_version} and {len(head.vocabulary)} words and word pairs; "
            f"penalty {penalty}, temperature {temperature:.2f}, cross-validated log loss {loss:.3f}.",
        )

    write_papers(described(), ABOUT, evaluation)
    version = described()
    print(version, json.dumps(evaluation.report))
    if not options.no_register:
        register_version(version)


if __name__ == "__main__":
    main()
