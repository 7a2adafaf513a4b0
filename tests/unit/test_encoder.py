"""The bundled encoder: unit vectors that mean something, for any text, whatever comes with it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from actors.encoder import DIMENSIONS, MAX_CHARACTERS, Encoder
from actors.errors import ModelLoadError
from actors.messages import Encoding, Request, Turn
from actors.runtimes.onnx import open_session
from config.settings import SlmSettings, load_settings
from registry.versions import ModelVersion, check_files
from tests.unit.odd_texts import ODD
from training.loading import find_version


@pytest.fixture(scope="module")
def settings() -> SlmSettings:
    return load_settings().settings.slm["encoder"]


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> ModelVersion:
    """The newest bundled version, whatever the person who runs the tests has registered."""
    home = tmp_path_factory.mktemp("home")
    return find_version("encoder", load_settings(overrides={"home": str(home)}).settings)


@pytest.fixture(scope="module")
def encoder(version: ModelVersion, settings: SlmSettings) -> Iterator[Encoder]:
    encoder = Encoder.load(version, settings)
    yield encoder
    encoder.close()


def request_for(text: str) -> Request:
    return Request(Turn("1", "me", "session", "user", text, 0.0))


def test_the_bundled_files_are_what_the_manifest_lists(version: ModelVersion) -> None:
    check_files(version.manifest, version.path, digests=True)
    assert sum(entry.size for entry in version.manifest.files) < 25e6


def test_like_texts_have_like_vectors(encoder: Encoder) -> None:
    moved, relocated, recipe = encoder.run(
        [
            request_for("My sister moved to Oslo."),
            request_for("my sister has relocated to oslo"),
            request_for("How long do I boil an egg?"),
        ]
    )
    assert moved.array() @ relocated.array() > 0.8
    assert moved.array() @ recipe.array() < 0.3


@pytest.mark.parametrize("text", ODD.values(), ids=ODD.keys())
def test_any_text_has_a_unit_vector(encoder: Encoder, text: str) -> None:
    (encoding,) = encoder.run([request_for(text)])
    assert isinstance(encoding, Encoding)
    assert encoding.array().shape == (DIMENSIONS,)
    assert np.linalg.norm(encoding.array()) == pytest.approx(1.0, abs=1e-4)
    assert encoding.layer_arrays().shape == (2, DIMENSIONS)
    assert np.isfinite(encoding.layer_arrays()).all()


def test_a_batch_says_what_each_text_says_alone(encoder: Encoder) -> None:
    requests = [request_for(text) for text in ["Hello", *ODD.values(), "My sister lives in Oslo. " * 9]]
    together = encoder.run(requests)
    alone = [encoder.run([request])[0] for request in requests]
    assert together == alone


def test_only_the_beginning_of_a_huge_text_counts(encoder: Encoder) -> None:
    start = "My sister lives in Oslo. " * (MAX_CHARACTERS // 25)
    assert encoder.encode(start) == encoder.encode(start + "How are you? " * 3000)


def test_no_requests_give_no_results(encoder: Encoder) -> None:
    assert list(encoder.run([])) == []


def damaged(version: ModelVersion, folder: Path, name: str, content: bytes | None) -> ModelVersion:
    """A copy of `version` in which file `name` holds `content`, or is gone."""
    shutil.copytree(version.path, folder, dirs_exist_ok=True)
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(content)
    return ModelVersion(version.manifest, folder)


@pytest.mark.parametrize("name", ["encoder.onnx", "tokenizer.json"])
@pytest.mark.parametrize("damage", ["missing", "empty", "truncated", "noise"])
def test_damaged_files_are_refused(
    version: ModelVersion, settings: SlmSettings, tmp_path: Path, name: str, damage: str
) -> None:
    whole = (version.path / name).read_bytes()
    content = {"missing": None, "empty": b"", "truncated": whole[: len(whole) // 2], "noise": bytes(range(256)) * 64}
    with pytest.raises(ModelLoadError) as caught:
        Encoder.load(damaged(version, tmp_path, name, content[damage]), settings)
    assert caught.value.code == "model_load_failed"


def test_a_graph_that_is_no_encoder_is_refused(version: ModelVersion, settings: SlmSettings, tmp_path: Path) -> None:
    """A sound ONNX file of another kind is found out when it is loaded, not at the first turn."""
    other = damaged(version, tmp_path, "encoder.onnx", identity_graph())
    assert open_session(tmp_path / "encoder.onnx", 1).get_inputs()[0].name == "x"
    with pytest.raises(ModelLoadError, match="does not run"):
        Encoder.load(other, settings)


def identity_graph() -> bytes:
    """An ONNX model, by the field numbers of onnx.proto: one node, from float x[1] to float vector[1]."""

    def field(number: int, value: int | str | bytes) -> bytes:
        if isinstance(value, int):
            return bytes([number << 3, value])
        content = value.encode() if isinstance(value, str) else value
        return bytes([number << 3 | 2, len(content)]) + content

    float_of_one = field(1, field(1, 1) + field(2, field(1, field(1, 1))))
    node = field(1, "x") + field(2, "vector") + field(4, "Identity")
    graph = field(1, node) + field(2, "g")
    graph += field(11, field(1, "x") + field(2, float_of_one)) + field(12, field(1, "vector") + field(2, float_of_one))
    return field(1, 8) + field(7, graph) + field(8, field(2, 18))
