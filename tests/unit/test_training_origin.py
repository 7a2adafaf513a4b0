"""A checkpoint tells what it was made of, so that what is published of it later is described by that."""

from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from training.extractor.learning import Recipe
from training.extractor.model import Shape
from training.extractor.origin import Origin

FIRST = Origin(asdict(Recipe(epochs=3)), ("training/data/conversations", "training/data/public"), 800, "epoch-3")
SECOND = Origin(asdict(Recipe(public_epochs=0)), ("mine", "training/data/conversations"), 90, "epoch-8", FIRST)


def test_a_checkpoint_keeps_its_origin_and_older_ones_have_none(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    export = pytest.importorskip("training.extractor.export")
    network: Any = SimpleNamespace(shape=Shape(2, 2, 2, 2), state_dict=dict)
    export.save_checkpoint(network, tmp_path / "epoch-8.pt", SECOND)
    assert export.read_origin(tmp_path / "epoch-8.pt") == SECOND
    torch.save({"shape": asdict(network.shape), "weights": {}}, tmp_path / "older.pt")
    assert export.read_origin(tmp_path / "older.pt") is None


def test_a_manifest_names_the_data_and_recipes_of_every_run() -> None:
    assert SECOND.sources() == ("mine", "training/data/conversations", "training/data/public")
    told = SECOND.told()
    assert told.index("'epochs': 8") < told.index("went on from a checkpoint of 800 turns") < told.index("'epochs': 3")


def test_what_is_not_known_of_a_start_is_said() -> None:
    origin = Origin({"epochs": 1}, ("mine",), 9, "epoch-1", unknown_start=True)
    assert origin.told().endswith("does not record what it was made of.")
