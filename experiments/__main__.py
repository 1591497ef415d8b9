"""The paper's figures, theory and claims: python -m experiments NAME [--preset ...]."""

import argparse
import os
import signal
import sys
from pathlib import Path

from tqdm import tqdm

from minigrad import BackendError, DataError
from minigrad.backend import BACKENDS, load_backend
from minigrad.datasets import DATASETS, DataUnavailable, find_or_fetch
from minigrad.train import why_reference

from . import claims, report, theory
from .figures import FIGURES, OWN_AXES, PRESETS, Experiment
from .results import View
from .runs import Run
from .store import StoreError
from .train import Config
from .workers import CORES, WorkerError, complete

PUBLISHED = Path(__file__).with_name("published") / "runs"
SETTABLE = vars(Run()) | vars(View()) | dict.fromkeys(OWN_AXES, "")
del SETTABLE["seed"]  # --seeds
# What reads a value, or one of a tuple's, where its own type can't.
PARSE = {tuple: int, bool: lambda text: bool(("false", "true").index(text.lower()))}


class Parser(argparse.ArgumentParser):
    """argparse, with one sentence for an error."""

    def error(self, message):
        self.exit(2, f"{self.prog}: {message}\n")


def positive(text):
    """A whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, got {text:.20}")
    return int(text)


def setting(text):
    """Parse "lam=0,1e-4" as ("lam", (0.0, 1e-4))."""
    name, _, values = text.partition("=")
    if name not in SETTABLE:
        known = ", ".join(SETTABLE)
        raise argparse.ArgumentTypeError(f"{text!r}: the field must be one of {known}")
    default = SETTABLE[name]
    kind = type(default)
    try:
        return name, tuple(map(PARSE.get(kind, kind), values.split(",")))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: {name} takes values like {default}") from None


NUMBER = {"type": positive, "metavar": "N"}
FOLDER = {"type": lambda text: Path(os.path.expanduser(text)), "metavar": "DIR"}
PRESET_TEXT = (
    "smoke: seconds, synthetic data; quick: minutes on two cores (the default); night: the "
    "paper's runs up to epoch 100 (Figure 1: all epochs, width 200); paper: the paper's"
)
ENGINE = {"choices": ("fast", "reference")}
SETTINGS = {"metavar": "FIELD=VALUE[,VALUE...]", "type": setting, "action": "append", "default": []}
# Every option: what argparse does with it, and its help text.
OPTIONS = {
    "preset": ({"choices": PRESETS, "default": "quick"}, PRESET_TEXT),
    "seeds": (NUMBER, "how often every run is repeated"),
    "results": (FOLDER | {"default": "results"}, "the store of runs"),
    # A folder that does not exist, as "none", has no runs.
    "published": (FOLDER | {"default": PUBLISHED}, "finished runs, only read (none: train all)"),
    "set": (SETTINGS, "a field of a run, or how a rank is counted; repeat for more fields"),
    "jobs": (NUMBER, "processes (default: one per core; one on a GPU)"),
    "data": (FOLDER, "of data sets, found or downloaded (default: $MINIGRAD_DATA, then ./data)"),
    "figures": (FOLDER | {"default": "figures"}, "where pictures and tables go"),
    "backend": ({"choices": BACKENDS, "default": "numpy"}, "the array library"),
    "engine": (ENGINE, "compiled or readable steps (default: fast where Numba is and agrees)"),
    "stack": (NUMBER, "runs side by side at most (default: 1, on a GPU all that are alike)"),
    "cluster": ({"metavar": "ADDRESS"}, "train on this Dask scheduler's workers"),
    "plot-only": ({"action": "store_true"}, "draw stored runs, train nothing"),
    "keep-weights": ({"action": "store_true"}, "store the final weights too"),
}


def command_line():
    """The parser: each command with the options that it takes."""
    parser = Parser(prog="python -m experiments", description=__doc__)
    commands = parser.add_subparsers(dest="name", metavar="NAME", required=True)
    stored = ["preset", "seeds", "results", "published"]
    taken = dict.fromkeys(FIGURES, (draw_figure, OPTIONS)) | {
        "list": (list_figures, [*stored, "set", "jobs"]),
        "claims": (judge_claims, [*stored, "set", "figures"]),
        "theory": (try_theory, ["preset", "jobs", "data", "figures"]),
    }
    for name, (work, options) in taken.items():
        command = commands.add_parser(name, help=work.__doc__)
        command.set_defaults(work=work)
        for option in options:
            settings, text = OPTIONS[option]
            command.add_argument(f"--{option}", help=text, **settings)
    return parser


def experiments(args, names=FIGURES, synthetic=()):
    """{name: Experiment} of those figures that take the settings; if none does, an error."""
    settings, found = dict(args.set), {}
    if len(settings) < len(args.set):
        command_line().error("--set names a field twice: give all its values as --set lam=0,1e-4")
    for name in names:
        try:
            found[name] = Experiment(name, args.preset, args.seeds, settings, synthetic)
        except ValueError as error:
            mistake = f"{name}: {error}"
    if not found:
        several = "no figure takes these settings; the last one: " if len(names) > 1 else ""
        command_line().error(several + mistake)
    return found


# Commands: each returns the lines, or the paths of written files, that are to be printed.


def draw_figure(args):
    """Train what is missing of a figure, and draw it."""
    args.keep_weights &= not args.plot_only  # drawing needs none
    config = Config(**{name: getattr(args, name) for name in vars(Config())})
    (asked,) = experiments(args, [args.name]).values()
    missing, count = config.missing(asked.runs()), len(set(asked.runs()))
    if args.plot_only and missing:
        raise StoreError(f"{len(missing)} of {count} runs are not in {args.results}: train them")
    explain_engine(missing, config)
    if synthetic := tuple(datasets_missing({run.dataset for run in missing}, args)):
        (asked,) = experiments(args, [args.name], synthetic).values()
    paths = map(config.path, set(asked.runs()))
    if published := sum(path is not None and path.parent == args.published for path in paths):
        print(f"{published} of {count} runs are read from {args.published}", file=sys.stderr)
    args.figures.mkdir(parents=True, exist_ok=True)  # before the training: it may not be possible
    results = complete(asked.runs(), config, args.jobs, args.cluster)
    picture, table = asked.picture(results)
    stem = args.figures / asked.stem()
    return [*report.write_picture(stem, picture), report.write_csv(f"{stem}.csv", table)]


def explain_engine(runs, config):
    """Say why the readable step trains where nobody asked for it; an error if --engine fast did."""
    xp, graphs = load_backend(config.backend), {run.graph() for run in runs}
    for reason in sorted({why_reference(config.engine, graph, xp) for graph in graphs} - {""}):
        if config.engine == "fast":
            command_line().error(f"--engine fast can't be had: {reason}")
        if config.engine is None and config.backend == "numpy":
            print(f"{reason}: the readable step trains, 2 to 9 times as slowly", file=sys.stderr)


def datasets_missing(datasets, args):
    """Data sets that can be neither found nor fetched; only --preset quick goes on without them."""
    for name in sorted(datasets):
        try:
            find_or_fetch(name, args.data)
        except DataUnavailable as error:
            if args.preset != "quick" or f"synthetic-{name}" not in DATASETS:
                raise
            print(f"{error}; quick goes on with synthetic data in its place", file=sys.stderr)
            yield name


def list_figures(args):
    """List for every figure its runs, how many are done, and how long the others take."""
    config = Config(args.results, args.published)
    jobs = args.jobs or CORES
    for name, asked in experiments(args).items():
        count, missing = len(set(asked.runs())), config.missing(asked.runs())
        seconds = [run.cost() for run in missing]
        time = tqdm.format_interval(max([sum(seconds) / jobs, *seconds]))
        left = f"about {time} left with {jobs} jobs" if missing else "done"
        yield f"{name:16} {count - len(missing):3} of {count:3} runs, {left}: {asked.title()}"


def judge_claims(args):
    """Judge the paper's claims from stored runs."""
    (figure_2,) = experiments(args, ["fig2"]).values()
    findings = claims.judge(experiments(args), Config(args.results, args.published).read)
    return claims.write(findings, figure_2, args.figures)


def try_theory(args):
    """Try the paper's lemmas, propositions and theorem."""
    if args.preset not in theory.PRESETS:
        command_line().error(f"theory has the presets {' and '.join(theory.PRESETS)} alone")
    names = ("mnist", "cifar10")
    replaced = names if args.preset == "smoke" else tuple(datasets_missing(names, args))
    return theory.write(args.preset, args.data, args.jobs or CORES, replaced, args.figures)


def main(argv=None):
    """Do what the command line says; exits where that can't be done."""
    sys.stdout.reconfigure(errors="replace")  # a terminal that has no eta gets a question mark
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # workers and files are tidied up
    parser = command_line()
    args = parser.parse_args(argv)
    try:
        for line in args.work(args):
            print(line, flush=True)
    except (DataError, BackendError, StoreError, WorkerError) as error:
        parser.error(str(error))
    except KeyboardInterrupt:
        parser.exit(130, "\ninterrupted: run the same command again to go on from there\n")
    except BrokenPipeError:  # the reader has seen enough, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except OSError as error:
        parser.error(f"a file can't be used: {error}; make room, mend it, or choose another")
    except MemoryError:  # of CuPy too
        parser.error("not enough memory: try fewer --jobs, or a smaller --stack or network")


if __name__ == "__main__":
    main()
