"""The page that says what is published of a preset, and what computed it."""

from collections import Counter

from .. import captions, files

# What computed a run, in the order of the page's last table.
ORIGIN = ("commit", "machine", "python", "numpy", "blas", "backend", "kernels")
WHOLE = ("figure", "files", "whole seeds", "runs done", "computed by")
RUNS = ("setting", "decay budget E", "seed", "epochs", "train accuracy", "average rank")


def page_of(preset, shares, ended, origins):
    """The page as Markdown; `ended` and `origins` are {run: Ended} and {run: its provenance}."""
    runs_of = Counter(origin for provenance in origins.values() for origin in _distinct(provenance))
    numbers = {origin: str(number) for number, origin in enumerate(runs_of, start=1)}

    def by(share):
        found = dict.fromkeys(origin for run in share.done for origin in _distinct(origins[run]))
        return ", ".join(numbers[origin] for origin in found)

    claims = captions.variation("claims", preset, {}, None, ())  # the stem of their table
    parts = [
        f"# Runs of PRESET={preset}",
        f"`make published PRESET={preset}` wrote this page and the files that it names, from one folder of "
        f"results. The claims as judged from that folder: [page]({claims}.md), [CSV]({claims}.csv). A seed "
        "is whole once every setting of the figure is done for it. The numbers under \"computed by\" are "
        "rows of the last table. A run counts for every commit that trained a part of it. E = Σ 2ηλ / (1 − "
        "momentum) over the steps: what no gradient refreshes shrinks by exp(−E), to 1e-4 at E = 9.2. There "
        "are no times: the store keeps none.",
    ]
    whole = [share for share in shares if share.whole]
    if whole:
        rows = [_whole(share, by(share)) for share in whole]
        parts += ["## Figures of which a seed is whole", _table(WHOLE, rows)]
    for share in shares:
        if share.done and not share.whole:
            about = f"{share.plan.title()}: {_done(share)} runs are done, computed by {by(share)}."
            parts += [f"## Not whole: {share.plan.stem()}", about, _table(RUNS, _runs(share.plan, ended))]
    absent = [share.plan.name for share in shares if not share.done and not share.plan.given]
    if absent:
        parts += ["## Not begun", ", ".join(absent)]
    rows = [(numbers[origin], *_shown(origin), str(runs)) for origin, runs in runs_of.items()]
    parts += ["## Computed by", _table(("", *ORIGIN, "runs"), rows)]
    return "\n\n".join(parts) + "\n"


def _distinct(provenance):
    """What computed a run, each once, in order: a run that another machine continued has several."""
    return dict.fromkeys(tuple(origin[name] for name in ORIGIN) for origin in provenance)


def _shown(origin):
    """An origin as the page has it: a commit in ten digits."""
    commit, *others = origin
    return (commit[:10], *others)


def _whole(share, by):
    """The row of a figure of which a seed is whole."""
    stem = share.plan.stem()
    links = f"[picture]({stem}.png), [CSV]({stem}.csv), [spectra]({stem}-spectra.npz)"
    return share.whole.title(), links, f"{share.whole.seeds} of {share.plan.seeds}", _done(share), by


def _done(share):
    return f"{len(share.done)} of {len(set(share.plan.runs()))}"


def _runs(plan, ended):
    """A row for every run of the figure that is done."""
    symbol = captions.SYMBOLS.get(plan.figure.line)
    for title, lines in plan.columns:
        for line in lines:
            label = f"{symbol}\u00a0=\u00a0{line.trained}" if symbol else line.trained
            for run in line.runs:
                if run in ended:
                    yield f"{title}, {label}", f"{run.budget():.3g}", str(run.seed), *_end(ended[run])


def _end(one):
    """Epochs, train accuracy and average rank of a run; one that diverged has neither of the last two."""
    if one.made["diverged"]:
        return f"diverged at {one.meta['epoch']}", "", ""
    accuracy, rank = one.made["train_accuracy"][-1], one.made["rank"][-1]
    return str(one.meta["epoch"]), f"{accuracy:.1f} %", f"{rank:.1f} of {one.made['full_rank']:.1f}"


def _table(header, rows):
    return files.markdown(header, rows).rstrip()
