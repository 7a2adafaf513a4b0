"""The paired bootstrap, on counts whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from training.bootstrap import paired_bootstrap


def shares(right: list[int], whole: list[int]) -> dict[str, np.ndarray]:
    return {"accuracy": np.array([right, whole], dtype=np.float64).T}


def test_a_version_is_no_better_than_itself() -> None:
    same = shares([1, 0, 1, 1], [1, 1, 1, 1])
    found = paired_bootstrap(same, same)["accuracy"]
    assert (found.old, found.new, found.difference) == (0.75, 0.75, 0.0)
    assert (found.low, found.high, found.better) == (0.0, 0.0, 0.0)


def test_a_gain_in_every_unit_is_certain_and_of_its_size() -> None:
    found = paired_bootstrap(shares([1] * 50, [2] * 50), shares([2] * 50, [2] * 50))["accuracy"]
    assert (found.difference, found.low, found.high, found.better) == (0.5, 0.5, 0.5, 1.0)


def test_the_interval_is_that_of_the_mean_of_paired_differences() -> None:
    """400 pairs, +1 in 100 of them, -1 in 60: their mean is 0.1, and its standard error 0.0312 by the usual formula."""
    old = [0] * 100 + [1] * 60 + [1] * 240
    new = [1] * 100 + [0] * 60 + [1] * 240
    found = paired_bootstrap(shares(old, [1] * 400), shares(new, [1] * 400), resamples=20_000)["accuracy"]
    assert found.difference == pytest.approx(0.1)
    error = np.std(np.array(new) - np.array(old)) / np.sqrt(400)
    assert found.low == pytest.approx(0.1 - 1.96 * error, abs=0.005)
    assert found.high == pytest.approx(0.1 + 1.96 * error, abs=0.005)
    assert found.better is not None
    assert 0.998 < found.better < 1.0


def test_what_both_versions_find_hard_does_not_widen_the_interval() -> None:
    """Pairing: units differ widely, but the new version has one more of every twenty in each."""
    right = [0, 5, 10, 15, 19] * 10
    found = paired_bootstrap(shares(right, [20] * 50), shares([r + 1 for r in right], [20] * 50))["accuracy"]
    assert (found.low, found.high, found.better) == (0.05, 0.05, 1.0)


def test_a_measure_is_the_quotient_of_sums_not_the_mean_of_quotients() -> None:
    found = paired_bootstrap(shares([1, 0], [1, 9]), shares([1, 9], [1, 9]))["accuracy"]
    assert (found.old, found.new) == (0.1, 1.0)


def test_the_same_seed_gives_the_same_interval() -> None:
    draw = np.random.default_rng(3)
    old, new = (shares(draw.integers(0, 2, 80).tolist(), [1] * 80) for _ in range(2))
    assert paired_bootstrap(old, new, seed=1) == paired_bootstrap(old, new, seed=1)
    assert paired_bootstrap(old, new, seed=1) != paired_bootstrap(old, new, seed=2)


def test_resamples_that_hold_nothing_to_measure_are_left_out() -> None:
    found = paired_bootstrap(shares([0, 0, 0], [1, 0, 0]), shares([1, 0, 0], [1, 0, 0]))["accuracy"]
    assert (found.difference, found.low, found.high, found.better) == (1.0, 1.0, 1.0, 1.0)


def test_a_measure_of_nothing_is_none() -> None:
    found = paired_bootstrap(shares([0], [0]), shares([0], [0]))["accuracy"]
    assert (found.old, found.new, found.difference, found.low, found.high, found.better) == (None,) * 6


def test_measures_that_only_one_version_has_are_left_out() -> None:
    both = {**shares([1], [1]), "f1": np.ones((1, 2))}
    assert list(paired_bootstrap(shares([1], [1]), both)) == ["accuracy"]


def test_versions_measured_on_different_units_cannot_be_compared() -> None:
    with pytest.raises(ValueError, match="same units"):
        paired_bootstrap(shares([1], [1]), shares([1, 1], [1, 1]))
