"""Words on pictures: labels, values as they are written, and how far a title says to trust a picture."""

import numpy

LABELS = {
    "mnist": "MNIST",
    "cifar10": "CIFAR-10",
    "synthetic-mnist": "synthetic MNIST",
    "synthetic-cifar10": "synthetic CIFAR-10",
    "cross_entropy": "cross-entropy",
    "mean_squared_error": "squared loss",
    "memo": "the memo's text",
    "true": "true gradient",
    "per-unit": "detached, γ, β per unit",
    "standard": "standard batch norm",
    "a": "a: B = 128",
    "b": "b: B = 16, as many steps as a",
    "c": "c: B = 16",
    "d": "d: B = 16, a's epochs, η / 8",
    "e": "e: B = 16, a's epochs, λ / 8",
    "sgd": "SGD",
    "sgd-step": "SGD, one step an epoch",
    "gd": "gradient descent, one step an epoch",
}
OF_ALL_EPOCHS = ("a", "c")  # the cells that are said to have as many as the figure
SYMBOLS = {"lam": "λ", "eta": "η", "B": "B"}
NORMS = {  # by detached and scalar
    (True, True): "batch norm of the memo's text",
    (False, True): "true gradient of batch norm",
    (True, False): "detached batch norm with γ, β per unit",
    (False, False): "standard batch norm",
}


def scientific(value):
    """A number in as few digits as it has: "5e-4"."""
    return numpy.format_float_scientific(value, trim="-", exp_digits=1)


def written(field, value):
    """A value of a run's field as pictures have it."""
    if field == "lam":
        return scientific(value) if value else "0"
    return LABELS.get(value, str(value))


def trained(field, value, paper, run):
    """A line's value as legends have it: of `run`, which was trained, where that is not the paper's run."""
    if field == "lam" and run.lam != paper.lam:
        return scientific(float(f"{run.lam:.2g}"))
    if field == "cell" and value in OF_ALL_EPOCHS:
        return f"{written(field, value)}, {run.epochs} epochs"
    return written(field, value)


def shared(titles):
    """What titles of columns have in common: "MNIST" of "MNIST, cross-entropy" and "MNIST, squared loss"."""
    first, *others = [title.split(", ") for title in titles]
    return ", ".join(part for part in first if all(part in other for other in others))


def named(field, value):
    """The same with the field's symbol, where it has one: "η = 0.1", "MNIST"."""
    if field not in SYMBOLS:
        return written(field, value)
    return f"{SYMBOLS[field]}\u00a0=\u00a0{written(field, value)}"


def seeds_of(number):
    """1 seed, 3 seeds."""
    return f"{number} seed{'' if number == 1 else 's'}"


def grey(learned):
    """What it means that a line is grey, where `learned` percent of train accuracy make it coloured."""
    return f"grey: not learned (train accuracy below {learned} %, diverged, or W decayed to 0)"


def variation(name, preset, settings, seeds, stand_ins):
    """The name of a picture's files; another preset than quick and every changed setting stand in it."""
    parts = [name] if preset == "quick" else [name, preset]
    for field, value in sorted(settings.items()):
        values = value if isinstance(value, tuple) else (value,)
        texts = [str(v).lower() if isinstance(v, bool) else str(v) for v in values]
        parts.append(f"{field}={','.join(texts)}")
    if seeds is not None:
        parts.append(f"seeds={seeds}")
    if stand_ins:
        parts.append("synthetic")
    return "-".join(parts)


def title(plan):
    """A picture's title: it says what shortens or reduces the paper's setting."""
    run = plan.runs()[0]
    eta = plan.settings.get("eta", plan.figure.base.eta)
    norm = f", {NORMS[run.detached, run.scalar]}" if run.normalized() else ""
    names = {"network": run.network, "dataset": LABELS[run.dataset], "norm": norm, "eta": eta}
    words = plan.figure.title.format(**names, m=run.samples(), tail=run.tail_epochs)
    return f"{words} ({', '.join([*shortened(plan), seeds_of(plan.seeds)])})"


def shortened(plan):
    """What shortens or reduces the paper's setting, in a few words each: how far to trust a picture."""
    (_, lines), *_ = plan.columns
    run, paper = lines[0].runs[0], lines[0].paper
    words = []
    if plan.preset == "smoke":
        words.append("smoke test of the program, no result")
    elif plan.reduction.scaled:
        words.append("reduced")
    elif run.begun() < paper.begun():
        after = "after the " if run.tail_epochs else ""
        words.append(f"{after}first {run.begun()} of {paper.begun()} epochs")
    if run.network != paper.network and not plan.reduction.scaled:
        words.append(f"{run.network} for {paper.network}")
    return words


def note(plan):
    """The lines under the title: the reduction, the data, what was set by hand, the seeds."""
    sentences = [_scaling(plan)] if plan.reduction.scaled else []
    if plan.stand_ins:
        names = " and ".join(LABELS[name] for name in plan.stand_ins)
        sentences.append(f"Synthetic stand-in for {names}, not found.")
    if plan.given:
        values = {field: v if isinstance(v, tuple) else (v,) for field, v in plan.given.items()}
        by_hand = (f"{field} = {', '.join(map(str, v))}" for field, v in values.items())
        sentences.append(f"Set by hand: {'; '.join(by_hand)}.")
    if plan.seeds > 1:
        sentences.append("Lines: means over the seeds; bands: ranges.")
    return " ".join(sentences)


def _scaling(plan):
    """The sentence on a reduction that keeps the decay budget."""
    run, paper = plan.runs()[0], plan.figure.base
    pairs = [(run.network, paper.network, "{}"), (run.m or "all", paper.m or "all", "{} training samples")]
    if "B" not in plan.figure.axes and "cell" not in plan.figure.axes:
        pairs.append((run.B, paper.B, "B = {}"))
    pairs.append((run.begun(), paper.begun(), "{} epochs"))
    pairs.append((run.tail_epochs, paper.tail_epochs, "{} more"))
    smaller = [form.format(f"{new} (paper: {old})") for new, old, form in pairs if new != old]
    if run.milestones and run.begun() != paper.begun():
        smaller.append("η drops in proportion")
    return (
        f"Reduced: {', '.join(smaller)}; λ is {_times(plan)} times {_unscaled(plan)}, "
        "to keep the decay budget Σ 2ηλ."
    )


def _times(plan):
    """By what λ was multiplied, in the order of the legend's rows: "78", "93.6 or 78"."""
    apart = []
    for ratio in (_ratio(line) for _, lines in plan.columns for line in lines):
        if not any(abs(ratio / other - 1) < 0.02 for other in apart):
            apart.append(ratio)
    return " or ".join(f"{ratio:.3g}" for ratio in apart)


def _ratio(line):
    """The paper's steps, weighted by eta, over those of a line's runs."""
    return line.paper.beginning().eta_steps() / line.runs[0].beginning().eta_steps()


def _unscaled(plan):
    """The λ that a reduction multiplies."""
    if "lam" in plan.settings:
        return f"the given {written('lam', plan.settings['lam'])}"
    if plan.figure.line == "lam":
        lams = [line.paper.lam for _, lines in plan.columns for line in lines]
        ends = dict.fromkeys((min(lams), max(lams)))
        return f"the paper's {' to '.join(written('lam', lam) for lam in ends)}"
    if "lam" in plan.figure.axes:
        return "the paper's by the panels"
    return f"the paper's {written('lam', plan.figure.base.lam)}"
