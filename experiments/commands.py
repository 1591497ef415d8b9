"""What each command does; a user's mistake ends in one sentence and status 2."""

import contextlib
import sys
import tempfile
from pathlib import Path

from minigrad import BackendError, DataError
from minigrad.backend import load_backend
from minigrad.fetch import DataUnavailable, find_or_fetch

from . import claims, publish, ranks, theory
from .claims.outcomes import ENOUGH_SEEDS
from .cluster import LOCAL, ClusterError
from .figures import FIGURES
from .options import command_line, parse_settings
from .parallel import Lost, cores
from .plans import Plan
from .runner import Where, complete
from .runs import cost_of
from .samples import load
from .store import StoreError, finished
from .theory.sizes import SIZES


PUBLISHED = "experiments/published/claims-night.md"


class Mistake(Exception):
    """What was asked for can't be done; the message says why."""


def run(argv):
    """Do what the command line says; the exit status, and one sentence for a mistake."""
    parser = command_line()
    args = parser.parse_args(argv)
    try:
        work = COMMANDS.get(args.name, draw_figure)
        work(args)
    except (Mistake, DataError, BackendError, StoreError, Lost, ClusterError, publish.Refusal) as error:
        parser.error(str(error))
    except BrokenPipeError:
        raise
    except OSError as error:
        what = error.filename or "something"
        parser.error(f"{what} can't be used ({error.strerror or error}): mend that, or give another")
    except MemoryError:
        smaller = "a smaller --stack, --jobs, network or data set"
        parser.error(f"there is not enough memory for this: try {smaller}")
    return 0


def draw_figure(args):
    """Train what is missing of a figure, and draw it."""
    plan = _plan(args.name, args)
    load_backend(args.backend)
    if args.jobs and args.cluster not in (None, LOCAL):
        raise Mistake("--jobs is for this machine: on a cluster a run is trained by each worker")
    where = Where(
        args.results, args.data, args.backend, args.keep_weights, stack=args.stack, cluster=args.cluster
    )
    replaced = _replaced(plan, where, args)
    if replaced:
        plan = _plan(args.name, args, replaced)
    absent = _missing(plan, where)
    if args.plot_only and absent:
        missing = f"{len(absent)} of {len(set(plan.runs()))} runs are not in {where.results}"
        raise Mistake(f"{missing}: call it without --plot-only first")
    results = complete(plan.runs(), where, args.jobs)
    with _writing(args.figures):
        _tell(plan.draw(results, args.figures))


def list_figures(args):
    """A line for every figure: its runs, how many the store has, and about how long the others take."""
    jobs = args.jobs or cores()
    for name, plan in _plans(args).items():
        runs = set(plan.runs())
        missing = _missing(plan, Where(args.results))
        left = "done"
        if missing:
            seconds = _seconds_left(missing, args.results, jobs)
            left = f"about {duration(seconds)} left on {jobs} core{'' if jobs == 1 else 's'}"
        print(f"{name:14} {len(runs) - len(missing):3} of {len(runs):3} runs, {left}: {plan.title()}")


def judge_claims(args):
    """Judge the paper's statements from the store."""
    plans = _plans(args)
    found = claims.judge(plans, args.results)
    elsewhere = _published_and_anew(args) if claims.nothing_run(found) else ""
    with _writing(args.figures):
        _tell(claims.write(plans, found, args.figures, elsewhere))
    if elsewhere:
        print(elsewhere, file=sys.stderr)


def _published_and_anew(args):
    """Where the claims are judged from runs that were done, and what it takes to do them all."""
    plans = claims.figures({name: Plan(name, "night", ENOUGH_SEEDS) for name in FIGURES})
    runs = {run for plan in plans.values() for run in plan.runs()}
    # First those whose runs start from another figure's: they store that one's with the weights.
    names = sorted(plans, key=lambda name: not any(run.start() for run in plans[name].runs()))
    return (
        f"{args.results} has none of the runs that this judges; the table from those that we have done is "
        f"{PUBLISHED}. To train all of them takes about {cost_of(runs) / 3600:.0f} hours on one core: "
        f"make {' '.join(names)} PRESET=night SEEDS={ENOUGH_SEEDS}, then make claims with the same."
    )


def publish_results(args):
    """Publish what the store has of a preset."""
    with _writing(args.out):
        _tell(publish.publish(args.preset, args.results, args.out))


def draw_ranks(args):
    """Draw and say what the ranks mean of those runs of Figure 2 that the store has."""
    plans = {name: Plan(name, args.preset) for name in ranks.FIGURES}
    found = ranks.read(plans, args.results)
    if not found:
        missing = f"no run of Figure 2 with the preset {args.preset} is in {args.results}"
        raise Mistake(f"{missing}: train them first, with fig2 --preset {args.preset}")
    with _writing(args.figures):
        _tell(ranks.save(plans, found, args.figures))


def check_theory(args):
    """Check the theory. Nothing that it finds is stored: what may go wrong is tried before the work."""
    with _writing(args.figures):
        Path(args.figures).mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=args.figures).close()
    size = SIZES[args.preset]
    size = size.on(_stand_ins(size.datasets, args))
    for name in size.datasets:
        load(name, args.data, 10, 10)  # damaged data too is told before the work
    found = theory.measure(size, args.data, args.jobs)
    with _writing(args.figures):
        _tell(theory.save(size, found, args.figures))


COMMANDS = {  # any other is a figure
    "list": list_figures,
    "claims": judge_claims,
    "published": publish_results,
    "ranks": draw_ranks,
    "theory": check_theory,
}


# What they share.


def _plan(name, args, stand_ins=()):
    """The Plan of a figure as the options ask for it."""
    try:
        return Plan(name, args.preset, args.seeds, parse_settings(args.set), stand_ins)
    except ValueError as error:
        where = "" if name == args.name else f"{name}: "  # all figures were asked for: which one refuses
        raise Mistake(f"{where}{error}") from None


def _plans(args):
    return {name: _plan(name, args) for name in FIGURES}


def _missing(plan, where):
    """The runs of a plan that the store lacks."""
    runs = dict.fromkeys(plan.runs())
    return [run for run in runs if not finished(where.results, run, where.keep_weights)]


def _replaced(plan, where, args):
    """The data sets that a stand-in replaces, of those that the plan still needs."""
    missing = sorted({run.dataset for run in _missing(plan, where)})
    if not args.plot_only:
        return _stand_ins(missing, args)
    # The store may have been filled without the real data.
    return missing if args.preset == "quick" else []


def _stand_ins(names, args):
    """The data sets that can be neither found nor fetched, which --preset quick replaces; DataError else."""
    replaced = []
    for name in names:
        try:
            find_or_fetch(name, args.data)
        except DataUnavailable as error:
            if args.preset != "quick":
                raise
            print(f"{error}; --preset quick goes on with synthetic-{name} in its place", file=sys.stderr)
            replaced.append(name)
    return replaced


def _seconds_left(missing, results, jobs):
    """About how long these runs take on so many cores, without what they start from if it is there."""
    starts = {run: run.start() for run in missing}
    there = {}
    for start in set(starts.values()) - {None}:
        if finished(results, start, with_weights=True):  # without them it is trained again
            there[start] = start.cost()
    longest = max(run.cost() - there.get(start, 0) for run, start in starts.items())
    return max((cost_of(missing) - sum(there.values())) / jobs, longest)


@contextlib.contextmanager
def _writing(folder):
    """What can't be written in the block, to `folder` at least, is a Mistake."""
    try:
        yield
    except OSError as error:
        place = error.filename or folder
        raise Mistake(
            f"{place} can't be written ({error.strerror}): mend that, then run the same command again"
        ) from None


def _tell(paths):
    for path in paths:
        print(path)


def duration(seconds):
    """As a person would say it: "40 s", "4 min", "3 h", "12 days"."""
    for unit, size in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 1):.0f} s"
