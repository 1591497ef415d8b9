"""The command line: python -m experiments NAME [--preset ...]."""

import argparse
import contextlib
import os
import signal
import sys
from dataclasses import fields
from pathlib import Path

from tqdm import tqdm

from minigrad import BackendError, DataError
from minigrad.backend import BACKENDS, load_backend
from minigrad.datasets import DATASETS, DataUnavailable, find_or_fetch

from . import claims, report, spectra, theory
from .figures import FIGURES, OWN_AXES, PRESETS, Experiment
from .provenance import why_reference
from .results import View
from .runs import Run
from .store import Reader, StoreError
from .train import Config
from .workers import WorkerError, complete, cores, cost

PUBLISHED = Path(__file__).with_name("published") / "runs"


class Parser(argparse.ArgumentParser):
    """argparse, with a help text for every option and one sentence for an error."""

    def option(self, flag, text, **settings):
        self.add_argument(flag, help=text, **settings)

    def error(self, message):
        self.exit(2, f"{self.prog}: {message}\n")


def command_line():
    """The parser: each command with the options that it takes."""
    text = (
        "smoke: seconds, synthetic data; quick: minutes on two cores (the default); "
        "night: the paper's runs up to epoch 100 (Figure 1: all epochs, width 200); "
        "paper: the paper's"
    )
    a_folder = {"metavar": "DIR", "type": folder}
    a_number = {"metavar": "N", "type": positive}
    selection = Parser(add_help=False)
    selection.option("--preset", text, choices=PRESETS, default="quick")
    selection.option("--seeds", "how often every run is repeated", **a_number)
    selection.option("--results", "the store of runs", default="results", **a_folder)
    text = "finished runs that are only read, after --results (none: train all)"
    a_folder_or_none = {"metavar": "DIR|none", "type": folder_or_none}
    selection.option("--published", text, default=PUBLISHED, **a_folder_or_none)
    settings = Parser(add_help=False)
    text = "a field of a run, or how a rank is counted; repeat for more fields"
    settings.option("--set", text, metavar="FIELD=VALUE[,VALUE...]", action="append", default=[])
    jobs = Parser(add_help=False)
    jobs.option("--jobs", "processes (default: one per core; one on a GPU)", **a_number)
    data = Parser(add_help=False)
    text = "where the data sets lie or are downloaded to (default: $MINIGRAD_DATA, then ./data)"
    data.option("--data", text, **a_folder)
    pictures = Parser(add_help=False)
    pictures.option("--figures", "where pictures and tables go", default="figures", **a_folder)

    text = "The paper's figures, theory and claims."
    parser = Parser(prog="python -m experiments", description=text)
    commands = parser.add_subparsers(dest="name", metavar="NAME", required=True)

    def add(name, work, *parents):
        command = commands.add_parser(name, help=work.__doc__, parents=parents)
        command.set_defaults(work=work)
        return command

    for name in FIGURES:
        figure = add(name, draw_figure, selection, settings, jobs, data, pictures)
        figure.option("--backend", "the array library", choices=BACKENDS, default="numpy")
        text = "compiled steps, or the readable ones (default: fast where Numba is and agrees)"
        figure.option("--engine", text, choices=("fast", "reference"))
        text = "runs trained side by side at most (default: 1, on a GPU all that are alike)"
        figure.option("--stack", text, **a_number)
        figure.option("--cluster", "train on this Dask scheduler's workers", metavar="ADDRESS")
        figure.option("--plot-only", "draw stored runs, train nothing", action="store_true")
        figure.option("--keep-weights", "store the final weights too", action="store_true")
    add("list", list_figures, selection, settings, jobs)
    add("claims", judge_claims, selection, settings, pictures)
    add("spectra", draw_spectra, selection, pictures)
    checked = add("theory", try_theory, jobs, data, pictures)
    checked.add_argument("--preset", choices=("smoke", "quick"), default="quick")
    return parser


def positive(text):
    """A whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, got {text:.20}")
    return int(text)


def folder(text):
    """A folder's path, which need not exist yet."""
    path = Path(os.path.expanduser(text))
    if os.path.exists(path) and not os.path.isdir(path):
        raise argparse.ArgumentTypeError(f"{text} is not a folder")
    return path


def folder_or_none(text):
    """Likewise; None for "none"."""
    return None if text == "none" else folder(text)


def parse_settings(texts):
    """["B=64", "lam=0,1e-4"] -> {"B": 64, "lam": (0.0, 1e-4)}: several as a tuple; ValueError."""
    defaults = {field.name: field.default for field in fields(Run) + fields(View)}
    defaults |= dict.fromkeys(OWN_AXES, "")
    del defaults["seed"]  # --seeds
    settings = {}
    for text in texts:
        name, _, values = text.partition("=")
        if name not in defaults or not values:
            known = ", ".join(defaults)
            raise ValueError(f"--set takes FIELD=VALUE with FIELD one of {known}; got {text!r}")
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


def experiment(name, args, synthetic=()):
    """The Experiment of a figure that the options ask for; a mistake in --set ends the command."""
    try:
        return Experiment(name, args.preset, args.seeds, parse_settings(args.set), synthetic)
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


# Commands: each returns the lines, or the paths of written files, that are to be printed.


def draw_figure(args):
    """Train what is missing of a figure, and draw it."""
    load_backend(args.backend)
    if args.backend == "cupy" and args.engine == "fast":
        command_line().error("--engine fast is for NumPy: leave it out with --backend cupy")
    args.keep_weights = args.keep_weights and not args.plot_only  # drawing needs none
    config = Config(**{field.name: getattr(args, field.name) for field in fields(Config)})
    asked = experiment(args.name, args)
    missing = config.missing(asked.runs())
    if args.plot_only and missing:
        lacking = f"{len(missing)} of {len(set(asked.runs()))} runs"
        raise StoreError(f"{lacking} are not in {args.results}: train them first")
    if synthetic := datasets_missing({run.dataset for run in missing}, args):
        asked = experiment(args.name, args, synthetic)
        missing = config.missing(asked.runs())
    paths = [config.reader().path(run) for run in set(asked.runs())]
    published = [path for path in paths if path and path.parent == args.published]
    if published:
        count = f"{len(published)} of {len(paths)} runs"
        print(f"{count} are read from {args.published}", file=sys.stderr)
    explain_engine(missing, config)
    args.figures.mkdir(parents=True, exist_ok=True)  # before the training: it may not be possible
    results = complete(asked.runs(), config, args.jobs, args.cluster)
    picture, table = asked.picture(results)
    stem = args.figures / asked.stem()
    return [*report.write_picture(stem, picture), report.write_csv(f"{stem}.csv", table)]


def explain_engine(runs, config):
    """Say why the readable step trains where nobody asked for it; an error if --engine fast did."""
    if config.backend == "cupy" or config.engine == "reference":
        return
    for reason in sorted({why_reference(run, config) for run in runs} - {""}):
        if config.engine == "fast":
            command_line().error(f"--engine fast can't be had: {reason}")
        print(f"{reason}: the readable step trains, 2 to 9 times as slowly", file=sys.stderr)


def datasets_missing(datasets, args):
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
    """List for every figure its runs, how many are done, and how long the others take."""
    reader = Reader(args.results, args.published)
    jobs = args.jobs or cores()
    for name, asked in experiments(args).items():
        runs = set(asked.runs())
        missing = [run for run in runs if not is_whole(run, reader)]
        left = "done"
        if missing:
            seconds = max(cost(missing) / jobs, *(run.cost() for run in missing))
            left = f"about {tqdm.format_interval(seconds)} left with {jobs} jobs"
        done = len(runs) - len(missing)
        yield f"{name:14} {done:3} of {len(runs):3} runs, {left}: {asked.title()}"


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
    return claims.write(findings, asked["fig2"], args.figures)


def draw_spectra(args):
    """Draw the ranks of Figure 2 at several cutoffs, from stored runs."""
    reader = Reader(args.results, args.published)
    return spectra.write(args.preset, args.seeds, reader.read, args.figures)


def try_theory(args):
    """Try the paper's lemmas, propositions and theorem."""
    names = ("mnist", "cifar10")
    replaced = names if args.preset == "smoke" else datasets_missing(names, args)
    return theory.write(args.preset, args.data, args.jobs or cores(), replaced, args.figures)


def main(argv=None):
    """Do what the command line says; returns the exit status."""
    sys.stdout.reconfigure(errors="replace")  # a terminal that has no eta gets a question mark
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # workers and files are tidied up
    parser = command_line()
    args = parser.parse_args(argv)
    try:
        for line in args.work(args):
            print(line)
        sys.stdout.flush()
    except (DataError, BackendError, StoreError, WorkerError) as error:
        parser.error(str(error))
    except KeyboardInterrupt:
        print("\ninterrupted: run the same command again to go on from there", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader has seen enough, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        parser.error(f"a file can't be used: {error}; mend it, or choose another")
    except MemoryError:  # of CuPy too
        parser.error("not enough memory: try fewer --jobs, or a smaller --stack or network")
    return 0


if __name__ == "__main__":
    sys.exit(main())
