"""Words on pictures: labels, values as they are written, and what a title says of how far to trust a picture."""

import numpy

LABELS = {
    "mnist": "MNIST",
    "cifar10": "CIFAR-10",
    "synthetic-mnist": "synthetic (MNIST's shape)",
    "synthetic-cifar10": "synthetic (CIFAR-10's shape)",
    "cross_entropy": "cross-entropy",
    "mean_squared_error": "squared loss",
    "memo": "the memo's text",
    "true": "true gradient",
    "per-unit": "detached, γ, β per unit",
    "standard": "standard batch norm",
}
SYMBOLS = {"lam": "λ", "eta": "η", "B": "B", "cell": "cell"}


def written(field, value):
    """A value of a run's field as pictures have it."""
    if field == "lam":
        return numpy.format_float_scientific(value, trim="-", exp_digits=1) if value else "0"
    return LABELS.get(value, str(value))


def named(field, value):
    """The same with the field's symbol, where it has one: "η = 0.1", "MNIST"."""
    return f"{SYMBOLS[field]} = {written(field, value)}" if field in SYMBOLS else written(field, value)


def seeds_of(number):
    """"1 seed", "3 seeds"."""
    return f"{number} seed{'' if number == 1 else 's'}"


def variation(name, preset, settings, seeds, stand_ins):
    """The name of a picture's files: NAME for the quick preset; another preset and every changed setting stand in it."""
    parts = [name] if preset == "quick" else [name, preset]
    for field, value in settings.items():
        values = value if isinstance(value, tuple) else (value,)
        parts.append(f"{field}=" + ",".join(str(v).lower() if isinstance(v, bool) else str(v) for v in values))
    if seeds is not None:
        parts.append(f"seeds={seeds}")
    if stand_ins:
        parts.append("synthetic")
    return "-".join(parts)
