"""Run: everything that determines a run's numbers, and nothing else; its key; grids of runs."""

import hashlib
import itertools
import json
import math
import re
from dataclasses import asdict, dataclass, fields, replace

from minigrad.facts import FACTS
from minigrad.graph import parse
from minigrad.kernels import COMPILED
from minigrad.optim import step_decay

MOST_EPOCHS, MOST_LAYERS, MOST_WEIGHTS = 100_000, 1000, 10**9  # the paper: 2000 epochs, 2e7 weights
VERSION = 1  # raised when the code changes the numbers: old results are then trained anew
# The others of minigrad take targets of -1 and +1, not ten classes.
LOSSES = ("cross_entropy", "mean_squared_error")
INPUTS = {name: facts.inputs for name, facts in FACTS.items()}
SAMPLES = {name: facts.samples for name, facts in FACTS.items()}  # to train on


@dataclass(frozen=True, kw_only=True)
class Run:
    """One training run; the defaults are Section 4.1's settings. ValueError names the rule and the value."""

    network: str = "MLP-BN-10-100"
    dataset: str = "cifar10"
    m: int = 0  # training samples, the same number of every class; 0 is the whole set
    m_test: int = 0  # test samples, likewise
    loss: str = "cross_entropy"
    init: str = "uniform"
    B: int = 128
    eta: float = 0.1
    lam: float = 5e-4
    momentum: float = 0.9
    detached: bool = True  # of batch norm: A is a constant in the backward pass (Section 2.1)
    scalar: bool = True  # of batch norm: one gamma and beta a layer (Eq. 5), not one a unit
    milestones: tuple = (60, 100, 200)
    factor: float = 0.1
    epochs: int = 500
    steps_of_B: int = 0  # an epoch has the steps of a pass in batches of this size; 0: of B
    measure_every: int = 1  # epochs between two measurements, after the first ten
    tail_epochs: int = 0  # so many of the epochs, the last ones, are the tail: each of them is measured
    tail_steps: int = 0  # the steps of an epoch there; 0: those of a pass
    tail_gd: bool = False  # there the batch is the whole training set: gradient descent
    seed: int = 0

    def __post_init__(self):
        for field in fields(self):
            value, kind = getattr(self, field.name), type(field.default)
            if kind is float and isinstance(value, int) and not isinstance(value, bool):
                if abs(value) > 1e300:
                    raise ValueError(f"{field.name} must be a number of usual size")
                object.__setattr__(self, field.name, float(value))  # so that 1 and 1.0 have the same key
            elif kind is tuple and isinstance(value, list):
                object.__setattr__(self, field.name, tuple(value))
            elif type(value) is not kind:
                raise ValueError(f"{field.name} must be of type {kind.__name__}, got {value!r}")
        self._refuse_absurd_sizes()
        parse(self.network, n=1, k=10)  # ValueError for a name that is none
        rules = {
            "dataset": (self.dataset in INPUTS, f"one of {', '.join(INPUTS)}"),
            "loss": (self.loss in LOSSES, f"one of {', '.join(LOSSES)}"),
            "init": (self.init in ("uniform", "he"), "uniform or he"),
            "m": (self.m >= 0 and self.m % 10 == 0, "0 for the whole set, or a multiple of the 10 classes"),
            "m_test": (
                self.m_test >= 0 and self.m_test % 10 == 0,
                "0 for the whole set, or a multiple of the 10 classes",
            ),
            "B": (
                1 <= self.B <= (self.m or SAMPLES.get(self.dataset, self.B)),
                f"at least 1 and at most m={self.m or 'all'}",
            ),
            "eta": (0 < self.eta < math.inf, "a positive number"),
            "lam": (0 <= self.lam < math.inf, "a number >= 0"),
            "momentum": (0 <= self.momentum < 1, "in [0, 1)"),
            "milestones": (all(type(e) is int and e >= 0 for e in self.milestones), "epochs, integers >= 0"),
            "factor": (0 < self.factor <= 1, "in (0, 1]"),
            "detached": (
                self.detached or self.normalized(),
                f"true without batch norm ({self.network} has none)",
            ),
            "scalar": (
                self.scalar or self.normalized(),
                f"true without batch norm ({self.network} has none)",
            ),
            "epochs": (1 <= self.epochs <= MOST_EPOCHS, f"from 1 to {MOST_EPOCHS}"),
            "steps_of_B": (
                0 <= self.steps_of_B <= (self.m or SAMPLES.get(self.dataset, 0)),
                "0 for that of B, or a batch size of at most the training samples",
            ),
            "measure_every": (self.measure_every >= 1, "at least 1"),
            "tail_epochs": (
                0 <= self.tail_epochs < self.epochs,
                f"at least 0 and below epochs={self.epochs}",
            ),
            "tail_steps": (
                0 <= self.tail_steps <= (self.m or SAMPLES.get(self.dataset, 0)),
                "0 for those of a pass, or a number of at most the training samples",
            ),
            "seed": (self.seed >= 0, "an integer >= 0"),
        }
        for name, (holds, rule) in rules.items():
            if not holds:
                raise ValueError(f"{name} must be {rule}, got {getattr(self, name)!r}")
        if not self.tail_epochs and (self.tail_steps or self.tail_gd):
            given = f"tail_steps={self.tail_steps}, tail_gd={self.tail_gd}"
            raise ValueError(f"tail_epochs must be at least 1 for {given}, got 0")
        if self.B == 1 and self.normalized():
            raise ValueError(f"B must be at least 2 for batch norm ({self.network}), got 1")

    def _refuse_absurd_sizes(self):
        """ValueError for what would fill the memory before anything is said."""
        numbers = [int(number) for number in re.findall(r"\d+", self.network)]
        if len(numbers) == 2:
            depth, width = numbers
            weights = width * INPUTS.get(self.dataset, 0) + 2 * depth * width**2  # a block of RES has two
            if depth > MOST_LAYERS or weights > MOST_WEIGHTS:
                most = f"at most {MOST_LAYERS} layers and {MOST_WEIGHTS:,} weights"
                raise ValueError(f"network must have {most}, got {self.network}")

    def graph(self):
        """The network's Graph, on the data set's inputs and 10 classes."""
        return parse(self.network, n=INPUTS[self.dataset], k=10, detached=self.detached, scalar=self.scalar)

    def normalized(self):
        """Whether the network has batch norm."""
        return "-BN-" in self.network

    def samples(self):
        """The number of training samples."""
        return self.m or SAMPLES[self.dataset]

    def begun(self):
        """The number of epochs before the tail."""
        return self.epochs - self.tail_epochs

    def beginning(self):
        """The run of these epochs alone; itself without a tail."""
        return replace(self, epochs=self.begun(), tail_epochs=0, tail_steps=0, tail_gd=False)

    def start(self):
        """The run at whose end this one can start, so that several share it; None where there is none.

        A result has weights and no velocity, which without momentum is not needed.
        """
        return self.beginning() if self.tail_epochs and self.momentum == 0 else None

    def sizes(self, m, epoch):
        """(S, B) of an epoch (from 1) on m samples: its number of steps, and their batch size."""
        if epoch <= self.begun():
            return m // (self.steps_of_B or self.B), self.B
        B = m if self.tail_gd else self.B
        return self.tail_steps or m // B, B

    def steps(self):
        """The number of steps of an epoch before the tail."""
        return self.sizes(self.samples(), 1)[0]

    def eta_steps(self):
        """The sum over all steps of eta_t / eta."""
        decay = [step_decay(1.0, epoch, self.milestones, self.factor) for epoch in range(self.epochs)]
        before, tail = decay[: self.begun()], decay[self.begun() :]
        tail_steps, _ = self.sizes(self.samples(), self.epochs)
        return self.steps() * sum(before) + tail_steps * sum(tail)

    def budget(self):
        """E = sum_t eta_t 2 lambda / (1 - momentum): what nothing refreshes shrinks by exp(-E)."""
        return self.eta_steps() * 2 * self.eta * self.lam / (1 - self.momentum)

    def cost(self):
        """About how many seconds the run takes on one core, by its layers, weights and multiplications."""
        graph = self.graph()
        weights = sum(graph.width(p) * graph.width(q) for p, q in graph.E_T)
        m, m_test = self.samples(), self.m_test or 10_000
        steps = samples = 0
        for epochs, last in ((self.begun(), self.begun()), (self.tail_epochs, self.epochs)):
            S, B = self.sizes(m, last)
            steps += epochs * S
            samples += epochs * S * B
        measured = sum(map(self.measured, range(self.epochs + 1)))
        multiplications = (3 * samples + measured * (m + m_test)) * weights
        by_layer, by_weight = (5e-6, 4e-10) if COMPILED else (4e-5, 1e-9)
        return steps * (by_layer * graph.L + by_weight * weights) + multiplications / 5e10

    def measured(self, epoch):
        """Whether this epoch (0 is before training) is measured.

        So are the first ten, every n-th, the last, and those of the tail with the one before it.
        """
        return epoch <= 10 or epoch % self.measure_every == 0 or epoch >= self.begun()

    def as_dict(self):
        """The fields, JSON's types only."""
        return asdict(self) | {"milestones": list(self.milestones)}

    @property
    def key(self):
        """16 hex digits of the fields that differ from the defaults, so that a new field changes no key."""
        changed = {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) != f.default}
        canonical = json.dumps([VERSION, changed], sort_keys=True)
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def cost_of(runs):
    """About how many seconds runs take on one core; what several of them start from is trained once."""
    starts = [run.start() for run in runs if run.start()]
    trained = sum(run.cost() for run in {*runs, *starts})
    return trained - sum(start.cost() for start in starts)


def grid(base, **axes):
    """Every combination of the axes' values over `base`, the last axis fastest."""
    return [replace(base, **dict(zip(axes, values))) for values in itertools.product(*axes.values())]
