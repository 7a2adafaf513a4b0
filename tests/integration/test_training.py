"""Training end to end on a little data: one command makes a version that verifies, loads, answers and is scored."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from actors.extractor import Extractor
from actors.messages import Request, Turn
from config.schema import load_schema
from config.settings import load_settings
from registry.store import Store
from registry.versions import Manifest
from training.splits import CONVERSATIONS

ROOT = Path(__file__).parents[2]
OTHER = ROOT / "training" / "data" / "other" / "knowledgenet"
TURNS_OF = ("turns-1.txt", "turns-2.txt", "turns-3.txt")


def command(module: str, *arguments: str, home: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", module, *arguments],
        cwd=ROOT,
        env={**os.environ, "SHOAL_HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.timeout(600)
def test_one_command_makes_an_extractor_that_can_be_registered_loaded_and_scored(tmp_path: Path) -> None:
    data = tmp_path / "conversations"
    data.mkdir()
    for name in TURNS_OF:
        (data / name).write_bytes((CONVERSATIONS / name).read_bytes())
    home, out = tmp_path / "home", tmp_path / "models"

    command(
        "training.extractor.train",
        *("--version", "9.9.9", "--epochs", "1", "--public-epochs", "0", "--data", str(data), "--out", str(out)),
        *("--checkpoints", str(tmp_path / "checkpoints")),
        home=home,
    )

    folder = out / "extractor" / "9.9.9"
    manifest = Manifest.read(folder)
    assert manifest.quality["trained_on"] > 50
    version = Store(home / "registry").verify("extractor@9.9.9")
    extractor = Extractor.load(version, load_settings().settings.slm["extractor"])
    [extraction] = extractor.run([Request(Turn("t", "me", "s", "user", "My sister Emma lives in Lisbon.", 0.0))])
    extractor.close()
    assert 0.0 <= extraction.correction <= 1.0
    report = json.loads(
        command(
            "training.evaluate",
            *("extractor", str(data / TURNS_OF[0]), "--version", "9.9.9", "--json"),
            home=home,
        )
    )
    assert 0.0 <= report["entity"]["f1"] <= 1.0
    assert report["latency_ms"]["p50"] > 0


@pytest.mark.timeout(600)
def test_the_same_command_learns_another_schema_from_its_file(tmp_path: Path) -> None:
    data = tmp_path / "sentences"
    data.mkdir()
    blocks = (OTHER / "knowledgenet.txt").read_text(encoding="utf-8").split("\n\n")
    (data / "few.txt").write_text("\n\n".join(blocks[:60]), encoding="utf-8")
    home, out = tmp_path / "home", tmp_path / "models"

    command(
        "training.extractor.train",
        *("--version", "9.9.8", "--epochs", "1", "--schema", str(OTHER / "schema.yaml"), "--data", str(data)),
        *("--out", str(out), "--checkpoints", str(tmp_path / "checkpoints")),
        home=home,
    )

    version = Store(home / "registry").verify("extractor@9.9.8")
    extractor = Extractor.load(version, load_settings().settings.slm["extractor"])
    other, shipped = load_schema(OTHER / "schema.yaml"), load_schema()
    assert extractor.schema == other
    assert not other.predicates.keys() & shipped.predicates.keys()
    extractor.close()
    told = tmp_path / "told.jsonl"
    command(
        "training.evaluate",
        *("extractor", str(data / "few.txt"), "--version", "9.9.8", "--json", "--predictions", str(told)),
        home=home,
    )
    said = [json.loads(line) for line in told.read_text(encoding="utf-8").splitlines()]
    assert len(said) == 60
    assert {relation["predicate"] for one in said for relation in one["relations"]} <= other.predicates.keys()
    assert {entity["type"] for one in said for entity in one["entities"]} <= other.entity_types.keys()


@pytest.mark.timeout(600)
def test_the_shipped_encoder_is_what_its_command_makes(tmp_path: Path) -> None:
    out = tmp_path / "models"

    command("training.encoder.export", "--version", "9.9.9", "--out", str(out), "--no-register", home=tmp_path / "home")

    made = Manifest.read(out / "encoder" / "9.9.9")
    assert {file.path for file in made.files} >= {"encoder.onnx", "tokenizer.json"}
    assert sum(file.size for file in made.files) < 25_000_000
