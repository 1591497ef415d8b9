"""Run: everything that determines a run's numbers, and nothing else; its key."""

import functools
import hashlib
import json
from dataclasses import dataclass, fields

import numpy

import minigrad as mg
from minigrad.datasets import DATASETS
from minigrad.fingerprint import fingerprint

VERSION = 1  # raised when the code changes the numbers: old results are then trained anew
RULES = (  # minigrad.fingerprint.fingerprint() of the rules as shipped
    2.47671136019, 15.6675126256, 1.69460321847, 83.2421936335, 2.58026164057, 7.83895529884,
    0.855395717986, 7.66211328303, 1.81767115899, 12.7225300452, 2.16427642854, 11.7085498951,
    15.35699277, 15.3682666001, 5.85962744714, 17.4564651463, 16.5893140196, 6.94673921966,
    0.1114075, 429.225, 2029.34974227, 586.12900626,
)
LOSSES = ("cross_entropy", "mean_squared_error")  # the other two take targets -1 and +1

graph_of = functools.cache(mg.parse)  # one Graph for all runs of a network: nobody changes it


@dataclass(frozen=True, kw_only=True)
class Run:
    """One training run; the defaults are Section 4.1's. ValueError names rule and value."""

    network: str = "MLP-BN-10-100"
    dataset: str = "cifar10"
    m: int = 0  # training samples, equally many of every class; 0: all
    m_test: int = 0  # test samples, likewise
    loss: str = "cross_entropy"
    init: str = "uniform"
    B: int = 128
    eta: float = 0.1
    lam: float = 5e-4
    momentum: float = 0.9
    detached: bool = True  # batch norm: A is a constant in the backward pass (Section 2.1)
    scalar: bool = True  # batch norm: one gamma and one beta a layer (Eq. 5), not one a unit
    milestones: tuple = (60, 100, 200)
    factor: float = 0.1
    epochs: int = 500
    steps_of_B: int = 0  # an epoch has the steps of a pass in batches of this size; 0: of B
    measure_every: int = 1  # epochs between two measurements, after the first ten
    seed: int = 0

    def __post_init__(self):
        for field in fields(self):
            value, kind = getattr(self, field.name), type(field.default)
            if (kind, type(value)) in ((float, int), (tuple, list)):
                value = kind(value)  # so that 1 and 1.0 have the same key
            if type(value) is not kind:
                raise ValueError(f"{field.name} must be of type {kind.__name__}, got {value!r}")
            object.__setattr__(self, field.name, value)
        graph_of(self.network, n=1, k=10)  # ValueError for a name of no network
        known = self.dataset in DATASETS
        m = self.samples() if known else self.B
        tens = "0 for all, or a multiple of the 10 classes"
        normalized = self.normalized()
        drops_are_whole = all(type(epoch) is int and epoch >= 0 for epoch in self.milestones)
        rules = {  # field: whether its value is allowed, the rule in words; float32 ends at 3e38
            "dataset": (known, f"one of {', '.join(DATASETS)}"),
            "loss": (self.loss in LOSSES, f"one of {', '.join(LOSSES)}"),
            "init": (self.init in ("uniform", "he"), "uniform or he"),
            "m": (self.m >= 0 and self.m % 10 == 0, tens),
            "m_test": (self.m_test >= 0 and self.m_test % 10 == 0, tens),
            "B": ((2 if normalized else 1) <= self.B <= m, f"from 1 (batch norm: 2) to m={m}"),
            "eta": (0 < self.eta < 1e38, "above 0 and below 1e38"),
            "lam": (0 <= self.lam < 1e38, "at least 0 and below 1e38"),
            "momentum": (0 <= numpy.float32(self.momentum) < 1, "in [0, 1) in float32"),
            "detached": (self.detached or normalized, "true without batch norm"),
            "scalar": (self.scalar or normalized, "true without batch norm"),
            "milestones": (drops_are_whole, "epochs, integers >= 0"),
            "factor": (0 < self.factor <= 1, "in (0, 1]"),
            "epochs": (self.epochs >= 1, "at least 1"),
            "steps_of_B": (0 <= self.steps_of_B <= m, f"0 for B's own, or at most m={m}"),
            "measure_every": (self.measure_every >= 1, "at least 1"),
            "seed": (self.seed >= 0, "an integer >= 0"),
        }
        for name, (holds, rule) in rules.items():
            if not holds:
                raise ValueError(f"{name} must be {rule}, got {getattr(self, name)!r}")

    def graph(self):
        """The network's Graph, on the data set's inputs and 10 classes."""
        n = DATASETS[self.dataset].inputs
        return graph_of(self.network, n=n, k=10, detached=self.detached, scalar=self.scalar)

    def normalized(self):
        """Whether the network has batch norm."""
        return "-BN-" in self.network

    @property
    def batchnorm(self):
        """The variant of batch norm, in words."""
        if not self.normalized():
            return "no batch norm"
        if self.detached:
            return "the memo's text" if self.scalar else "detached, γ, β per unit"
        return "true gradient" if self.scalar else "standard batch norm"

    def samples(self):
        """The number m of training samples."""
        return self.m or DATASETS[self.dataset].samples

    def steps(self):
        """The number of SGD steps of an epoch."""
        return self.samples() // (self.steps_of_B or self.B)

    def eta_steps(self):
        """The sum over all steps of eta_t / eta."""
        total = 0.0  # term by term: from Python 3.12 on, sum() has other last bits, hence keys
        for epoch in range(self.epochs):
            total += mg.step_decay(1.0, epoch, self.milestones, self.factor)
        return self.steps() * total

    def budget(self):
        """E = sum_t eta_t 2 lambda / (1 - momentum): weights without gradient shrink by exp(-E)."""
        return self.eta_steps() * 2 * self.eta * self.lam / (1 - self.momentum)

    def measured(self, epoch):
        """Whether an epoch (0: before training) is measured: the first 10, every n-th, the last."""
        return epoch <= 10 or epoch % self.measure_every == 0 or epoch == self.epochs

    def cost(self):
        """A rough number of seconds on one core, by steps, layers, weights and batch size."""
        graph = self.graph()
        weights = sum(graph.width(p) * graph.width(q) for p, q in graph.E_T)
        step = 5e-6 * graph.L + (4e-10 + 7e-11 * self.B) * weights
        return self.epochs * (2e-3 + self.steps() * step)

    @property
    def key(self):
        """16 hex digits of the fields that differ from the defaults, and of changed rules."""
        changed = {k: v for k, v in vars(self).items() if v != getattr(type(self), k)}
        rules = [changed_rules()] if changed_rules() else []
        canonical = json.dumps([VERSION, changed, *rules], sort_keys=True)
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]


@functools.cache
def changed_rules():
    """Empty for minigrad's rules as shipped, else six digits of each number of fingerprint()."""
    numbers = fingerprint()
    if len(numbers) == len(RULES) and numpy.allclose(numbers, RULES, rtol=1e-9, atol=0):
        return ""
    return " ".join(f"{number:.5e}" for number in numbers)
