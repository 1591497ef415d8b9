"""Numbers of a stored run, against results by hand and counts in loops."""

import numpy
import pytest

from experiments.results import View, csv_rows, history
from experiments.runs import Run


def stored(*spectra, status="finished", **numbers):
    """(meta, arrays) of a run whose matrices have these singular values, a row for every epoch."""
    epochs = len(spectra[0])
    names = ("distance", "train_loss", "train_accuracy", "test_loss", "test_accuracy")
    arrays = {"epoch": numpy.arange(float(epochs))} | {name: numpy.ones(epochs) for name in names}
    for name, last in numbers.items():
        arrays[name][-1] = last
    for p, s in enumerate(spectra, start=2):
        arrays[f"spectrum {p}-{p - 1}"] = numpy.array(s, "float32")
    return {"status": status}, arrays


def test_a_result_by_hand():
    """W of 2-1 has the norm 5 and one singular value below 5e-4; the norm of 3-2 halves."""
    run = stored([[4, 3, 1e-3], [4, 3, 4e-4]], [[2.0, 0], [1.0, 0]], train_accuracy=0.75)
    made = history(*run)
    assert made["rank"].tolist() == [2, 1.5] and made["full_rank"] == 2.5
    assert made["layer"].tolist() == [1, 2] and made["layer_rank"].tolist() == [2, 1]
    assert made["layer_norm_kept"] == pytest.approx([1, 0.5], rel=1e-6)
    assert made["norm"] == pytest.approx([3.5, 3], rel=1e-6)
    assert made["train_accuracy"].tolist() == [100, 75]
    without = history(*run, View(output_layer=False))
    assert without["rank"].tolist() == [3, 2] and without["layer_rank"].tolist() == [2, 1]


@pytest.mark.parametrize("norm", ["frobenius", "spectral", "start"])
def test_ranks_are_counts_above_the_tolerance_times_the_norm(rng, norm):
    spectra = numpy.sort(10 ** rng.uniform(-6, 0, (4, 9)))[:, ::-1]
    expected = []
    for s in spectra:
        sizes = {"frobenius": sum(value**2 for value in s) ** 0.5, "spectral": max(s)}
        sizes["start"] = sum(value**2 for value in spectra[0]) ** 0.5
        expected.append(sum(value > 1e-2 * sizes[norm] for value in s))
    assert len(set(expected)) > 1
    assert history(*stored(spectra), View(tol=1e-2, norm=norm))["rank"].tolist() == expected


def test_the_rank_of_a_vanished_matrix_is_zero_and_from_the_start_falls_where_a_value_does():
    """Below a norm of 1e-12 the count is no longer relative."""
    made = history(*stored([[1.0, 1e-2], [1e3, 1e-2], [1e-11, 1e-11], [1e-17, 1e-17], [0.0, 0.0]]))
    assert made["rank"].tolist() == [2, 1, 2, 0, 0]
    assert made["rank_from_start"].tolist() == [2, 2, 0, 0, 0]


@pytest.mark.parametrize("status", ["diverged", "collapsed"])
def test_a_run_that_ended_early_has_no_final_rank_and_has_not_learned(status):
    last = numpy.nan if status == "diverged" else 1.0
    made = history(*stored([[1.0], [last]], status=status))
    assert made[status] and not made["learned"] and numpy.isnan(made["layer_rank"]).all()
    numpy.testing.assert_equal(made["rank"], [1, last])


LEARNED = [(0.5, 1.1e-3, True), (0.4999, 1.0, False), (numpy.nan, 1.0, False), (1.0, 9e-4, False)]


@pytest.mark.parametrize("accuracy, size, learned", LEARNED)
def test_learned_is_half_of_the_samples_right_and_no_matrix_gone(accuracy, size, learned):
    run = stored([[1.0], [1.0]], [[1.0], [size]], train_accuracy=accuracy)
    assert history(*run)["learned"] is learned


def test_rows_of_a_csv_are_the_finite_numbers_with_their_setting():
    meta, arrays = stored([[1.0, 1.0], [1.0, 0.0]])
    arrays["distance"][0] = numpy.nan
    view = View(tol=0.2)
    drawn = [("distance", "epoch"), ("rank", "epoch"), ("layer_rank", "layer")]
    rows = list(csv_rows("night", Run(B=32), history(meta, arrays, view), view, drawn))
    found = [tuple(row[name] for name in ("field", "epoch", "layer", "value")) for row in rows]
    ranks = [("rank", 0, "", 2), ("rank", 1, "", 1), ("rank", 1, 1, 1)]
    assert found == [("distance", 1, "", 1), *ranks]
    assert all((row["preset"], row["B"], row["tol"]) == ("night", 32, 0.2) for row in rows)


@pytest.mark.parametrize("given", [{"tol": 1}, {"tol": float("nan")}, {"norm": "nuclear"}])
def test_a_wrong_view_is_refused(given):
    with pytest.raises(ValueError, match="tol|norm"):
        View(**given)
