"""How lines and marks look, and what a legend says of it: colours, dashes and markers that are told apart."""

from typing import NamedTuple

from matplotlib.lines import Line2D

# Okabe and Ito's colours, safe for colour-blind eyes. Six dashes and seven markers: no two of 42 lines
# look alike, even in grey. The triangle that points down and the cross are kept for the marks.
COLOURS = ("#000000", "#0072B2", "#009E73", "#E69F00", "#D55E00", "#CC79A7", "#56B4E9")
DASHES = ("-", (0, (6, 1.5)), (0, (3, 1.2)), (0, (1, 1)), (0, (5, 1, 1, 1)), (0, (3, 1, 1, 1, 1, 1)))
MARKERS = "os^DP*<"
GREY = "0.65"
NEUTRAL = "0.3"  # in a legend: of any colour
DIVERGED, BELOW, ABOVE = "diverged", "below the axis, or 0", "above the axis"
MARKS = {
    DIVERGED: {"marker": "x", "markersize": 5, "markeredgewidth": 1.4},
    BELOW: {"marker": "v", "markersize": 4.5, "markerfacecolor": "white"},
    ABOVE: {"marker": (3, 0, 0), "markersize": 4.5, "markerfacecolor": "white"},
}


class Look(NamedTuple):
    """Places in COLOURS, DASHES and MARKERS. None: no line, no marker; in a legend, any colour."""

    colour: int | None = None
    dash: int | None = None
    marker: int | None = None


class Key(NamedTuple):
    """What a look, or one side of it, means."""

    words: str
    look: Look


def look_of(style):
    """The Look that a line's style is, or is the place of, as the cycles go round."""
    if isinstance(style, Look):
        return style
    return Look(style % len(COLOURS), style % len(DASHES), style % len(MARKERS))


def drawn(look, grey=False):
    """The same as matplotlib takes it; `grey` has the colour alone."""
    colour = NEUTRAL if look.colour is None else COLOURS[look.colour]
    return {
        "color": GREY if grey else colour,
        "linestyle": "" if look.dash is None else DASHES[look.dash],
        "marker": "" if look.marker is None else MARKERS[look.marker],
    }


def handle(key):
    """The legend's handle of a Key; a colour that means something by itself is a bar."""
    if key.look.dash is None and key.look.marker is None:
        return Line2D([], [], label=key.words, color=COLOURS[key.look.colour], linewidth=3, marker="")
    return Line2D([], [], label=key.words, **drawn(key.look))


def heading(words):
    """A handle that draws nothing: its words say what the next ones are of."""
    return Line2D([], [], label=f"{words}:", linestyle="", marker="")


def of_marks(names):
    """The handles of those marks that are among the `names`."""
    return [Line2D([], [], label=m, color=NEUTRAL, linestyle="", **MARKS[m]) for m in MARKS if m in names]
