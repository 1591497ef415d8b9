"""Section 3.1: when can SGD converge, and when not? Propositions 1 and 2, by what holds at every W."""

import numpy

from minigrad.graph import mlp
from minigrad.train import evaluate

from ..captions import LABELS
from ..runs import INPUTS
from ..verdicts import Statement
from .convergence import along, at_kinks, balance, converged, descend, residuals
from .directions import prop_1
from .sizes import CHANCE, CLASSES, ETA, SAMPLES, SMALL, TOLERANCE, binary

LAMBDA = 0.05
CONVERGING = "digits 0 and 1"  # gradient descent with weight decay does on these
GD, SGD = f"GD (B = m), λ = {LAMBDA}", f"SGD (B = {SMALL}), λ = {LAMBDA}"
RUNS = {  # B and lambda
    "GD (B = m), λ = 0": (SAMPLES, 0.0),
    f"SGD (B = {SMALL}), λ = 0": (SMALL, 0.0),
    GD: (SAMPLES, LAMBDA),
    SGD: (SMALL, LAMBDA),
}
SLOWER = (ETA / 10, ETA / 50)  # for what gradient descent leaves
SETTLED = 0.9  # of max |l'_i| at half the steps: what falls below it goes on falling

BOUND = Statement(
    "Eq. 6 to 9, Prop. 1",
    "away from W = 0 the residuals of Eq. 9 can't all be small: max ‖gᵢ‖ ≥ c · 2λ‖W‖, W the input matrix",
    "max ‖gᵢ‖ ≥ {least:.2f} · 2λ‖W‖ along SGD; c = {c:.4f} from the directions eᵢ of the samples: "
    "every W has max ‖W(I − eᵢeᵢᵀ)‖ ≥ c ‖W‖, and some W has {reached:.4f} ‖W‖",
)
ZERO_OR_NEVER = Statement(
    "Prop. 1",
    "at λ > 0, SGD with B < m converges to f ≡ 0 or not at all",
    "the gradient on a batch falls to {fall:.2g} of its first value, and max |f(xᵢ)| is {output:.2g}",
)
CONVERGES = Statement(
    "our addition to Section 3.1",
    "at λ > 0, gradient descent (B = m) does converge",
    "the gradient falls to {fall:.1g} of its first value, and max |f(xᵢ)| is {output:.2g}",
)
KINKS = Statement(
    "our addition to Section 3.1",
    "where gradient descent does not converge, it ends on kinks of ReLU, where no gradient exists",
    "as many more steps at η = {eta[0]:g} and {eta[1]:g} leave ‖gradient‖ at {gradient[0]:.2g} and "
    "{gradient[1]:.2g}, and the last {last} cross {crossed[0]} and {crossed[1]} kinks to and fro",
)
ZERO = Statement("Prop. 1", "W = 0 is a convergence point", "max ‖gᵢ‖ = {largest:g} there")
EXCEPTION = Statement(
    "Prop. 1, exception",
    "collinear samples admit convergence to f ≢ 0, where no label is fitted: ℓ′ᵢ ≠ 0",
    "the gradient falls to {fall:.1g} of its first value, max ‖gᵢ‖ to {residual:.1g} · 2λ‖W‖, "
    "max |f(xᵢ)| is {output:.2g} and min |ℓ′ᵢ f(xᵢ)| {least:.2g}",
)
FITS = Statement(
    "Prop. 2, end",
    "the squared loss reaches zero gradient on every batch by fitting",
    "max |ℓ′ᵢ| falls to {slope:.1g}, the gradient on a batch to {fall:.1g} of its first value",
)
ALMOST = Statement(
    "Prop. 2",
    "an exponential-type loss does so almost: training steps get small, but no ℓ′ᵢ f(xᵢ) is 0",
    f"{FITS.template}, and min |ℓ′ᵢ f(xᵢ)| is {{least:.1g}}",
)
EULER = Statement(
    "Prop. 2, by Euler's identity",
    "⟨gᵢ, W⟩ = ℓ′ᵢ f(xᵢ) + 2λ‖W‖² for every layer's W, as f is homogeneous in it: "
    "at λ = 0, gᵢ = 0 only if sample i is fitted (ℓ′ᵢ = 0) or f(xᵢ) = 0",
    "relative error at most {error:.1e} in every layer, at {looks} times along training",
)
BALANCE = Statement(
    "our addition to Section 3.1",
    "at a convergence point with λ > 0 all layers of an MLP have the same norm: ‖W‖² = −mean ℓ′ᵢ f(xᵢ) / 2λ",
    "‖W‖ = {norm[0]:.6f}, {norm[1]:.6f}, {norm[2]:.6f} after gradient descent, equal to {spread:.1e}, "
    "and the equation holds to {error:.1e}; after SGD they differ by {percent:.2g} %",
)
WIDTH = Statement(
    "Section 3.1, after Prop. 2",
    "almost convergence improves with the width: max |ℓ′ᵢ| falls, if the network is trained",
    "at width {widths}, over {seeds} seeds: {ranges}{undecided}",
)


def zero_point(graph, x, y, lam):
    """W = 0 is a convergence point: the largest ||g_i|| there, over losses and edges, is exactly 0."""
    params = {(p, q): numpy.zeros((graph.width(p), graph.width(q))) for p, q in graph.E_T}
    largest = 0.0
    for loss in ("mean_squared_error", "logistic", "exponential"):
        _, _, g = residuals(graph, params, x, y, loss, lam)
        largest = max(largest, *(abs(r).max() for r in g.values()))
    return {"largest": largest, "holds": bool(largest == 0)}


def collinear_data(direction, m, lam, rng):
    """Prop. 1's exception, built for the squared loss: x_i = c_i x_0, ||x_0|| = 1, y_i = c_i + lambda / c_i.

    At f(x_0) = 1 every l'_i c_i = 2 c_i (c_i - y_i) is the same -2 lambda, and so is every g_i: f is
    homogeneous in x. They vanish at the rank-one matrices of norm 1 with f(x_0) = 1.
    """
    c = rng.uniform(0.5, 1.5, (m, 1))
    return c * direction / numpy.linalg.norm(direction), c + lam / c


def exception(end, bound):
    """Whether training ended at f that is not zero, fits no label, and is not excluded by Prop. 1's bound."""
    holds = end["fits"] and end["least"] > TOLERANCE and not bound["holds"]
    return end | {"holds": bool(holds)}


def almost_convergence(x, y, networks, seeds, **training):
    """The largest |l'_i| after training (networks, seeds): does it fall from the first trained to the last?

    Trained (networks,): with every seed, each f(x_i) has y_i's sign. kept (networks, seeds): the largest
    |l'_i| over that at half the steps. Where it still falls its limit is 0, and a fixed number of steps only
    tells who is faster: holds is then None. Else it holds if the ranges over the seeds don't overlap.
    """
    slopes, kept = numpy.empty((2, len(networks), seeds))
    trained = numpy.ones(len(networks), bool)
    for place, graph in enumerate(networks):
        for seed in range(seeds):
            history, params = descend(graph, x, y, seed=seed, **training)
            step, slope = history["step"], history["slope"]
            slopes[place, seed] = slope[-1]
            kept[place, seed] = slope[-1] / numpy.interp(step[-1] / 2, step, slope)
            accuracy = evaluate(graph, params, x, y, "logistic")[1]
            trained[place] &= accuracy == 1
    known = slopes[trained]
    holds = bool(trained.any() and known[-1].max() < known[0].min())
    if trained.any() and kept[trained].min() < SETTLED:
        holds = None
    return {"slopes": slopes, "kept": kept, "trained": trained, "holds": holds}


def two_classes(size, title, x, y):
    """Proposition 1's verdicts on one binary problem, and the column of its picture."""
    graph = mlp(x.shape[1], 2, 16, 1)
    histories, last = {}, {}
    for label, (B, lam) in RUNS.items():
        found = descend(graph, x, y, B, ETA, lam, "mean_squared_error", size.steps)
        histories[label], last[label] = found
    bound = prop_1(histories[SGD], x)
    ends = {label: converged(history) for label, history in histories.items()}
    gd, sgd = ends[GD], ends[SGD]
    problem = (
        f"MLP-2-16, {LABELS[size.mnist]}, {title}, m = {SAMPLES}, squared loss, η = {ETA}, {size.steps} steps"
    )
    verdicts = [
        BOUND.judged(bound, f"{problem}, λ = {LAMBDA}"),
        ZERO_OR_NEVER.judged(sgd | {"holds": sgd["prop_1"]}, f"{problem}, B = {SMALL}, λ = {LAMBDA}"),
        CONVERGES.judged(gd | {"holds": gd["converges"]}, f"{problem}, λ = {LAMBDA}"),
    ]
    on_kinks = False
    if gd["never"]:
        stuck = at_kinks(graph, last[GD], x, y, SLOWER, LAMBDA, "mean_squared_error", size.steps)
        verdicts.append(KINKS.judged(stuck, f"{problem}, λ = {LAMBDA}"))
        on_kinks = stuck["holds"]
    if title == CONVERGING:
        balanced = balance(graph, last[GD], x, y, "mean_squared_error", LAMBDA)
        after_sgd = balance(graph, last[SGD], x, y, "mean_squared_error", LAMBDA)
        numbers = balanced | {"percent": 100 * after_sgd["spread"]}
        verdicts.append(EULER.judged(along(histories[GD]), f"{problem}, B = m, λ = {LAMBDA}"))
        verdicts.append(BALANCE.judged(numbers, f"{problem}, λ = {LAMBDA}"))
    learned = {label: _learned(graph, W, x, y, "mean_squared_error") for label, W in last.items()}
    return verdicts, {"histories": histories, "learned": learned, "c": bound["c"], "on_kinks": on_kinks}


def _learned(graph, params, x, y, loss):
    """Whether more of a binary problem's samples are right than by chance."""
    return bool(evaluate(graph, params, x, y, loss)[1] > CHANCE)


def measure_prop_1(size, folder):
    """Eq. 6 to 9 and Proposition 1: SGD with weight decay converges to the zero function or not at all."""
    verdicts, columns = [], {}
    for title, classes in CLASSES.items():
        found, columns[title] = two_classes(size, title, *binary(size.mnist, folder, classes))
        verdicts += found

    title = "even and odd digits"
    x, y = binary(size.mnist, folder, CLASSES[title])
    graph, network = mlp(INPUTS[size.mnist], 2, 16, 1), f"MLP-2-16, {LABELS[size.mnist]}"
    losses = "squared, logistic and exponential loss"
    point = zero_point(graph, x, y, LAMBDA)
    verdicts.append(ZERO.judged(point, f"{network}, m = {SAMPLES}, {losses}, λ = {LAMBDA}"))

    history, _ = descend(graph, x, y, SMALL, ETA, LAMBDA, "logistic", size.steps)
    end = converged(history)
    setting = (
        f"{network}, {title}, m = {SAMPLES}, logistic loss, η = {ETA}, {size.steps} steps, "
        f"B = {SMALL}, λ = {LAMBDA}"
    )
    verdicts.append(ZERO_OR_NEVER.judged(end | {"holds": end["prop_1"]}, setting))

    x, y = collinear_data(x[0], SAMPLES, LAMBDA, numpy.random.default_rng(0))
    history, _ = descend(graph, x, y, 1, 0.1, LAMBDA, "mean_squared_error", size.steps)
    found = exception(converged(history), prop_1(history, x))
    setting = (
        f"{network}, {SAMPLES} multiples of one digit, targets built to fit, squared loss, η = 0.1, "
        f"{size.steps} steps, B = 1, λ = {LAMBDA}"
    )
    verdicts.append(EXCEPTION.judged(found, setting))
    return verdicts, columns


def measure_prop_2(size, folder):
    """Proposition 2: without weight decay the squared loss converges by fitting, the logistic loss almost."""
    title = "even and odd digits"
    x, y = binary(size.mnist, folder, CLASSES[title])
    graph = mlp(x.shape[1], 2, 16, 1)
    problem = f"{LABELS[size.mnist]}, {title}, m = {SAMPLES}, B = {SMALL}, λ = 0, η = {ETA}"
    verdicts, histories, learned = [], {}, {}
    losses = {
        "mean_squared_error": ("squared loss", FITS, "fits"),
        "logistic": ("logistic loss", ALMOST, "almost"),
    }
    for loss, (name, statement, said) in losses.items():
        history, params = descend(graph, x, y, SMALL, ETA, 0.0, loss, size.steps)
        end = converged(history)
        setting = f"MLP-2-16, {problem}, {size.steps} steps, {name}"
        verdicts.append(statement.judged(end | {"holds": end[said]}, setting))
        verdicts.append(EULER.judged(along(history), setting))
        histories[name] = history
        learned[name] = _learned(graph, params, x, y, loss)

    networks = [mlp(x.shape[1], 2, width, 1) for width in size.widths]
    training = {"B": SMALL, "eta": ETA, "lam": 0.0, "loss": "logistic", "steps": size.steps // 4}
    wide = almost_convergence(x, y, networks, size.seeds, **training)
    numbers = wide | {
        "widths": ", ".join(map(str, size.widths)),
        "seeds": size.seeds,
        "ranges": ranges(wide["slopes"], wide["trained"]),
        "undecided": undecided(wide),
    }
    verdicts.append(WIDTH.judged(numbers, f"MLP-2-H, {problem}, {training['steps']} steps, logistic loss"))
    found = {"histories": histories, "learned": learned, "wide": wide}
    return verdicts, found | {"classes": title, "steps": training["steps"]}


def ranges(slopes, trained):
    """The range of each network's slopes over the seeds, in words, where it is trained."""
    words = []
    for values, known in zip(slopes, trained):
        words.append(f"{values.min():.2g} to {values.max():.2g}" if known else "not trained")
    return ", ".join(words)


def undecided(wide):
    """Why the widths are not told apart, in words, where they are not."""
    if wide["holds"] is not None:
        return ""
    kept = wide["kept"][wide["trained"]]
    return (
        f"; that is {kept.min():.2f} to {kept.max():.2f} of what half the steps left (1/t would leave 0.5), "
        "so it goes to 0 at every width, and a fixed number of steps compares speeds only"
    )
