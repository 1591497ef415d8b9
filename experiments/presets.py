"""How much of the paper's runs a preset runs, for each kind of figure."""

from typing import NamedTuple


class Preset(NamedTuple):
    """How a figure is run: what replaces fields of the paper's runs, and the width of its network."""

    seeds: int
    fields: dict = {}
    width: int | None = None
    scaled: bool = False  # whether lambda and the drops of eta follow the number of steps

    def with_fields(self, **more):
        """The same with more fields replaced, or others."""
        return self._replace(fields=self.fields | more)


QUICK_EPOCHS = 10  # as many as let `make fig2` end in five minutes on two cores with Numba, set-up included
SMOKE = Preset(2, {"m": 640, "m_test": 100, "epochs": 2}, width=8, scaled=True)
PREFIXES = {
    "smoke": SMOKE,
    "quick": Preset(1, {"epochs": QUICK_EPOCHS}),
    "night": Preset(3, {"epochs": 100}),
    "paper": Preset(3),
}
NARROW = PREFIXES | {"quick": Preset(1, {"epochs": QUICK_EPOCHS}, width=100)}
WHOLE = PREFIXES | {"night": Preset(3)}
CONVERGENCE = {  # what else was tried for quick: published/README.md
    "smoke": Preset(2, {"m": 60, "m_test": 60, "B": 20, "epochs": 5}, width=8, scaled=True),
    "quick": Preset(2, {"m": 100, "m_test": 100, "B": 20, "measure_every": 20}, width=100, scaled=True),
    "night": Preset(1, {"epochs": 100}),
    "paper": Preset(3),
}
DESCENT = {  # smoke keeps the 5,000 images, which are one of the batches
    "smoke": Preset(2, {"m_test": 100, "epochs": 2}, width=8, scaled=True),
    "quick": Preset(1, {"epochs": 30}),
    "night": Preset(3),
    "paper": Preset(3),
}
MOVING = {  # up to their tails the runs of Figure 1
    "smoke": CONVERGENCE["smoke"].with_fields(epochs=9, tail_epochs=4),
    "quick": CONVERGENCE["quick"],
    "night": CONVERGENCE["night"].with_fields(epochs=200),
    "paper": CONVERGENCE["paper"],
}
PRESETS = tuple(PREFIXES)
