from __future__ import annotations

from collections.abc import Callable

import pytest

from edgekit.prune.selection.amount import FIRST, Probe, best, largest_share, next_share


def searched(drop: Callable[[float], float], allowed: float) -> list[Probe]:
    """Bisect a network whose loss at a share is ``drop``, to the end."""
    probes: list[Probe] = []
    while (keep := next_share(probes, allowed)) is not None:
        probes.append(Probe(keep, drop(keep)))
        assert len(probes) < 20
    return probes


@pytest.mark.parametrize("border", [0.08, 0.2, 0.35, 0.5, 0.8])
def test_the_border_of_the_budget_is_found_in_few_trainings(border: float) -> None:
    probes = searched(lambda keep: 0.0 if keep >= border else 5.0, 1.0)
    found = best(probes, 1.0).keep
    assert border <= found <= border / 0.85 * 1.02
    assert len(probes) <= 7


def test_the_first_share_comes_before_anything_is_known() -> None:
    assert next_share([], 1.0) == FIRST


def test_a_network_that_loses_nothing_is_cut_until_little_is_left() -> None:
    probes = searched(lambda keep: 0.0, 1.0)
    assert min(probe.keep for probe in probes) < 0.06
    assert best(probes, 1.0).keep == min(probe.keep for probe in probes)


def test_a_network_that_bears_no_cut_ends_with_the_least_loss() -> None:
    probes = searched(lambda keep: 10.0 * (1.0 - keep), 0.01)
    assert best(probes, 0.01).keep == max(probe.keep for probe in probes)
    assert all(probe.keep < 0.95 for probe in probes)


def test_a_share_that_failed_by_chance_above_one_that_held_does_not_confuse_the_search() -> None:
    probes = [Probe(0.4, 0.2), Probe(0.24, 1.4), Probe(0.31, 0.5), Probe(0.6, 3.0)]
    wanted = next_share(probes, 1.0)
    assert wanted is not None
    assert 0.24 < wanted < 0.31
    assert best(probes, 1.0).keep == 0.31


@pytest.mark.parametrize("border", [0.1, 0.37, 0.72])
def test_the_largest_share_that_is_fast_enough_is_found(border: float) -> None:
    found = largest_share(lambda keep: keep <= border)
    assert border - 0.011 < found <= border


def test_where_no_share_is_fast_enough_the_least_is_tried() -> None:
    assert largest_share(lambda keep: False) < 0.05
    assert largest_share(lambda keep: True) > 0.85
