"""What claims read off a stored run, against counts in loops: ranks by other norms, what is kept, tau_B."""

import numpy
import pytest

from experiments import results
from experiments.results import View


def stored(*matrices, status="finished"):
    """(meta, arrays) of a run with these spectra, one row an epoch."""
    epochs = len(matrices[0])
    names = ("epoch", "distance", "train_loss", "train_accuracy", "test_loss", "test_accuracy")
    arrays = {name: numpy.ones(epochs) for name in names}
    arrays |= {f"spectrum {p}-{p - 1}": numpy.array(s) for p, s in enumerate(matrices, start=2)}
    return {"status": status}, arrays


GROWN = [[1.0, 1e-2, 1e-3], [1e3, 1e-2, 1e-3]]  # explodes in one direction; nothing shrinks
GONE = [[1.0, 1.0, 1.0], [1e-20, 1e-20, 1e-20]]


def test_a_count_relative_to_the_start_falls_only_where_a_singular_value_does():
    made = results.history(*stored(GROWN), View())
    assert made["rank"].tolist() == [3, 1] and made["rank_from_start"].tolist() == [3, 3]
    made = results.history(*stored(GONE), View())
    assert made["rank"].tolist() == [3, 3] and made["rank_from_start"].tolist() == [3, 0]


def test_a_view_relative_to_the_start_counts_above_its_own_tolerance(rng):
    spectra = 10.0 ** rng.uniform(-4, 0, (4, 9))
    for tol in (1e-4, 1e-2):
        made = results.history(*stored(spectra), View(tol=tol, norm="start"))
        norm = numpy.sqrt(sum(value**2 for value in spectra[0]))
        counts = [sum(value > tol * norm for value in row) for row in spectra]
        assert made["rank"].tolist() == counts and made["layer_rank"].tolist() == counts[-1:]


def test_the_count_from_the_start_that_stands_beside_is_at_1e_4_whatever_the_view():
    for view in (View(), View(tol=1e-2), View(norm="spectral")):
        made = results.history(*stored([[1.0, 1e-3], [1.0, 1e-3]]), view)
        assert made["rank_from_start"].tolist() == [2, 2]


def test_a_guarded_rank_is_zero_for_what_has_vanished_and_the_relative_one_elsewhere():
    made = results.history(*stored(GONE), View())
    assert made["rank_guarded"].tolist() == [3, 0]
    made = results.history(*stored(GROWN), View())
    assert made["rank_guarded"].tolist() == made["rank"].tolist()


def test_counts_are_means_over_the_matrices_that_the_view_has_and_so_is_the_full_rank():
    run = stored(GROWN, [[1.0], [1.0]])
    both, hidden = (results.history(*run, View(output_layer=has)) for has in (True, False))
    assert both["rank_from_start"].tolist() == [2, 2] and hidden["rank_from_start"].tolist() == [3, 3]
    assert (both["full_rank"], hidden["full_rank"]) == (2, 3)
    assert both["largest_full_rank"] == hidden["largest_full_rank"] == 3


def test_every_matrix_says_what_it_has_kept_of_its_norm():
    made = results.history(*stored(GONE, [[3.0, 4.0], [3.0, 0.0]]), View())
    numpy.testing.assert_allclose(made["layer_norm_kept"], [1e-20, 0.6], rtol=1e-12)


@pytest.mark.parametrize(
    "accuracy, learned", [(0.15, ()), (0.2, (20,)), (0.5, (20, 50)), (1.0, (20, 50, 90))]
)
def test_another_accuracy_may_count_as_learned(accuracy, learned):
    meta, arrays = stored([[1.0], [1.0]])
    arrays["train_accuracy"][-1] = accuracy
    made = results.history(meta, arrays, View())
    assert [at for at in (20, 50, 90) if results.learned(made, at)] == list(learned)
    made = results.history({"status": "diverged"}, arrays, View())
    assert not results.learned(made, 20)


def test_tau_B_is_what_lies_beyond_the_B_largest(rng):
    spectra = [numpy.sort(rng.uniform(size=(2, size)))[:, ::-1] for size in (9, 5, 3)]
    _, arrays = stored(*spectra)
    for B in (1, 3, 5, 9):
        expected = []
        for s in spectra:
            beyond = sum(value**2 for place, value in enumerate(s[-1], start=1) if place > B)
            expected.append((beyond / sum(value**2 for value in s[-1])) ** 0.5)
        numpy.testing.assert_allclose(results.distance_to_rank_B(arrays, B), expected, rtol=1e-12)


def test_tau_B_of_a_zero_matrix_is_zero_and_of_one_that_is_not_finite_is_not_a_number():
    _, arrays = stored([[1.0, 1.0], [0.0, 0.0]], [[1.0, 1.0], [numpy.nan, numpy.nan]])
    numpy.testing.assert_equal(results.distance_to_rank_B(arrays, 1), [0, numpy.nan])
