"""How every figure looks, and the words that several of them share."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from textwrap import TextWrapper
from typing import Any, NamedTuple, TypeAlias

import matplotlib.style
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

# Okabe and Ito's colours, which the colour-blind tell apart, less their yellow, which paper swallows.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#56B4E9", "#E69F00")
DASHES = ("-", (0, (5, 1.5)), (0, (5, 1.5, 1, 1.5)), (0, (1.5, 1.2)), (0, (8, 1.5, 1, 1.5, 1, 1.5)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "h")
GREY = "0.35"

STYLE = {
    "font.size": 10.0,
    "axes.titlesize": 10.0,
    "axes.titlelocation": "left",
    "axes.labelsize": 10.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "0.9",
    "xtick.labelsize": 9.0,
    "ytick.labelsize": 9.0,
    "legend.fontsize": 9.0,
    "legend.frameon": False,
    "lines.linewidth": 1.7,
    "lines.markersize": 4.2,
    "figure.dpi": 100.0,
    "savefig.dpi": 200.0,
    "svg.fonttype": "path",  # no viewer has to own the font
    "svg.hashsalt": "eval",  # or ids would be random
}

WIDTH, PANEL_HEIGHT, ROW_HEIGHT, LINE_HEIGHT = 4.8, 2.7, 0.46, 0.19  # inches
FACET_WIDTH, FACET_HEIGHT = 5.4, 2.15  # inches, of two columns and of one row
WRAP = 34  # letters of an agent's name on a line

Draw: TypeAlias = Callable[[Axes, pd.DataFrame], None]


@contextmanager
def styled() -> Iterator[None]:
    """Draw in this style, whatever the user's own settings are."""
    with matplotlib.style.context(["default", STYLE]):
        yield


def wrapped(text: object, width: int) -> str:
    """
    :param text: to stand on lines
    :param width: of a line, in letters
    :return: it, broken at spaces where there are any
    """
    return "\n".join(TextWrapper(width, break_on_hyphens=False).wrap(str(text)))


class Look(NamedTuple):
    """How an agent is drawn."""

    color: str
    dash: Any  # matplotlib's line style
    marker: str


def look(agent: str, agents: Sequence[str]) -> Look:
    """
    :param agent: one of ``agents``
    :param agents: all of a report, always in the same order
    :return: its look, different from those of the others (of up to 35 agents in colour and dashes)
    :raises ValueError: if it is not one of them
    """
    if agent not in agents:
        raise ValueError(f"agents must name every agent that is drawn, got {list(agents)} without {agent!r}")
    i = list(agents).index(agent)
    dash = DASHES[(i + i // len(COLORS)) % len(DASHES)]
    return Look(COLORS[i % len(COLORS)], dash, MARKERS[i % len(MARKERS)])


def steps_text(steps: float, _: object = None) -> str:
    """
    :param steps: a number of steps
    :return: it in thousands, millions or billions: ``250k``, ``1.5M``
    """
    for unit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(steps) >= unit:
            return f"{steps / unit:.4g}{letter}"
    return f"{steps:.4g}"


def runs_text(frame: pd.DataFrame, games: int | None = None) -> str:
    """
    :param frame: with the column ``n_runs``, and perhaps ``n_other`` and ``n_tasks``
    :param games: that make a run's score, if it is to be said
    :return: how many runs, tasks and games the figure rests on
    """
    columns = [column for column in ("n_runs", "n_other") if column in frame]
    low, high = int(frame[columns].min().min()), int(frame[columns].max().max())
    text = f"n = {low} run{'s' if low > 1 else ''}" if low == high else f"n = {low} to {high} runs"
    tasks = int(frame["n_tasks"].max()) if "n_tasks" in frame else 1
    text += f" on each of {tasks} tasks" if tasks > 1 else ""
    text += f", {games} games each" if games else ""
    return text + ("; no interval for a single run" if low == 1 else "")


def require(frame: pd.DataFrame, columns: Sequence[str], agents: Sequence[str] | None) -> list[str]:
    """
    :param frame: to be drawn
    :param columns: that it must have
    :param agents: all of the report, or ``None`` for those of the frame as they come
    :return: agents
    :raises ValueError: if a column or all rows are missing, or an agent is not among ``agents``
    """
    missing = [column for column in columns if column not in frame]
    if missing:
        raise ValueError(f"the data frame must have the columns {list(columns)}, got {list(frame)} without {missing}")
    if frame.empty:
        raise ValueError("the data frame must have at least one row, got none")
    present = list(dict.fromkeys(frame["agent"]))
    everyone = list(present if agents is None else agents)
    for agent in present:
        look(agent, everyone)
    return everyone


def footnote_text(parts: Sequence[str], width: int) -> str:
    """
    :param parts: each to start on a line of its own; empty ones are left out
    :param width: of a line, in letters
    :return: the lines
    """
    return "\n".join(wrapped(part, width) for part in parts if part)


def _legend(figure: Figure, frame: pd.DataFrame, agents: Sequence[str], footnote: str) -> None:
    """
    The agents below the panels, with the footnote as the legend's title.

    :param frame: what is drawn, with the column ``n_runs``
    """
    several = frame["n_runs"].nunique() > 1
    handles, labels = [], []
    for agent in [agent for agent in agents if agent in set(frame["agent"])]:
        color, dash, marker = look(agent, agents)
        handles.append(Line2D([], [], color=color, linestyle=dash, marker=marker))
        counts = frame.loc[frame["agent"] == agent, "n_runs"]
        count = f"{counts.min()}" if counts.min() == counts.max() else f"{counts.min()} to {counts.max()}"
        labels.append(wrapped(f"{agent} (n = {count})" if several else agent, WRAP))
    figure.legend(
        handles,
        labels,
        loc="outside lower left",
        ncols=_legend_columns(labels),
        title=footnote,
        title_fontsize=8.5,
        alignment="left",
        handlelength=3.2,
    )


def _legend_columns(names: Sequence[str]) -> int:
    """
    :param names: in the legend
    :return: how many stand side by side
    """
    longest = max(len(name) for name in names)
    return min(len(names), 3 if longest < 12 else 2 if longest < 20 else 1)


def _grid(panels: Sequence[str], title: str, extra_height: float, share_y: bool) -> tuple[Figure, list[Axes]]:
    """
    :param panels: their titles; one panel shows none
    :param extra_height: inches below the panels
    :return: the figure and an axes per panel
    """
    columns = min(2, len(panels))
    rows = math.ceil(len(panels) / columns)
    width = WIDTH if columns == 1 else FACET_WIDTH
    text = wrapped(title, int(width * 11))
    height = (PANEL_HEIGHT if columns == 1 else rows * FACET_HEIGHT) + extra_height + LINE_HEIGHT * (2 + text.count("\n"))
    figure = Figure(figsize=(width, height), layout="constrained")
    figure.suptitle(text, x=0.012, ha="left", fontsize=11, fontweight="bold")
    grid = figure.subplots(rows, columns, squeeze=False, sharey=share_y).ravel()
    for axes in grid[len(panels) :]:
        axes.remove()
    for axes, name in zip(grid, panels, strict=False):
        if len(panels) > 1:
            axes.set_title(wrapped(name, 26))
    return figure, list(grid[: len(panels)])


def facets(
    frame: pd.DataFrame,
    draw: Draw,
    title: str,
    *,
    agents: Sequence[str],
    panel: str | None = None,
    x_label: str = "",
    y_label: str = "",
    note: str = "",
    games: int | None = None,
    share_y: bool = False,
) -> Figure:
    """
    Small multiples, two side by side, with one legend and one footnote that says n.

    :param frame: with the columns agent and n_runs, and ``panel``
    :param draw: draws the rows of one panel
    :param title: of the figure
    :param agents: all of the report, in its order
    :param panel: the column by which the figure is divided, in order of appearance; ``None`` for one panel
    :param x_label: of each column's lowest panel
    :param y_label: of each row's first panel
    :param note: what lines and bands are, for the footnote
    :param games: that make a run's score, if the footnote shall say it
    :param share_y: whether all panels have the same y-axis
    :return: the figure
    """
    require(frame, ["agent", "n_runs", *([panel] if panel else [])], agents)
    names = [""] if panel is None else [str(name) for name in dict.fromkeys(frame[panel])]
    footnote = footnote_text([note, runs_text(frame, games)], 80 if len(names) == 1 else 90)
    drawn = list(dict.fromkeys(frame["agent"]))
    lines = sum(len(name) // WRAP + 1 for name in drawn) / _legend_columns(drawn) + footnote.count("\n") + 1
    figure, grid = _grid(names, title, LINE_HEIGHT * lines, share_y)
    for i, (axes, name) in enumerate(zip(grid, names, strict=True)):
        draw(axes, frame if panel is None else frame[frame[panel].astype(str) == name])
        if i + 2 >= len(grid):
            axes.set_xlabel(x_label if len(grid) == 1 else wrapped(x_label, 26))
        if i % 2 == 0:
            axes.set_ylabel(wrapped(y_label, 36 if len(grid) == 1 else 22))
    _legend(figure, frame, agents, footnote)
    return figure


def row_figure(labels: Sequence[str], title: str, footnote: str, lines_above: int = 0) -> tuple[Figure, Axes]:
    """
    :param labels: of the rows, from the top
    :param title: of the figure
    :param footnote: below the panel
    :param lines_above: of words between the title and the panel, for which there shall be room
    :return: the figure and its axes, with room for a row at 0, 1 and so on
    """
    text = wrapped(title, int(WIDTH * 11))
    row_height = max(ROW_HEIGHT, 0.1 + 0.16 * max(label.count("\n") + 1 for label in labels))
    height = row_height * len(labels) + LINE_HEIGHT * (text.count("\n") + footnote.count("\n") + lines_above + 1) + 0.85
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    figure.suptitle(text, x=0.012, ha="left", fontsize=11, fontweight="bold")
    figure.supxlabel(footnote, x=0.012, ha="left", fontsize=8.5)
    axes = figure.subplots()
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.45, -0.55)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", visible=False)
    axes.spines["left"].set_visible(False)
    return figure, axes


def save(figure: Figure, path: Path | str) -> None:
    """
    Write a PNG and an SVG. The same figure gives the same bytes: no date, no random ids, no program's name.

    :param figure: to be written
    :param path: without suffix; its folder must exist
    """
    with styled():
        figure.savefig(f"{path}.svg", metadata={"Date": None, "Creator": None})
        figure.savefig(f"{path}.png", metadata={"Software": None})
