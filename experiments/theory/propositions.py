"""Section 3.1: when can SGD converge, and when not? Propositions 1 and 2 as inequalities that hold at every W."""

import numpy

from minigrad.graph import mlp
from minigrad.train import evaluate

from .. import plots
from ..captions import LABELS
from ..runs import INPUTS
from ..verdicts import Check
from .convergence import GONE, at_kinks, converged, descend, residuals
from .pictures import STEPS, WIDTH, Picture, line
from .sizes import CLASSES, SAMPLES, TOLERANCE, binary, log_spaced

def prop_1(history, x):
    """Prop. 1 as an inequality at every W: max_i ||g_i|| >= c 2 lambda ||W^{21}||, and c > 0 but for collinear samples.

    With e_i = x_i / ||x_i||, l'_i E_{p,i} x_i^T has no part off e_i, so ||g_i|| >= 2 lambda ||W (I - e_i e_i^T)||, whose mean
    square is >= (2 lambda c ||W||)^2, 1 - c^2 the largest eigenvalue of the mean of e_i e_i^T. W^{21} = 0 makes f = 0.
    """
    e = x / numpy.linalg.norm(x, axis=1, keepdims=True)
    square = max(0.0, 1 - numpy.linalg.norm(e, 2) ** 2 / len(x))
    least, c = numpy.nanmin(history["residual"]), square**0.5
    return {"least": least, "c": c, "holds": bool(least >= c and square > TOLERANCE)}


def zero_point(graph, x, y, lam):
    """W = 0 is a convergence point: the largest ||g_i|| there, over samples, edges and losses; no rounding, so exactly 0."""
    params = {(p, q): numpy.zeros((graph.width(p), graph.width(q))) for p, q in graph.E_T}
    largest = max(abs(g).max() for loss in ("mean_squared_error", "logistic", "exponential")
                  for g in residuals(graph, params, x, y, loss, lam)[2].values())
    return {"largest": largest, "holds": bool(largest == 0)}


def collinear_data(direction, m, lam, rng):
    """Prop. 1's exception, built for the squared loss: x_i = c_i x_0, ||x_0|| = 1, and y_i = c_i + lambda / c_i.

    At f(x_0) = 1 every l'_i c_i = 2 c_i (c_i - y_i) is the same -2 lambda, and so is every g_i (f is homogeneous in x); they
    vanish at the rank-one matrices of norm 1 with f(x_0) = 1.
    """
    c = rng.uniform(0.5, 1.5, (m, 1))
    return c * direction / numpy.linalg.norm(direction), c + lam / c


def prop_2(graph, params, x, y, loss):
    """Prop. 2 as an inequality at lambda = 0: ||g_i|| ||W|| >= |l'_i f(x_i)| at the input, so g_i = 0 only if one is 0.

    Its equality is Eq. 14: <g_i, W> = l'_i f(x_i), summed over the edges from the input; `error` is relative to the right.
    """
    slope, f, g = residuals(graph, params, x, y, loss, 0.0)
    inputs = [e for e in g if e[1] == 1]
    inner = sum((g[e] * params[e]).sum(axis=(1, 2)) for e in inputs)
    upper = sum((g[e] ** 2).sum(axis=(1, 2)) for e in inputs) ** 0.5 * sum((params[e] ** 2).sum() for e in inputs) ** 0.5
    right = abs(slope * f)
    error = abs(inner - slope * f).max() / right.max()
    return {
        "least": (upper[right > 0] / right[right > 0]).min(), "error": error,
        "holds": bool((upper >= right * (1 - TOLERANCE)).all() and error < TOLERANCE),
    }


def almost_convergence(x, y, networks, seeds, **training):
    """The largest |l'_i| after training (networks, seeds), and whether it falls from the first to the last that is trained.

    It does if their ranges over the seeds don't overlap. Trained (networks,): with every seed, each f(x_i) has y_i's sign.
    """
    ends = [[descend(graph, x, y, seed=seed, **training) for seed in range(seeds)] for graph in networks]
    slopes = numpy.array([[history["slope"][-1] for history, _ in row] for row in ends])
    trained = numpy.array([all(evaluate(graph, params, x, y, "logistic")[1] == 1 for _, params in row) for graph, row in zip(networks, ends)])
    known = slopes[trained]
    return {"slopes": slopes, "trained": trained, "holds": bool(trained.any() and known[-1].max() < known[0].min())}


LAMBDA, ETA, SMALL = 0.05, 0.5, 4  # of what follows: weight decay, learning rate, the batch of SGD
RUNS = {"GD (B = m), λ = 0": (SAMPLES, 0.0), f"SGD (B = {SMALL}), λ = 0": (SMALL, 0.0),
        f"GD (B = m), λ = {LAMBDA}": (SAMPLES, LAMBDA), f"SGD (B = {SMALL}), λ = {LAMBDA}": (SMALL, LAMBDA)}


def report_prop_1(size, folder):
    """Eq. 6 to 9 and Proposition 1: SGD with weight decay converges to the zero function or not at all."""
    graph = mlp(INPUTS[size.mnist], 2, 16, 1)
    checks, columns, kinks = [], [], ""
    for title, classes in CLASSES.items():
        x, y = binary(size.mnist, folder, classes)
        ends = {label: descend(graph, x, y, B, ETA, lam, "mean_squared_error", size.steps) for label, (B, lam) in RUNS.items()}
        histories = {label: history for label, (history, _) in ends.items()}
        gd, sgd = (label for label, (_, lam) in RUNS.items() if lam)
        bound, fell = prop_1(histories[sgd], x), {label: converged(h) for label, h in histories.items()}
        setting = f"MLP-2-16, {LABELS[size.mnist]}, {title}, m = {SAMPLES}, squared loss, η = {ETA}, {size.steps} steps"
        left = ""
        if fell[gd]["never"]:
            stuck = at_kinks(graph, ends[gd][1], x, y, (ETA / 10, ETA / 50), LAMBDA, "mean_squared_error", size.steps)
            left = f"; as many more steps at η = {ETA / 10} and {ETA / 50} leave it at {stuck['gradient'][0]:.2g} and {stuck['gradient'][1]:.2g}, where the last 20 cross {stuck['crossed'][0]} and {stuck['crossed'][1]} kinks of ReLU to and fro"
            kinks += f" With {title}, gradient descent at λ > 0 ends on kinks of ReLU, where no gradient exists." * stuck["holds"]
        checks += [
            Check("away from W = 0 the residuals of Eq. 9 can't all be small: max ‖gᵢ‖ ≥ c · 2λ‖W‖, W the input matrix", "Eq. 6 to 9, Prop. 1",
                  f"max ‖gᵢ‖ ≥ {bound['least']:.2f} · 2λ‖W‖ along SGD; c = {bound['c']:.3f} from the directions of the samples", setting + f", λ = {LAMBDA}", bound["holds"]),
            Check("at λ > 0, SGD with B < m converges to f ≡ 0 or not at all", "Prop. 1", f"the gradient on a batch falls to {fell[sgd]['fall']:.2g} of its first value, and max |f(xᵢ)| is {fell[sgd]['output']:.2g}",
                  setting + f", B = {SMALL}, λ = {LAMBDA}", fell[sgd]["never"] or fell[sgd]["zero"]),
            Check("at λ > 0, gradient descent (B = m) does converge", "our addition to Section 3.1", f"the gradient falls to {fell[gd]['fall']:.1g} of its first value, and max |f(xᵢ)| is {fell[gd]['output']:.2g}{left}",
                  setting + f", λ = {LAMBDA}", fell[gd]["holds"] or fell[gd]["zero"]),
        ]
        lines = [line(label, place, **h) for place, (label, h) in enumerate(histories.items())]
        step = histories[gd]["step"]
        constant = line("least value at any W ≠ 0, whatever the loss", 4, step=step, residual=numpy.full(len(step), bound["c"]))
        columns.append(plots.Column(title, [*lines, constant], STEPS))
    x, y = binary(size.mnist, folder, CLASSES["even and odd digits"])
    history, _ = descend(graph, x, y, SMALL, ETA, LAMBDA, "logistic", size.steps)
    vanished, common = converged(history), f"MLP-2-16, {LABELS[size.mnist]}"
    point = zero_point(graph, x, y, LAMBDA)
    line_x, line_y = collinear_data(x[0], SAMPLES, LAMBDA, numpy.random.default_rng(0))
    history, _ = descend(graph, line_x, line_y, 1, 0.1, LAMBDA, "mean_squared_error", size.steps)
    exception, bound = converged(history), prop_1(history, line_x)
    checks += [
        Check("W = 0 is a convergence point", "Prop. 1", f"max ‖gᵢ‖ = {point['largest']:g} there", f"{common}, m = {SAMPLES}, squared, logistic and exponential loss, λ = {LAMBDA}", point["holds"]),
        Check("at λ > 0, SGD with B < m converges to f ≡ 0 or not at all", "Prop. 1", f"the gradient on a batch falls to {vanished['fall']:.2g} of its first value, and max |f(xᵢ)| is {vanished['output']:.2g}",
              f"{common}, even and odd digits, m = {SAMPLES}, logistic loss, η = {ETA}, {size.steps} steps, B = {SMALL}, λ = {LAMBDA}", vanished["never"] or vanished["zero"]),
        Check("collinear samples admit convergence to f ≢ 0, where no label is fitted: ℓ′ᵢ ≠ 0", "Prop. 1, exception", f"the gradient falls to {exception['fall']:.1g} of its first value, max ‖gᵢ‖ to {history['residual'][-1]:.1g} · 2λ‖W‖, "
              f"max |f(xᵢ)| is {exception['output']:.2g} and min |ℓ′ᵢ f(xᵢ)| {exception['least']:.2g}", f"{common}, {SAMPLES} multiples of one digit, targets built to fit, squared loss, η = 0.1, {size.steps} steps, B = 1, λ = {LAMBDA}", exception["holds"] and exception["least"] > TOLERANCE and not bound["holds"]),
    ]
    return checks, Picture(
        "prop1", "Proposition 1: with weight decay, SGD converges to f ≡ 0 or not at all; gradient descent can",
        f"MLP-2-16, {SAMPLES} samples of {LABELS[size.mnist]} as −1 and +1, squared loss, η = {ETA}, no momentum. gᵢ is the gradient of sample i's own regularized loss (Eq. 9): SGD has converged only where all are zero, gradient descent where their mean is. (b) has the input matrix, at λ > 0."
        + kinks,
        columns, [plots.Row("gradient", "(a) ‖gradient‖ of a batch", log=True, floor=1e-17),
                  plots.Row("residual", "(b) max ‖gᵢ‖ / 2λ‖W‖", log=True)], size.mnist)


def report_prop_2(size, folder):
    """Proposition 2: without weight decay the squared loss converges by fitting, an exponential-type loss only almost."""
    title, classes = list(CLASSES.items())[1]
    x, y = binary(size.mnist, folder, classes)
    graph = mlp(x.shape[1], 2, 16, 1)
    setting = f"MLP-2-16, {LABELS[size.mnist]}, {title}, m = {SAMPLES}, B = {SMALL}, λ = 0, η = {ETA}, {size.steps} steps"
    checks, lines = [], []
    for place, loss in enumerate(("mean_squared_error", "logistic")):
        history, params = descend(graph, x, y, SMALL, ETA, 0.0, loss, size.steps)
        _, early = descend(graph, x, y, SMALL, ETA, 0.0, loss, SAMPLES // SMALL)
        fell, equation = converged(history), prop_2(graph, early, x, y, loss)
        name = {"mean_squared_error": "squared loss", "logistic": "logistic loss"}[loss]
        lines.append(line(name, place, **history))
        numbers = f"max |ℓ′ᵢ| falls to {fell['slope']:.1g}, the gradient on a batch to {fell['fall']:.1g} of its first value"
        if loss == "logistic":
            checks.append(Check("an exponential-type loss does so almost: training steps get small, but no ℓ′ᵢ f(xᵢ) is 0", "Prop. 2", numbers + f", and min |ℓ′ᵢ f(xᵢ)| is {fell['least']:.1g}", f"{setting}, {name}", fell["almost"]))
        else:
            checks.append(Check("the squared loss reaches zero gradient on every batch by fitting", "Prop. 2, end", numbers, f"{setting}, {name}", fell["holds"]))
        checks.append(Check("‖gᵢ‖ ‖W‖ ≥ |ℓ′ᵢ f(xᵢ)|, by ⟨gᵢ, W⟩ = ℓ′ᵢ f(xᵢ): a convergence point fits sample i or has f(xᵢ) = 0", "Prop. 2, Eq. 14",
                            f"⟨gᵢ, W⟩ is ℓ′ᵢ f(xᵢ) to {equation['error']:.1e}; ‖gᵢ‖ ‖W‖ is at least {equation['least']:.2f} times |ℓ′ᵢ f(xᵢ)|", f"{setting.rsplit(',', 1)[0]}, after one epoch, {name}", equation["holds"]))
    networks = [mlp(x.shape[1], 2, width, 1) for width in size.widths]
    wide = almost_convergence(x, y, networks, size.seeds, B=SMALL, eta=ETA, lam=0.0, loss="logistic", steps=size.steps // 4)
    means = ", ".join(f"{s.min():.2g} to {s.max():.2g}" if trained else "not trained" for s, trained in zip(wide["slopes"], wide["trained"]))
    checks.append(Check("almost convergence improves with the width: max |ℓ′ᵢ| falls, if the network is trained", "Section 3.1, after Prop. 2",
                        f"at width {', '.join(map(str, size.widths))}, over {size.seeds} seeds: {means}",
                        f"{setting.replace('MLP-2-16', 'MLP-2-H').replace(f'{size.steps} steps', f'{size.steps // 4} steps')}, logistic loss", wide["holds"]))
    shown = numpy.where(wide["trained"][:, None], wide["slopes"], numpy.nan)
    final = [{"diverged": False, "width": numpy.array(size.widths), "slope": shown[:, seed]} for seed in range(size.seeds)]
    absent = "; without H = " + ", ".join(str(width) for width, trained in zip(size.widths, wide["trained"]) if not trained) + ", which are not trained: not every f(xᵢ) has the sign of yᵢ"
    columns = [plots.Column("MLP-2-16", lines, STEPS), plots.Column(f"MLP-2-H after {size.steps // 4} steps", [plots.Line("logistic loss", 1, final)], WIDTH)]
    return checks, Picture(
        "prop2", "Proposition 2: without weight decay, SGD converges with the squared loss, and almost with the logistic loss",
        f"{LABELS[size.mnist]}, {title} as −1 and +1, m = {SAMPLES}, B = {SMALL}, η = {ETA}, no momentum; ℓ′ᵢ is the derivative of sample i's loss by f(xᵢ). Right: mean and range over {size.seeds} seeds{absent * (not wide['trained'].all())}.",
        columns, [plots.Row("slope", "max |ℓ′ᵢ|", log=True, floor=GONE)], size.mnist)
