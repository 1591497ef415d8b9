"""What a results folder has of a figure, and what is published of a run."""

from typing import NamedTuple

from ..plans import Plan
from ..results import View, history
from ..store import finished, read_result


class Share(NamedTuple):
    """What a results folder has of a figure."""

    plan: Plan  # all of it; its stem names the files, however many seeds are whole, so that links stay
    done: list  # its runs that are finished
    whole: Plan | None  # it with the seeds, from 0 on, that all its settings have; None without one


class Ended(NamedTuple):
    """What is published of a finished run: its meta, its history, {name: singular values (r,), float32}."""

    meta: dict
    made: dict
    spectra: dict


def share_of(plan, results):
    """The Share of a figure with all its seeds."""
    runs = dict.fromkeys(plan.runs())
    done = [run for run in runs if finished(results, run)]
    lacking = {run.seed for run in set(runs).difference(done)}
    seeds = min(lacking, default=plan.seeds)
    return Share(plan, done, Plan(plan.name, plan.preset, seeds, plan.given) if seeds else None)


def read_run(results, run):
    """The run as Ended; StoreError as for read_result."""
    meta, arrays = read_result(results, run)
    spectra = {name: values[-1] for name, values in arrays.items() if name.startswith("spectrum ")}
    return Ended(meta, history(meta, arrays, View()), spectra)
