"""The page of the theory: its rows say what the mathematics found, and its pictures draw it."""

import itertools

import numpy as np
import pytest

import minigrad as mg
from experiments import theory, theory_checks


@pytest.fixture
def data(rng):
    """700 made-up samples of ten classes."""
    x = rng.normal(size=(700, 12)).astype("float32")
    y = np.eye(10, dtype="float32")[np.arange(700) % 10]
    return mg.Dataset(x, y, x, y, "made up")


def failed(rows):
    return {row.place for row in rows if row.verdict == "does not hold"}


FAULTS = [  # a function of theory_checks, every second result, and the rows that must say so
    ("lemmas", (1e-9, 0.0), {"Lemma 1", "Lemma 2"}),
    ("lemmas", (0.0, 1e-9), {"Eq. 13", "Eq. 24"}),
    ("eq_14_error", 1e-9, {"Eq. 14"}),
    ("eq_5_error", 1e-9, {"Eq. 5"}),
    ("eq_23_error", 1e-9, {"Eq. 20 to 23"}),
]


@pytest.mark.parametrize("name, result, places", FAULTS)
def test_a_row_says_so_where_its_statement_does_not_hold(name, result, places, rng, monkeypatch):
    x = rng.normal(size=(20, 12))
    assert not failed(theory.lemmas(8, x, "made up"))
    results = itertools.cycle([np.multiply(result, 1), np.multiply(result, 0)])
    monkeypatch.setattr(theory_checks, name, lambda *a, **k: next(results))
    assert failed(theory.lemmas(8, x, "made up")) == places


GOOD = {  # the last entries of a history that confirms every statement
    "GD, λ = 0": {},
    "SGD, λ = 0": {"gradient": 0.9e-8, "most": 0.9e-8},
    "GD, λ = 0.05": {},
    "SGD, λ = 0.05": {"gradient": 1.1e-4},
    "logistic loss, SGD, λ = 0": {"gradient": 0.9e-2, "least": 1e-3},
    "logistic loss, SGD, λ = 0.05": {"gradient": 0.9e-8, "output": 0.9e-8},
}


def histories(**changed):
    """Two entries of every training: all numbers are 1 at first; after 50 steps GOOD or changed."""
    runs = {}
    for name, last in (GOOD | changed).items():
        last = dict(step=50, gradient=1, residual=1, most=1, least=1, output=1) | last
        runs[name] = {key: np.array([1, value]) for key, value in last.items()}
    return runs


NOT_REACHED = "not reached in 50 steps"
ENDS = [  # a row, the end of a training, what the row says
    (0, "GD, λ = 0.05", {"residual": 0.7}, "does not hold"),
    (1, "SGD, λ = 0.05", {"gradient": 0.9e-4}, "does not hold"),
    (1, "logistic loss, SGD, λ = 0.05", {"gradient": 0.9e-8, "output": 1.1e-8}, "does not hold"),
    (2, "SGD, λ = 0", {"gradient": 0.9e-8, "most": 1.1e-8}, "does not hold"),
    (2, "SGD, λ = 0", {"gradient": 1.1e-8, "most": 0.9e-8}, NOT_REACHED),
    (3, "logistic loss, SGD, λ = 0", {"gradient": 1.1e-2}, NOT_REACHED),
    (3, "logistic loss, SGD, λ = 0", {"gradient": 0.9e-8}, NOT_REACHED),
    (3, "logistic loss, SGD, λ = 0", {"gradient": 0.9e-2, "least": 0.0}, NOT_REACHED),
]


@pytest.mark.parametrize("place, name, last, verdict", ENDS)
def test_rows_on_convergence_follow_from_the_ends_of_trainings(place, name, last, verdict):
    found = [row.verdict for row in theory.section_3_1(histories(**{name: last}), 0.8, "")]
    expected = ["holds"] * 4
    expected[place] = verdict
    assert found == expected


def test_a_bound_on_the_residuals_that_is_mere_rounding_confirms_nothing():
    row, *_ = theory.section_3_1(histories(), 1e-8, "")
    assert row.verdict == "does not hold"


def training(left=1.0, right=2.0, error=0.0):
    """Two epochs of two W, with the three ranks of Theorem 1."""
    return {
        "left": np.full((2, 3, 2), left),
        "right": np.full((2, 3, 2), right),
        "size": np.array([[1.0, 3.0], [1.0, 3.0]]),
        "error": error,
        "epoch": np.array([0, 4]),
        "title": "made up",
        "on": "made up",
    }


def test_rows_of_theorem_1_compare_its_sides_and_count_the_bounds_below_the_norm():
    bound, equality, tight, loose = theory.theorem_1([training(), training(right=4.0)])
    assert bound.verdict == equality.verdict == "holds"
    assert tight.measured.endswith("2, 2, 2") and "50 %" in tight.verdict
    assert loose.measured.endswith("4, 4, 4") and " 0 %" in loose.verdict
    bound, equality, *_ = theory.theorem_1([training(), training(right=0.9, error=1e-9)])
    assert bound.verdict == equality.verdict == "does not hold"


def test_the_binary_problem_is_balanced_centred_and_scaled(data):
    x, y = theory.zeros_and_ones(data)
    assert x.shape == (40, 12) and (y == 1).sum() == (y == -1).sum() == 20
    np.testing.assert_allclose(x.mean(axis=0), 0, atol=1e-12)
    assert (x**2).sum(axis=1).mean() == pytest.approx(1)
    np.testing.assert_array_equal(y[:, 0], np.tile([-1, 1], 20))
    first = [row for row in range(200) if row % 10 < 2]
    assert np.corrcoef(x[:, 0], data.x_train[first, 0])[0, 1] == pytest.approx(1)


def test_a_training_is_that_of_the_loop_and_is_measured_from_its_start_to_its_end(data):
    size, x, y = theory.PRESETS["smoke"], data.x_train[:640], data.y_train[:640]
    found = theory.train(size, "MLP-BN-2-8", "", x, y, 16, 0.08, 4, (1,))
    graph = mg.parse("MLP-BN-2-8", 12, 10)
    params = mg.init_params(graph, np.random.default_rng(0))
    sizes, velocity, loss = [np.linalg.norm(params[2, 1], 2)], None, "cross_entropy"
    for epoch, eta in enumerate((0.01, 0.001, 0.001, 0.001)):
        rows = mg.batches(640, 16, 0, epoch)
        velocity = mg.train_epoch(graph, params, velocity, x, y, rows, loss, eta, 0.08, 0.9)
        sizes.append(np.linalg.norm(params[2, 1], 2))
    assert list(found["epoch"]) == [0, 1, 2, 3, 4]
    np.testing.assert_allclose(found["size"][:, 0], sizes, rtol=1e-4)
    _, accuracy, _ = mg.evaluate(graph, params, x, y, loss)
    assert f"{100 * accuracy:.0f} %" in found["title"]


def test_the_pictures_draw_the_numbers_that_were_measured():
    runs, trained = histories(), [training(), training(right=4.0)]
    left, right = theory.prop_1_picture(runs, 0.8, "").axes
    assert [line.get_label() for line in left.lines] == list(runs)
    for upper, lower, run in zip(left.lines, right.lines, runs.values()):
        np.testing.assert_array_equal(upper.get_ydata(), run["gradient"])
        np.testing.assert_array_equal(lower.get_ydata(), run["residual"])
    assert right.lines[-1].get_ydata()[0] == 0.8
    for panel, bound in zip(theory.theorem_1_picture(trained).axes, (2, 4)):
        drawn = [line.get_ydata()[-1] for line in panel.lines]
        assert drawn == [1, bound, 1, bound, 1, bound, 2]


def test_a_page_of_synthetic_data_is_written_under_another_name(data, tmp_path, monkeypatch):
    asked = []

    def load_dataset(name, root):
        asked.append(name)
        return data

    monkeypatch.setattr(mg, "load_dataset", load_dataset)
    paths = theory.write("smoke", None, 1, ("mnist",), tmp_path)
    assert asked == ["synthetic-mnist", "cifar10"]
    assert sorted(paths) == sorted(tmp_path.iterdir()) and len(paths) == 5
    assert all("synthetic" in path.name for path in paths)
    page = paths[0].read_text(encoding="utf-8")
    assert 10 < page.count("\n| ") - 2 <= 25 and "max \\|f" in page and "**holds**" in page
    assert "synthetic MNIST" in page and "synthetic CIFAR-10" not in page
