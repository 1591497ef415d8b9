"""The page of the theory: its rows say what the mathematics found, whatever that is."""

import csv

import numpy as np
import pytest
from matplotlib.figure import Figure

import minigrad as mg
from experiments import theory, theory_checks

# Rows that are about what training reaches, or that no number can fail.
OF_TRAINING = ("our addition", "Prop. 2", "Theorem 1, how tight", "not in the memo")


@pytest.fixture(scope="module")
def load():
    """Like measure's own, 700 made-up samples of ten classes."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(700, 12)).astype("float32")
    y = np.eye(10, dtype="float32")[np.arange(700) % 10]
    return lambda name: (x, y, f"made-up {name}")


def verdicts(load, chapters, drawn):
    """{(place, words): verdict} of these chapters, with the smoke preset."""
    found = {}
    for chapter in chapters:
        results = chapter(theory.PRESETS["smoke"], load, drawn)
        rows = [row for row in theory.STATEMENTS if row[0] is chapter]
        for (_, place, words), (*_, verdict) in zip(rows, results, strict=True):
            found[place, words] = verdict
    return found


@pytest.fixture(scope="module")
def measured(load):
    """The verdicts of all chapters, and the numbers that are drawn."""
    chapters, drawn = {row[0]: None for row in theory.STATEMENTS}, {}
    return verdicts(load, chapters, drawn), drawn


def test_what_is_true_of_every_W_holds_in_at_most_25_rows(measured):
    found, _ = measured
    assert len(found) == len(theory.STATEMENTS) <= 25
    for (place, words), verdict in found.items():
        if place == "beyond Eq. 24":
            assert verdict == "needs A detached"
        elif place not in OF_TRAINING:
            assert verdict.startswith("holds"), words


def sides(left, right):
    shape = (2, 12, 3)
    return {"left": np.full(shape, left), "right": np.full(shape, right), "size": np.ones((2, 12))}


FAULTS = [  # what a function of theory_checks finds, and the places of the rows that must say so
    ("lemma_1", {"rank": 1e-9, "outer": 0.0, "path": 0.0}, {"Lemma 1"}),
    ("lemma_1", {"rank": 0.0, "outer": 1e-9, "path": 0.0}, {"Eq. 13"}),
    ("lemma_1", {"rank": 0.0, "outer": 0.0, "path": 1e-9}, {"Eq. 14"}),
    (
        "lemma_2",
        {"rank": 1e-9, "sharper": 0.0, "outer": 0.0},
        {"Lemma 2", "beyond Lemma 2", "Eq. 18"},
    ),
    (
        "lemma_2",
        {"rank": 0.0, "sharper": 1e-9, "outer": 0.0},
        {"sharper than Lemma 2", "beyond Lemma 2"},
    ),
    ("lemma_2", {"rank": 0.0, "sharper": 0.0, "outer": 1e-9}, {"Eq. 24", "beyond Lemma 2"}),
    ("eq_5", 1e-9, {"Eq. 5"}),
    ("eq_23_error", 1e-9, {"Eq. 20 to 23"}),
    ("off_the_samples", 1e9, {"Eq. 6 to 9, Prop. 1"}),
    ("off_the_samples", 1e-8, {"Eq. 6 to 9, Prop. 1"}),  # collinear samples, but for rounding
    ("theorem_1", sides(1.0, 0.9), {"Theorem 1, Eq. 10"}),
    ("eq_18", 1e-9, {"Eq. 18"}),
]


@pytest.mark.parametrize("name, result, places", FAULTS)
def test_a_row_says_so_where_its_statement_does_not_hold(name, result, places, load, monkeypatch):
    monkeypatch.setattr(theory_checks, name, lambda *a, **k: result)
    chapters = {row[0]: None for row in theory.STATEMENTS if row[1] in places}
    found = verdicts(load, chapters, {})
    assert {place for (place, _), verdict in found.items() if verdict == "does not hold"} == places


def history(fall, output=1.0, fit=1.0, most=1.0, least=1.0, residual=9.0):
    """Two looks at a training, of which the last has these numbers."""
    last = {"gradient": 2 * fall, "output": output, "fit": fit, "most": most, "least": least}
    first = dict.fromkeys(last, 2.0)
    found = {name: np.array([first[name], last[name]]) for name in last}
    return found | {"step": np.array([1, 50]), "residual": np.full(2, residual)}


PROP_1 = "at λ > 0, SGD with B < m converges to f ≡ 0 or not at all"
GD = "at λ > 0, gradient descent (B = m) converges to f ≢ 0"
PROP_2 = "at λ = 0, SGD converges where every sample has ℓ′ᵢ = 0 or f(xᵢ) = 0"
ALMOST = "with an exponential-type loss SGD almost converges"
NOT_REACHED = "not reached in 50 steps"
ENDS = [  # a statement, the end of all runs, what the row says
    (PROP_1, history(1.1e-4), "holds"),
    (PROP_1, history(0.9e-8, output=0.9e-8), "holds"),
    (PROP_1, history(0.9e-8, output=1.1e-8), "does not hold"),
    (PROP_1, history(0.9e-4), "does not hold"),
    (GD, history(0.9e-8), "holds"),
    (GD, history(1.1e-8), NOT_REACHED),
    (GD, history(0.9e-8, output=0.9e-8), NOT_REACHED),
    (PROP_2, history(0.9e-8, most=0.9e-8), "holds"),
    (PROP_2, history(0.9e-8, most=1.1e-8), "does not hold"),
    (PROP_2, history(1.1e-8), NOT_REACHED),
    (ALMOST, history(0.9e-2), "holds"),
    (ALMOST, history(1.1e-2), NOT_REACHED),
    (ALMOST, history(0.9e-8), NOT_REACHED),
    (ALMOST, history(0.9e-2, least=0.0), NOT_REACHED),
]


@pytest.mark.parametrize("words, end, verdict", ENDS)
def test_what_the_end_of_training_says_of_convergence(words, end, verdict, load, monkeypatch):
    monkeypatch.setattr(theory_checks, "descend", lambda *a: (end, None))
    found = verdicts(load, [theory.section_3_1], {})
    assert [said for (_, known), said in found.items() if known.startswith(words)] == [verdict]


def test_a_problem_on_which_gradient_descent_converges_is_named(load, monkeypatch):
    ends = iter([history(1e-9)] * 4 + [history(1e-3)] * 6)
    monkeypatch.setattr(theory_checks, "descend", lambda *a: (next(ends), None))
    found = verdicts(load, [theory.section_3_1], {})
    assert found["our addition", GD] == f"reached on digits 0 and 1, elsewhere {NOT_REACHED}"


def test_the_binary_problems_are_balanced_centred_and_scaled(load):
    for problem in theory.PROBLEMS:
        x, y = theory.binary(load, problem)
        assert x.shape == (40, 12) and (y == 1).sum() == (y == -1).sum() == 20
        np.testing.assert_allclose(x.mean(axis=0), 0, atol=1e-12)
        assert (x**2).sum(axis=1).mean() == pytest.approx(1)


def test_the_tightness_is_the_share_of_right_sides_below_the_norm_and_a_ratio_of_means():
    left = np.array([[[[1.0, 2.0], [3.0, 2.0]]]])  # one epoch, one norm, two W, two B*
    right = np.array([[[[4.0, 8.0], [8.0, 8.0]]]])
    size = np.array([[[5.0, 9.0]]])
    found = {"left": left, "right": right, "size": size, "title": "made up"}
    percent, words = theory.tightness(found)
    assert percent == 75 and words.startswith("made up: 3, 4;")
    assert np.isnan(theory.excess(1.0, np.zeros(1))).all()


def test_a_training_is_that_of_the_loop_and_is_looked_at_from_its_start_to_its_end(load):
    found = theory.train(load, theory.PRESETS["smoke"], "MLP-BN-2-8", 640, 16, 0.08, 4, (1,))
    x, y, _ = load("cifar10")
    graph = mg.parse("MLP-BN-2-8", 12, 10)
    params = mg.init_params(graph, np.random.default_rng(0))
    rows = theory.balanced(y, 640)
    assert (y[rows].sum(axis=0) == 64).all() and (np.diff(rows) > 0).all()
    np.testing.assert_allclose(found["size"][0, 1, 0], np.linalg.norm(params[2, 1]), rtol=1e-6)
    x, y, loss = x[rows], y[rows], "cross_entropy"
    velocity = None
    for epoch, eta in enumerate((0.01, 0.001, 0.001, 0.001)):
        order = mg.batches(640, 16, 0, epoch)
        velocity = mg.train_epoch(graph, params, velocity, x, y, order, loss, eta, 0.08, 0.9)
    np.testing.assert_allclose(found["size"][-1, 1, 0], np.linalg.norm(params[2, 1]), rtol=1e-4)
    assert found["epoch"][0] == 0 and found["epoch"][-1] == 4
    _, accuracy, _ = mg.evaluate(graph, params, x, y, loss)
    assert f"{100 * accuracy:.0f} %" in found["title"]


def test_the_pictures_draw_the_numbers_that_were_measured(measured):
    _, drawn = measured
    (upper, _, lower, _), runs = theory.prop_1_picture(drawn, "").axes, drawn["descents"]["runs"]
    histories = runs["digits 0 and 1"]
    for line, name in zip(upper.lines, theory.DESCENTS, strict=True):
        np.testing.assert_array_equal(line.get_ydata(), histories[name]["gradient"])
    np.testing.assert_array_equal(lower.lines[-2].get_ydata(), histories[theory.SGD]["residual"])
    assert lower.lines[-1].get_ydata()[0] == drawn["descents"]["c"]["digits 0 and 1"]

    axes = theory.theorem_1_picture(drawn, "").axes
    for found, upper, lower in zip(drawn["trained"], axes[:3], axes[3:], strict=True):
        *drawn_sides, size = (line.get_ydata() for line in upper.lines)
        for column in range(3):
            for side, values in zip(("left", "right"), drawn_sides[2 * column :]):
                np.testing.assert_allclose(values, found[side][:, 0, :, column].mean(axis=1))
            ratio = theory.excess(drawn_sides[2 * column + 1], drawn_sides[2 * column])
            np.testing.assert_allclose(lower.lines[column].get_ydata(), ratio)
        np.testing.assert_allclose(size, found["size"][:, 0].mean(axis=1))


STEMS = [  # preset, synthetic, the files' stem, words in the pictures' titles
    ("quick", (), "theory", "(reduced)"),
    ("quick", ("mnist",), "theory-synthetic", "(reduced)"),
    ("smoke", (), "theory-smoke", "(tests the program)"),
]


@pytest.mark.parametrize("preset, synthetic, stem, words", STEMS)
def test_the_page_its_rows_and_two_pictures_are_written(
    preset, synthetic, stem, words, measured, tmp_path, monkeypatch
):
    titles = []
    for name in ("prop_1_picture", "theorem_1_picture"):
        drawing = getattr(theory, name)

        def draw(drawn, reduced, drawing=drawing):
            titles.append(reduced)
            return drawing(drawn, reduced) if preset == "smoke" else Figure((1, 1))

        monkeypatch.setattr(theory, name, draw)
    row = theory.Verdict("W is |low|", "Theorem 9", "1 < 2", "MLP", "does not hold")
    paths = theory.save(preset, theory.Found([row], measured[1], synthetic), tmp_path)
    names = [f"{stem}{kind}" for kind in (".md", ".csv", "-prop1.png", "-prop1.svg")]
    names += [f"{stem}-theorem1.png", f"{stem}-theorem1.svg"]
    assert [path.name for path in paths] == names and all(path.stat().st_size for path in paths)
    text = paths[0].read_text(encoding="utf-8")
    assert "| W is \\|low\\| | Theorem 9 | 1 < 2 | MLP | **does not hold** |" in text
    with open(paths[1], encoding="utf-8") as file:
        assert [theory.Verdict(**record) for record in csv.DictReader(file)] == [row]
    assert titles == [f" {words}"] * 2


def test_measure_counts_its_statements_and_calls_synthetic_data_so(load, monkeypatch, capsys):
    asked = []

    def load_dataset(name, root):
        asked.append((name, root))
        x, y, _ = load(name)
        return mg.Dataset(x, y, x, y, name)

    monkeypatch.setattr(mg, "load_dataset", load_dataset)
    found = theory.measure("smoke", "folder")
    statements = [row[2] for row in theory.STATEMENTS]
    assert [verdict.statement for verdict in found.verdicts] == statements
    assert asked == [("synthetic-cifar10", "folder"), ("synthetic-mnist", "folder")]
    assert "synthetic CIFAR-10" in found.verdicts[0].on and found.synthetic == ("mnist", "cifar10")
    count = len(theory.STATEMENTS)
    assert f"{count}/{count}" in capsys.readouterr().err
