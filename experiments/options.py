"""What can be said on the command line: a subcommand per kind of work, with the options that it takes."""

import argparse
from dataclasses import fields

from minigrad.backend import BACKENDS

from .figures import FIGURES, POINTS
from .presets import PRESETS
from .results import View
from .runs import Run


class Parser(argparse.ArgumentParser):
    """argparse, whose errors are one sentence."""

    def error(self, message):
        self.exit(2, f"{self.prog}: {message}\n")


def command_line():
    """The parser: every command with the options that it takes, and no others."""
    words = "The paper's figures, its theory and its claims."
    parser = Parser(prog="python -m experiments", description=words)
    commands = parser.add_subparsers(dest="name", metavar="NAME", required=True)
    for name in FIGURES:
        figure = commands.add_parser(name, help="train what is missing and draw it")
        _add_selection(figure)
        _add_jobs(figure)
        words = "train on the Dask cluster whose scheduler has this address; local: on one of this machine"
        figure.add_argument("--cluster", metavar="ADDRESS", help=words)
        _add_data(figure)
        _add_pictures(figure)
        figure.add_argument("--backend", choices=BACKENDS, default="numpy")
        words = "runs trained side by side at most (default: one with numpy, as many as fit with cupy)"
        figure.add_argument("--stack", metavar="N", type=_positive, help=words)
        figure.add_argument("--plot-only", action="store_true", help="draw from the store, train nothing")
        figure.add_argument("--keep-weights", action="store_true", help="store the final weights too")
    listed = commands.add_parser("list", help="what is done of every figure, and what is left")
    _add_selection(listed)
    _add_jobs(listed)
    judged = commands.add_parser("claims", help="the paper's statements, judged from the store")
    _add_selection(judged)
    _add_pictures(judged)
    published = commands.add_parser("published", help="what the store has of a preset, as files to show")
    _add_store(published)
    words = "where pictures, tables, spectra and the page about them go"
    published.add_argument("--out", metavar="DIR", default="experiments/published", help=words)
    counted = commands.add_parser("ranks", help="what the ranks of Figure 2 mean, drawn from the store")
    _add_store(counted)
    _add_pictures(counted)
    checked = commands.add_parser("theory", help="the lemmas, propositions and theorem, checked")
    # The memo has no settings for its theory, so that there is no preset of its own.
    checked.add_argument("--preset", choices=("smoke", "quick"), default="quick")
    _add_jobs(checked)
    _add_data(checked)
    _add_pictures(checked)
    return parser


def _add_store(command):
    """The options that say which preset is meant, and where its runs are."""
    presets = (
        "smoke: seconds, synthetic data; quick: minutes on two cores (the default); "
        "night: the paper's runs, stopped at epoch 100 (but for control and descent); "
        "paper: the paper's setting"
    )
    command.add_argument("--preset", choices=PRESETS, default="quick", help=presets)
    command.add_argument("--results", metavar="DIR", default="results", help="the store of runs")


def _add_selection(command):
    """The options that say which runs are meant."""
    _add_store(command)
    values = "another value for a field of a run or of its measures; repeat for more fields"
    command.add_argument("--seeds", metavar="N", type=_positive, help="how often every run is repeated")
    command.add_argument("--set", metavar="FIELD=VALUE[,VALUE...]", action="append", default=[], help=values)


def _add_jobs(command):
    words = "processes (default: one per core; one on a GPU)"
    command.add_argument("--jobs", metavar="N", type=_positive, help=words)


def _add_data(command):
    words = "where the data sets lie or are downloaded to (default: $MINIGRAD_DATA, then ./data)"
    command.add_argument("--data", metavar="DIR", help=words)


def _add_pictures(command):
    words = "where pictures and tables go"
    command.add_argument("--figures", metavar="DIR", default="figures", help=words)


def _positive(text):
    if not text.isdecimal() or len(text) > 9 or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, got {text:.20}")
    return int(text)


def parse_settings(texts):
    """["B=64", "lam=0,1e-4"] -> {"B": 64, "lam": (0.0, 1e-4)}: fields of Run and View, several as a tuple.

    ValueError for what is no field or no value of it.
    """
    defaults = {field.name: field.default for field in fields(Run) + fields(View) if field.name != "seed"}
    defaults |= {point: "" for point in POINTS}
    settings = {}
    for text in texts:
        name, _, values = text.partition("=")
        if name not in defaults or not values:
            known = ", ".join(defaults)
            raise ValueError(f"--set takes FIELD=VALUE with FIELD one of {known}; got {text!r}")
        settings[name] = _values(name, values, defaults[name])
    return settings


def _values(name, values, default):
    """One value of the default's type, or a tuple of several."""
    try:
        parsed = tuple(_parse(type(default), value) for value in values.split(","))
    except ValueError:
        example = str(default).lower() if isinstance(default, bool) else default
        raise ValueError(f"--set {name}={values}: {name} takes values like {example}") from None
    return parsed if isinstance(default, tuple) or len(parsed) > 1 else parsed[0]


def _parse(kind, value):
    if kind is bool:
        if value not in ("true", "false"):
            raise ValueError(value)
        return value == "true"
    return int(value) if kind is tuple else kind(value)
