"""The command line: python -m experiments NAME [--preset ...]."""

import signal

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a Ctrl-C amid the imports needs no traceback

import argparse
import contextlib
import os
import sys
from dataclasses import fields
from pathlib import Path

from tqdm import tqdm

from minigrad import BackendError, DataError, fast
from minigrad.backend import BACKENDS, load_backend
from minigrad.datasets import DATASETS, DataUnavailable, find_or_fetch

from . import claims, report, spectra, theory
from .figures import FIGURES, OWN_AXES, PRESETS, Experiment
from .results import View
from .runs import Run
from .store import Reader, StoreError
from .train import Config
from .workers import WorkerError, complete, cores, cost

PUBLISHED = Path(__file__).with_name("published") / "runs"


class Parser(argparse.ArgumentParser):
    """argparse, with one sentence for an error."""

    def error(self, message):
        self.exit(2, f"{self.prog}: {message}\n")


def command_line():
    """The parser: each command with the options that it takes."""
    selection = Parser(add_help=False)
    presets = (
        "smoke: seconds, synthetic data; quick: minutes on two cores (the default); "
        "night: the paper's runs up to epoch 100 (Figure 1: all epochs, width 200); paper: the paper's"
    )
    selection.add_argument("--preset", choices=PRESETS, default="quick", help=presets)
    selection.add_argument("--seeds", metavar="N", type=positive, help="how often every run is repeated")
    selection.add_argument("--results", metavar="DIR", type=folder, default="results", help="the store of runs")
    text = "finished runs that are only read, after --results (none: train all)"
    selection.add_argument("--published", metavar="DIR|none", type=folder_or_none, default=PUBLISHED, help=text)
    settings = Parser(add_help=False)
    text = "a field of a run, or how a rank is counted; repeat for more fields"
    settings.add_argument(
        "--set", metavar="FIELD=VALUE[,VALUE...]", action="append", default=[], help=text
    )
    jobs = Parser(add_help=False)
    text = "processes (default: one per core; one on a GPU)"
    jobs.add_argument("--jobs", metavar="N", type=positive, help=text)
    data = Parser(add_help=False)
    text = "where the data sets lie or are downloaded to (default: $MINIGRAD_DATA, then ./data)"
    data.add_argument("--data", metavar="DIR", type=folder, help=text)
    pictures = Parser(add_help=False)
    text = "where pictures and tables go"
    pictures.add_argument("--figures", metavar="DIR", type=folder, default="figures", help=text)

    parser = Parser(prog="python -m experiments", description="The paper's figures, theory and claims.")
    commands = parser.add_subparsers(dest="name", metavar="NAME", required=True)
    for name in FIGURES:
        text = "train what is missing and draw it"
        figure = commands.add_parser(name, help=text, parents=[selection, settings, jobs, data, pictures])
        figure.set_defaults(work=draw_figure)
        figure.add_argument("--backend", choices=BACKENDS, default="numpy")
        text = "compiled steps, or the readable ones (default: fast where Numba is and agrees)"
        figure.add_argument("--engine", choices=("fast", "reference"), help=text)
        text = "runs trained side by side at most (default: 1, on a GPU all that are alike)"
        figure.add_argument("--stack", metavar="N", type=positive, help=text)
        figure.add_argument("--cluster", metavar="ADDRESS", help="train on this Dask scheduler's workers")
        figure.add_argument("--plot-only", action="store_true", help="draw stored runs, train nothing")
        figure.add_argument("--keep-weights", action="store_true", help="store the final weights too")
    text = "what is done of every figure, and what is left"
    listed = commands.add_parser("list", help=text, parents=[selection, settings, jobs])
    listed.set_defaults(work=list_figures)
    text = "the paper's claims, judged from stored runs"
    judged = commands.add_parser("claims", help=text, parents=[selection, settings, pictures])
    judged.set_defaults(work=judge_claims)
    text = "ranks of Figure 2 at several cutoffs, from stored runs"
    counted = commands.add_parser("spectra", help=text, parents=[selection, pictures])
    counted.set_defaults(work=draw_spectra)
    text = "the paper's lemmas, propositions and theorem, tried"
    checked = commands.add_parser("theory", help=text, parents=[jobs, data, pictures])
    checked.add_argument("--preset", choices=("smoke", "quick"), default="quick")
    checked.set_defaults(work=try_theory)
    return parser


def positive(text):
    """A whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, got {text:.20}")
    return int(text)


def folder(text):
    """A folder's path, which need not exist yet."""
    path = os.path.expanduser(text)
    if os.path.exists(path) and not os.path.isdir(path):
        raise argparse.ArgumentTypeError(f"{text} is not a folder")
    return Path(path)


def folder_or_none(text):
    """Likewise; None for "none"."""
    return None if text == "none" else folder(text)


def parse_settings(texts):
    """["B=64", "lam=0,1e-4"] -> {"B": 64, "lam": (0.0, 1e-4)}: several values as a tuple; ValueError."""
    defaults = {field.name: field.default for field in fields(Run) + fields(View) if field.name != "seed"}
    defaults |= dict.fromkeys(OWN_AXES, "")
    settings = {}
    for text in texts:
        name, _, values = text.partition("=")
        if name not in defaults or not values:
            raise ValueError(f"--set takes FIELD=VALUE with FIELD one of {', '.join(defaults)}; got {text!r}")
        if name in settings:
            raise ValueError(f"--set {name} is given twice: give several values as {name}=1,2")
        default = defaults[name]
        try:
            parsed = tuple(parse_value(value, default) for value in values.split(","))
        except ValueError:
            raise ValueError(f"--set {text}: {name} takes values like {default}") from None
        settings[name] = parsed if isinstance(default, tuple) or len(parsed) > 1 else parsed[0]
    return settings


def parse_value(text, default):
    """The text as a value of the default's type; ValueError."""
    if isinstance(default, bool):
        return bool(("false", "true").index(text.lower()))
    if isinstance(default, tuple):
        return int(text)
    return type(default)(text)


def experiment(name, args, replaced=()):
    """The Experiment of a figure that the options ask for; a mistake in --set ends the command."""
    try:
        return Experiment(name, args.preset, args.seeds, parse_settings(args.set), replaced)
    except ValueError as error:
        command_line().error(f"{name}: {error}")


def experiments(args):
    """{name: Experiment} of all figures that take the settings."""
    found = {}
    for name in FIGURES:
        with contextlib.suppress(ValueError):
            settings = parse_settings(args.set)
            found[name] = Experiment(name, args.preset, args.seeds, settings)
    if not found:
        command_line().error(f"no figure takes all of these settings: {' '.join(args.set)}")
    return found


def draw_figure(args):
    """Train what is missing of a figure, and draw it."""
    load_backend(args.backend)
    if args.backend == "cupy" and args.engine == "fast":
        command_line().error("--engine fast is for NumPy: leave it out with --backend cupy")
    keep_weights = args.keep_weights and not args.plot_only
    config = Config(
        args.results, args.published, args.data, args.backend, args.engine, keep_weights, args.stack
    )
    asked = experiment(args.name, args)
    missing = [run for run in dict.fromkeys(asked.runs()) if config.lacks(run)]
    if args.plot_only and missing:
        lacking = f"{len(missing)} of {len(set(asked.runs()))} runs"
        raise StoreError(f"{lacking} are not in {args.results}: train them first")
    if replaced := unavailable({run.dataset for run in missing}, args):
        asked = experiment(args.name, args, replaced)
        missing = [run for run in dict.fromkeys(asked.runs()) if config.lacks(run)]
    paths = [config.reader().path(run) for run in set(asked.runs())]
    published = [path for path in paths if path and path.parent == args.published]
    if published:
        print(f"{len(published)} of {len(paths)} runs are read from {args.published}", file=sys.stderr)
    if missing and args.backend == "numpy" and args.engine != "reference":
        say_engine(missing, args)
    args.figures.mkdir(parents=True, exist_ok=True)  # before the training: it may not be possible
    results = complete(asked.runs(), config, args.jobs, args.cluster)
    picture, table = asked.picture(results)
    stem = args.figures / asked.stem()
    show([*report.write_picture(stem, picture), report.write_csv(f"{stem}.csv", table)])


def say_engine(runs, args):
    """Say why the readable step trains where the compiled one can't; an error if --engine fast was given."""
    unknown = {run.network for run in runs if not fast.knows_graph(run.graph())}
    reason = fast.unavailable()
    if unknown:
        reason = f"the compiled step doesn't know {' or '.join(sorted(unknown))}"
    if reason and args.engine == "fast":
        command_line().error(f"--engine fast can't be had: {reason}")
    if reason:
        print(f"{reason}: the readable step trains, 2 to 9 times as slowly", file=sys.stderr)


def unavailable(datasets, args):
    """Data sets that can be neither found nor fetched; only --preset quick goes on without them."""
    names = []
    for name in sorted(datasets):
        try:
            find_or_fetch(name, args.data)
        except DataUnavailable as error:
            if args.preset != "quick" or f"synthetic-{name}" not in DATASETS:
                raise
            print(f"{error}; quick goes on with synthetic data in its place", file=sys.stderr)
            names.append(name)
    return tuple(names)


def list_figures(args):
    """Print for every figure its runs, how many are done, and about how long the others take."""
    reader = Reader(args.results, args.published)
    jobs = args.jobs or cores()
    for name, asked in experiments(args).items():
        runs = set(asked.runs())
        missing = [run for run in runs if not is_whole(run, reader)]
        left = "done"
        if missing:
            seconds = max(cost(missing) / jobs, *(run.cost() for run in missing))
            left = f"about {tqdm.format_interval(seconds)} left with {jobs} jobs"
        print(f"{name:14} {len(runs) - len(missing):3} of {len(runs):3} runs, {left}: {asked.title()}")


def is_whole(run, reader):
    """Whether a run is stored and not damaged."""
    try:
        return reader.read(run) is not None
    except StoreError:
        return False


def judge_claims(args):
    """Judge the paper's claims from stored runs."""
    asked = experiments(args)
    findings = claims.judge(asked, Reader(args.results, args.published).read)
    show(claims.write(findings, asked["fig2"], args.figures))


def draw_spectra(args):
    """Draw the ranks of Figure 2 at several cutoffs, from stored runs."""
    show(spectra.write(args.preset, args.seeds, Reader(args.results, args.published).read, args.figures))


def try_theory(args):
    """Try the paper's lemmas, propositions and theorem."""
    names = ("mnist", "cifar10")
    replaced = names if args.preset == "smoke" else unavailable(names, args)
    show(theory.write(args.preset, args.data, args.jobs or cores(), replaced, args.figures))


def show(paths):
    """Print the paths of written files."""
    for path in paths:
        print(path)


def main(argv=None):
    """Do what the command line says; returns the exit status."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")  # a terminal that has no eta gets a question mark
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that workers and files are tidied up
    parser = command_line()
    args = parser.parse_args(argv)
    try:
        args.work(args)
        sys.stdout.flush()
    except (DataError, BackendError, StoreError, WorkerError) as error:
        parser.error(str(error))
    except KeyboardInterrupt:
        print("\ninterrupted: run the same command again, which goes on from there", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader has seen enough, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        name = error.filename or "a file"
        parser.error(f"{name} can't be used ({error.strerror or error}): mend it, or choose another")
    except MemoryError:  # of CuPy too
        parser.error("there is not enough memory: try fewer --jobs, or a smaller --stack or network")
    return 0


if __name__ == "__main__":
    sys.exit(main())
