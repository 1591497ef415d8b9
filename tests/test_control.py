"""The control's cells: how two compare, every reading, the smaller eta that stands in, equal loss."""

import numpy
import pytest

from experiments.captions import written
from experiments.claims import control
from outcomes import outcome, seed

CELLS = {
    "a": {"B": 128},
    "b": {"B": 16, "steps_of_B": 128},
    "c": {"B": 16},
    "d": {"B": 16},
    "e": {"B": 16, "lam": 5e-4 / 8},
}


def cells(ranks, network="MLP-5-500", eta=0.03, accuracy=100.0, **given):
    """The outcomes of cells {letter: final ranks of its seeds}."""
    found = []
    for letter, values in ranks.items():
        seeds = [seed(rank, accuracy, **given) for rank in values]
        fields = CELLS[letter] | {"network": network, "eta": eta / 8 if letter == "d" else eta}
        found.append(outcome(seeds, written("cell", letter), **fields))
    return found


def around(rank):
    return (rank - 0.5, rank, rank + 0.5)


def both(a, b):
    """Cells a and b in two networks."""
    found = cells({"a": around(a[0]), "b": around(b[0])}, "MLP-BN-10-100")
    return found + cells({"a": around(a[1]), "b": around(b[1])})


@pytest.mark.parametrize(
    "a, b, said",
    [
        ((90, 90), (60, 60), "holds"),
        ((90, 90), (60, 90), "holds"),
        ((90, 90), (99, 99), "fails"),  # the opposite
        ((90, 90), (60, 99), "mixed"),
        ((90, 90), (88, 92), "not seen"),  # less than 5 % of the full rank
    ],
)
def test_smaller_B_lower_rank_at_equal_steps(a, b, said):
    assert control.smaller_B_lower_rank_at_equal_steps.judge(both(a, b))["holds"] == said


@pytest.mark.parametrize(
    "a, b, said",
    [
        ((90, 91, 92), (80, 81, 82), "below"),
        ((90, 91, 92), (99, 98, 97), "above"),
        ((90, 91, 92), (88, 89, 90), "like"),
        ((80, 90, 100), (60, 70, 81), "unclear"),  # the ranges overlap
        ((90, 99, 99), (82, 82, 91), "unclear"),  # they do, though the means differ by more than either
        ((91, 92, 99), (80, 85, 90), "unclear"),  # they don't, but one is 10 wide, and the means differ by 9
        ((90, 91), (80, 81), "below"),
        ((90,), (80,), None),  # of one seed there is no range
    ],
)
def test_cells_differ_beyond_both_ranges_and_a_twentieth_of_the_full_rank(a, b, said):
    (network,) = control.networks_of(cells({"a": a, "b": b}), control.final_rank)
    assert control.compared(network, "b", "a") == said


def test_nothing_is_decided_by_cells_that_have_not_learned_or_are_missing_or_of_one_seed():
    judge = control.smaller_B_lower_rank_at_equal_steps.judge
    assert judge(cells({"a": around(90), "b": around(60)}, accuracy=10.0))["holds"] == "not decided"
    assert judge(cells({"a": around(90)}))["holds"] == "not decided"
    assert judge(cells({"a": (90,), "b": (60,)}))["holds"] == "not decided"
    assert judge([])["holds"] == "not decided"


@pytest.mark.parametrize(
    "ranks, said",
    [
        ({"a": 90, "b": 89, "c": 40}, "steps and budget, not B"),
        ({"a": 90, "b": 89, "c": 91}, None),  # b like a, but no trend to carry
        ({"a": 90, "b": 86, "c": 83}, None),  # c is below a, and like b
        ({"a": 90, "b": 60, "c": 40}, "batch size"),
        ({"a": 80, "b": 95, "c": 40}, "noise raises the rank"),
        ({"a": 90, "d": 88}, "only η / B and E matter"),
        ({"a": 90, "d": 80}, None),
        ({"b": 90, "c": 40, "e": 91}, "E alone"),
        ({"b": 90, "c": 91, "e": 92}, None),  # like b, and like c
        ({"b": 90, "c": 40, "e": 41}, None),  # like c
        ({"a": 90, "b": 89, "c": 40, "d": 91}, "steps and budget, not B, only η / B and E matter"),
    ],
)
def test_what_carries_the_trend(ranks, said):
    found = cells({letter: around(rank) for letter, rank in ranks.items()})
    expected = "not decided" if said is None else f"MLP-5-500: {said}"
    assert control.what_carries_the_trend.judge(found)["holds"] == expected


def test_with_one_seed_nothing_carries_the_trend():
    found = cells({letter: (rank,) for letter, rank in zip("abcde", (90, 60, 40, 90, 60))})
    assert control.what_carries_the_trend.judge(found)["holds"] == "not decided"


def test_the_smaller_eta_stands_in_for_all_cells_where_b_has_not_learned():
    dead = cells({"a": around(90), "b": around(95), "d": around(90)})
    dead[1].seeds[0] = seed(95, 10.0)
    judge = control.smaller_B_lower_rank_at_equal_steps.judge
    alone = judge(dead)
    assert alone["holds"] == "not decided" and "no smaller η is trained" in alone["networks"]
    smaller = cells({"a": around(90), "b": around(60), "d": around(70)}, eta=0.01)
    numbers = judge(dead + smaller)
    assert numbers["holds"] == "holds"
    assert numbers["networks"].startswith("MLP-5-500 at η = 0.01, as b has not learned at 0.03: a 89.5 to")
    assert "d 69.5 to 70.5 %" in numbers["networks"]


def test_where_b_has_learned_the_smaller_eta_says_nothing():
    found = cells({"a": around(90), "b": around(60)}) + cells({"a": around(60), "b": around(90)}, eta=0.01)
    assert control.smaller_B_lower_rank_at_equal_steps.judge(found)["holds"] == "holds"


def test_at_equal_loss_the_ranks_of_the_first_epoch_that_reaches_it_count():
    """The made-up runs reach 0.1 at their second measured epoch and 0.01 at their third."""
    found = cells({"a": around(90), "b": around(60)})
    for o, then in zip(found, (70.0, 90.0)):
        o.seeds[:] = [made | {"rank": numpy.array([100.0, then, made["rank"][-1]])} for made in o.seeds]
    assert control.smaller_B_lower_rank_at_loss_0_1.judge(found)["holds"] == "fails"
    assert control.smaller_B_lower_rank_at_loss_0_01.judge(found)["holds"] == "holds"


def test_a_cell_one_of_whose_seeds_never_reaches_the_loss_is_not_compared():
    found = cells({"a": around(90), "b": around(60)})
    found[1].seeds[2] = found[1].seeds[2] | {"train_loss": numpy.array([2.3, 0.5, 0.02])}
    numbers = control.smaller_B_lower_rank_at_loss_0_01.judge(found)
    assert numbers["holds"] == "not decided"
    assert numbers["networks"] == "MLP-5-500 at η = 0.03: a 89.5 to 90.5 %"
