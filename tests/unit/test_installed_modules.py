"""Our top-level names are common words: a dependency that ships one of them would shadow ours, or be shadowed."""

import tomllib
from importlib.metadata import Distribution, distributions
from pathlib import Path

import pytest

OURS = {"actors", "config", "daemon", "deploy", "registry", "tests", "training"}


def shipped_top_level(distribution: Distribution) -> set[str]:
    """The names that a distribution's files can be imported by."""
    names = set()
    for file in distribution.files or ():
        first = file.parts[0]
        if len(file.parts) > 1:
            names.add(first)
        elif file.suffix in (".py", ".so", ".pth"):
            names.add(first.partition(".")[0])
    return names


def make_distribution(site: Path, *files: str) -> Distribution:
    """An installed distribution that records these files."""
    information = site / "sample-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: sample\nVersion: 1.0\n")
    (information / "RECORD").write_text("".join(f"{file},,\n" for file in files))
    return Distribution.at(information)


@pytest.mark.parametrize("distribution", list(distributions()), ids=lambda distribution: distribution.name)
def test_no_dependency_ships_a_module_of_our_name(distribution):
    if distribution.name.lower() != "shoal":
        assert not shipped_top_level(distribution) & OURS


@pytest.mark.parametrize("file", ["daemon/__init__.py", "config.py", "registry/sub/deep.py", "tests/data.txt"])
def test_one_that_did_would_be_found(tmp_path, file):
    sample = make_distribution(tmp_path, "sample/__init__.py", file, "sample-1.0.dist-info/RECORD", "../../bin/daemon")
    assert shipped_top_level(sample) & OURS == {file.split("/")[0].removesuffix(".py")}


def test_every_package_of_ours_is_guarded():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    packages = {pattern.rstrip("*") for pattern in project["tool"]["setuptools"]["packages"]["find"]["include"]}
    assert packages
    assert packages <= OURS
