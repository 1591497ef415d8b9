"""The page of the theory: its rows say what the mathematics found, and its pictures draw it."""

import itertools

import numpy as np
import pytest

import minigrad as mg
from experiments import theory, theory_checks

WRONG, NOT_REACHED = "does not hold", "not reached in 50 steps"


@pytest.fixture
def data(rng):
    """700 made-up samples of ten classes."""
    x = rng.normal(size=(700, 12)).astype("float32")
    y = np.eye(10, dtype="float32")[np.arange(700) % 10]
    return mg.Dataset(x, y, x, y, "made up")


def test_a_row_has_its_largest_error_and_says_whether_that_is_rounding(rng, monkeypatch):
    errors = {"lemmas": (9e-11, 2e-9), "eq_14_error": 3e-9, "eq_5_error": 4e-9}
    errors["eq_23_errors"] = 5e-9, 1.9
    for name, error in errors.items():
        results = itertools.cycle([np.multiply(error, 1), np.multiply(error, 0)])
        monkeypatch.setattr(theory_checks, name, lambda *a, found=results, **k: next(found))
    rows = theory.lemmas(8, rng.normal(size=(20, 12)), "made up")
    for row, error in zip(rows, (9e-11, 2e-9, 3e-9, 4e-9, 9e-11, 2e-9, 5e-9), strict=True):
        assert row.measured.endswith(f"{error:.1e}")
        assert row.verdict == ("holds" if error < 1e-10 else WRONG)


LAST = {"step": 50, "gradient": 1, "residual": 1, "most": 1, "least": 1, "output": 1}
GOOD = dict.fromkeys(theory.DESCENTS, {}) | {  # ends of trainings that confirm every statement
    "SGD, λ = 0": {"gradient": 0.9e-8, "most": 0.9e-8},
    "SGD, λ = 0.05": {"gradient": 1.1e-4},
    "logistic loss, SGD, λ = 0": {"gradient": 0.9e-2, "least": 1e-3},
    "logistic loss, SGD, λ = 0.05": {"gradient": 0.9e-8, "output": 0.9e-8},
}
ENDS = [  # a row, the end of a training, what the row says
    (0, "GD, λ = 0.05", {"residual": 0.7}, WRONG),
    (1, "SGD, λ = 0.05", {"gradient": 0.9e-4}, WRONG),
    (1, "logistic loss, SGD, λ = 0.05", {"gradient": 0.9e-8, "output": 1.1e-8}, WRONG),
    (2, "SGD, λ = 0", {"gradient": 0.9e-8, "most": 1.1e-8}, WRONG),
    (2, "SGD, λ = 0", {"gradient": 1.1e-8, "most": 0.9e-8}, NOT_REACHED),
    (3, "logistic loss, SGD, λ = 0", {"gradient": 1.1e-2}, NOT_REACHED),
    (3, "logistic loss, SGD, λ = 0", {"gradient": 0.9e-8}, WRONG),
    (3, "logistic loss, SGD, λ = 0", {"gradient": 0.9e-2, "least": 0.0}, WRONG),
]


def histories(**changed):
    """Two entries of every training: all numbers are 1 at first, then those of GOOD or changed."""
    ends = {name: LAST | last for name, last in (GOOD | changed).items()}
    return {name: {key: np.array([1, end[key]]) for key in end} for name, end in ends.items()}


@pytest.mark.parametrize("place, name, last, verdict", ENDS)
def test_rows_on_convergence_follow_from_the_ends_of_trainings(place, name, last, verdict):
    found = [row.verdict for row in theory.section_3_1(histories(**{name: last}), 0.8, "")]
    assert found == ["holds"] * place + [verdict] + ["holds"] * (3 - place)
    # A bound on the residuals that is mere rounding confirms nothing.
    assert next(theory.section_3_1(histories(), 1e-8, "")).verdict == WRONG


def training(right, error=0.0):
    """Two epochs of two W, with the three ranks of Theorem 1."""
    sides = {"left": np.ones((2, 3, 2)), "right": np.full((2, 3, 2), right)}
    words = {"title": "made up", "on": "made up"}
    return sides | words | {"size": np.full((2, 2), [1, 3]), "error": error, "epoch": [0, 4]}


def test_rows_of_theorem_1_compare_its_sides_and_count_the_bounds_below_the_norm():
    bound, equality, tight, loose = theory.theorem_1([training(2.0), training(4.0)])
    assert bound.verdict == equality.verdict == "holds"
    assert tight.measured.endswith("2, 2, 2") and "50 %" in tight.verdict
    assert loose.measured.endswith("4, 4, 4") and " 0 %" in loose.verdict
    bound, equality, *_ = theory.theorem_1([training(2.0), training(0.9, error=1e-9)])
    assert bound.verdict == equality.verdict == WRONG


def test_the_pictures_draw_the_numbers_that_were_measured():
    left, right = theory.prop_1_picture(histories(), 0.8, "").axes
    for upper, lower, (name, run) in zip(left.lines, right.lines, histories().items()):
        np.testing.assert_array_equal(upper.get_ydata(), run["gradient"], name)
        np.testing.assert_array_equal(lower.get_ydata(), run["residual"], name)
    for panel, bound in zip(theory.theorem_1_picture([training(2.0), training(4.0)]).axes, (2, 4)):
        assert [line.get_ydata()[-1] for line in panel.lines] == [1, bound] * 3 + [2]


def test_the_binary_problem_is_balanced_centred_and_scaled(data):
    x, y = theory.zeros_and_ones(data)
    np.testing.assert_array_equal(y, np.tile([-1, 1], 20)[:, None])
    expected = data.x_train[np.arange(700) % 10 < 2][:40].astype("float64")
    expected -= expected.mean(axis=0)
    np.testing.assert_allclose(x, expected * (40 / (expected**2).sum()) ** 0.5)


def test_a_training_is_that_of_the_loop_and_is_measured_from_its_start_to_its_end(data):
    x, y, graph, sizes = data.x_train, data.y_train, mg.parse("MLP-BN-2-8", 12, 10), []
    found = theory.train(3, "MLP-BN-2-8", "", x, y, 16, 0.08, 2, (1,))
    params, velocity = mg.init_params(graph, np.random.default_rng(0)), None
    for epoch, eta in enumerate((0.01, 0.001, 0.0)):
        sizes.append(np.linalg.norm(params[2, 1], 2))
        task = x, y, mg.batches(700, 16, 0, epoch), "cross_entropy", eta, 0.08, 0.9
        velocity = mg.train_epoch(graph, params, velocity, *task)
    np.testing.assert_allclose(found["size"][:, 0], sizes, rtol=1e-4)


def test_a_page_of_synthetic_data_is_written_under_another_name(data, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(mg, "load_dataset", lambda name, root: asked.append(name) or data)
    paths = theory.write("smoke", None, 1, ("mnist",), tmp_path)
    assert asked == ["synthetic-mnist", "cifar10"]
    assert sorted(paths) == sorted(tmp_path.iterdir()) and "synthetic" in paths[0].name
    page = paths[0].read_text(encoding="utf-8")
    assert page.count("**holds**") > 8 and "max \\|f" in page
    assert "synthetic MNIST" in page and "synthetic CIFAR-10" not in page
