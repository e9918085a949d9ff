"""Hulls of choices, and plans of them, against all combinations."""

from itertools import pairwise, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from las_sj.neurons import MultiThresholdCode
from las_sj.optimisation.choices import Choice, lower_hull
from las_sj.optimisation.plan import plan_for_energy, plan_for_loss

CODE = MultiThresholdCode(8)
PAIRS = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), min_size=1, max_size=7)


def choices(pairs: list[tuple[int, int]]) -> list[Choice]:
    return [Choice(CODE, 1.0, 1.0, float(loss), 0.0, float(pj)) for loss, pj in pairs]


@given(PAIRS)
def test_no_mixture_beats_a_hull(pairs: list[tuple[int, int]]) -> None:
    found = choices(pairs)
    hull = lower_hull(found)
    assert hull[0].pj == min(choice.pj for choice in found)
    assert hull[-1].loss == min(choice.loss for choice in found)
    for coarse, fine in pairwise(hull):
        assert fine.pj > coarse.pj
        assert fine.loss < coarse.loss
    for choice in found:
        for coarse, fine in pairwise(hull):
            if coarse.pj <= choice.pj <= fine.pj:
                share = (choice.pj - coarse.pj) / (fine.pj - coarse.pj)
                assert choice.loss >= coarse.loss + share * (fine.loss - coarse.loss) - 1e-9


@given(st.lists(PAIRS, min_size=1, max_size=3), st.integers(0, 100))
def test_a_plan_is_within_its_gap_of_the_best(populations: list[list[tuple[int, int]]], loss: int) -> None:
    all_choices = {str(number): choices(pairs) for number, pairs in enumerate(populations)}
    plan = plan_for_loss({name: lower_hull(found) for name, found in all_choices.items()}, float(loss))
    combinations = [*product(*all_choices.values())]
    reachable = [sum(c.pj for c in chosen) for chosen in combinations if sum(c.loss for c in chosen) <= loss]
    assert plan.loss == pytest.approx(sum(choice.loss for choice in plan.choices.values()))
    assert plan.pj == pytest.approx(sum(choice.pj for choice in plan.choices.values()))
    if reachable:
        assert plan.loss <= loss
        assert plan.pj - plan.gap <= min(reachable) + 1e-9
    else:
        assert plan.loss == min(sum(c.loss for c in chosen) for chosen in combinations)


@given(st.lists(PAIRS, min_size=1, max_size=3), st.integers(0, 100))
def test_a_plan_for_an_energy_stops_where_it_reaches_it(populations: list[list[tuple[int, int]]], pj: int) -> None:
    hulls = {str(number): lower_hull(choices(pairs)) for number, pairs in enumerate(populations)}
    plan = plan_for_energy(hulls, float(pj))
    assert plan.pj >= pj or all(plan.choices[name] == hull[-1] for name, hull in hulls.items())
    assert plan.pj - plan.gap < pj or plan.gap == 0


def test_populations_without_choices_keep_their_code() -> None:
    plan = plan_for_loss({"silent": [], "coded": choices([(1, 1)])}, 5.0)
    assert [*plan.choices] == ["coded"]
