"""The one command line: python -m experiments NAME [--preset ...]; a user's mistake ends in one sentence and status 2."""

import argparse
import contextlib
import functools
import sys
import tempfile
from dataclasses import fields
from pathlib import Path


class Parser(argparse.ArgumentParser):
    """argparse, whose errors are one sentence."""

    def error(self, message):
        self.exit(2, f"{self.prog}: {message}\n")


def main(argv=None):
    """Do what the command line says; the exit status."""
    try:
        return work(argv)
    except KeyboardInterrupt:
        print("\ninterrupted: run the same command again, which trains no stored run anew", file=sys.stderr)
        return 130


def work(argv):
    """Train what is missing and draw; the exit status."""
    from minigrad import BackendError, DataError
    from minigrad.backend import BACKENDS, load_backend

    from . import claims, theory
    from .figures import FIGURES, PRESETS, Plan
    from .parallel import Lost
    from .runner import Where, complete, finished, load
    from .store import StoreError
    from .theory.sizes import SIZES

    parser = Parser(prog="python -m experiments", description="Train what is missing and draw one of the paper's figures.")
    parser.add_argument("name", metavar="NAME", choices=(*FIGURES, "theory", "claims", "list"), help=(
        f"{', '.join(FIGURES)}; theory: its lemmas, propositions and theorem, checked; "
        "claims: the paper's statements judged from the store; list: what is done and what is left"
    ))
    parser.add_argument("--preset", choices=PRESETS, default="quick", help=(
        "smoke: seconds, synthetic data; quick: minutes on two cores (the default); "
        "night: the paper's runs, stopped at epoch 100; paper: the paper's setting"
    ))
    parser.add_argument("--backend", choices=BACKENDS, default="numpy")
    parser.add_argument("--data", metavar="DIR", help="where the data sets lie or are downloaded to (default: $MINIGRAD_DATA, then ./data)")
    parser.add_argument("--results", metavar="DIR", default="results", help="the store of runs")
    parser.add_argument("--figures", metavar="DIR", default="figures", help="where pictures and CSV files go")
    parser.add_argument("--seeds", metavar="N", type=int, help="how often every run is repeated")
    parser.add_argument("--jobs", metavar="N", type=int, help="runs at a time (default: one per core; one on a GPU)")
    parser.add_argument("--set", metavar="FIELD=VALUE[,VALUE...]", action="append", default=[], help="another value for a field of a run or of its measures; repeat for more fields")
    parser.add_argument("--plot-only", action="store_true", help="draw from the store, train nothing")
    parser.add_argument("--keep-weights", action="store_true", help="store the final weights too")
    args = parser.parse_args(argv)
    try:
        if args.jobs is not None and args.jobs < 1:
            raise ValueError(f"--jobs must be at least 1, got {args.jobs}")
        if args.name == "theory":
            refuse_for_theory(args, parser)
        load_backend(args.backend)
        where = Where(args.results, args.data, args.backend, args.keep_weights)
        chosen = {"preset": args.preset, "seeds": args.seeds, "settings": parse_settings(args.set)}
        names = [args.name] if args.name in FIGURES else FIGURES
        every = {name: plan_of(name, args.name, chosen) for name in names}
    except (ValueError, BackendError) as error:
        parser.error(str(error))
    try:
        if args.name == "list":
            print("\n".join(overview(every, where, args.jobs)))
            return 0
        if args.name == "claims":
            outcome, draw = claims.judge(every, where), functools.partial(claims.write, every)
        elif args.name == "theory":
            with writing(args.figures, parser):  # before the work: what it finds is not stored, and would be lost
                Path(args.figures).mkdir(parents=True, exist_ok=True)
                tempfile.TemporaryFile(dir=args.figures).close()
            size = SIZES[args.preset]
            size = size.on(stand_ins(size.datasets, where, args.preset))
            for name in size.datasets:
                load(name, where.data, 10, 10)  # damaged data too is told before the work
            outcome, draw = theory.measure(size, where.data, args.jobs), functools.partial(theory.save, size)
        else:
            plan = with_data(every[args.name], chosen, where, args.plot_only)
            absent = [run for run in plan.runs() if not finished(run, where)]
            if args.plot_only and absent:
                parser.error(f"{len(absent)} of {len(plan.runs())} runs are not in {where.results}: call it without --plot-only first")
            outcome, draw = complete(plan.runs(), where, args.jobs), plan.draw
        with writing(args.figures, parser):
            for path in draw(outcome, args.figures):
                print(path)
    except (DataError, BackendError, StoreError, Lost) as error:
        parser.error(str(error))
    return 0


def plan_of(name, asked, chosen):
    """The Plan of a figure; where all of them were asked for, an error says which one refuses."""
    from .figures import Plan

    try:
        return Plan(name, **chosen)
    except ValueError as error:
        raise error if name == asked else ValueError(f"{name}: {error}") from None


@contextlib.contextmanager
def writing(folder, parser):
    """What can't be written in the block, to `folder` at least, is one sentence."""
    try:
        yield
    except OSError as error:
        parser.error(f"{error.filename or folder} can't be written ({error.strerror}): mend that, then run the same command again")


def overview(plans, where, jobs):
    """A line for every plan: its runs, how many the store has, and about how long the others take."""
    from .parallel import cores
    from .runner import cost, finished

    jobs = jobs or cores()
    for name, plan in plans.items():
        runs = set(plan.runs())
        missing = [cost(run) for run in runs if not finished(run, where)]
        left = f"about {duration(max(sum(missing) / jobs, max(missing)))} left on {jobs} cores" if missing else "done"
        yield f"{name:14} {len(runs) - len(missing):3} of {len(runs):3} runs, {left}: {plan.title()}"


def duration(seconds):
    """As a person would say it: "40 s", "4 min", "3 h", "12 days"."""
    for unit, size in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 1):.0f} s"


def with_data(plan, chosen, where, plot_only):
    """`plan`, once the data sets it still needs are here; with --preset quick, stand-ins for those that can't be had."""
    from .runner import finished

    missing = sorted({run.dataset for run in plan.runs() if not finished(run, where)})
    if plot_only:  # the store may have been filled without the real data
        replaced = missing * (plan.preset == "quick")
    else:
        replaced = stand_ins(missing, where, plan.preset)
    return type(plan)(plan.name, **chosen, stand_ins=replaced) if replaced else plan


def stand_ins(names, where, preset):
    """Those of the data sets that can be neither found nor fetched, which --preset quick replaces; DataError else."""
    from minigrad.fetch import DataUnavailable, find_or_fetch

    replaced = []
    for name in names:
        try:
            find_or_fetch(name, where.data)
        except DataUnavailable as error:
            if preset != "quick":
                raise
            print(f"{error}; --preset quick goes on with synthetic-{name} in its place", file=sys.stderr)
            replaced.append(name)
    return replaced


def refuse_for_theory(args, parser):
    """ValueError for what theory doesn't take: it decides ranks in float64 on the CPU, with settings of its own, and stores no runs."""
    given = [name for name in ("backend", "results", "seeds", "set", "plot_only", "keep_weights") if getattr(args, name) != parser.get_default(name)]
    if given:
        raise ValueError(f"theory takes --preset, --data, --figures and --jobs only, got --{given[0].replace('_', '-')}")
    if args.preset in ("night", "paper"):
        raise ValueError("the memo has no settings for its theory: use --preset quick or smoke")


def parse_settings(texts):
    """["B=64", "lam=0,1e-4"] -> {"B": 64, "lam": (0.0, 1e-4)}: fields of Run and View, several values as a tuple."""
    from .figures import POINTS
    from .results import View
    from .runs import Run

    kinds = {f.name: type(f.default) for f in fields(Run) + fields(View)} | dict.fromkeys(POINTS, str)
    settings = {}
    for text in texts:
        name, _, values = text.partition("=")
        if name not in kinds or name == "seed" or not values:
            known = ", ".join(n for n in kinds if n != "seed")
            raise ValueError(f"--set takes FIELD=VALUE with FIELD one of {known}; got {text!r}")
        kind = kinds[name]
        try:
            parsed = tuple(_parse(kind, value) for value in values.split(","))
        except ValueError:
            defaults = {f.name: f.default for f in fields(Run) + fields(View)}
            example = str(defaults[name]).lower() if kind is bool else defaults[name]
            raise ValueError(f"--set {text}: {name} takes values like {example}") from None
        settings[name] = parsed if kind is tuple or len(parsed) > 1 else parsed[0]
    return settings


def _parse(kind, value):
    if kind is bool:
        if value not in ("true", "false"):
            raise ValueError(value)
        return value == "true"
    return int(value) if kind is tuple else kind(value)


if __name__ == "__main__":
    sys.exit(main())
