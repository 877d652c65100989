"""
Data frames in, matplotlib figures out: the columns are those of ``eval.stats``. Reads no files.

Object-oriented API only, so nothing is shown or kept in pyplot's state. Every figure says how many runs it rests on, has
the same colour, dashes and marker for an agent whatever else is drawn, and is narrow with large letters: it can be read
on a phone and in a column of print. Imports neither PyTorch, Stable-Baselines3 nor Gymnasium.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter

from eval.plot_style import (
    GREY,
    facets,
    footnote_text,
    look,
    require,
    row_figure,
    runs_text,
    save,
    steps_text,
    styled,
    wrapped,
)

__all__ = ["facets", "generalisation", "improvement", "intervals", "learning_curves", "look", "profiles", "save"]


def _round_ticks(panel: str | None) -> MaxNLocator:
    """
    :param panel: by which the figure is divided, if it is
    :return: few ticks, fewer where panels stand side by side
    """
    return MaxNLocator(6 if panel is None else 4, steps=[1, 2, 2.5, 5, 10])


def _draw_lines(axes: Axes, frame: pd.DataFrame, agents: Sequence[str], x: str, y: str = "estimate") -> None:
    """
    A line per agent and, where there is an interval, a band. Markers are few, and staggered so that none hides another.

    :param frame: with the columns agent, low, high, ``x`` and ``y``
    """
    for i, agent in enumerate(agents):
        rows = frame[frame["agent"] == agent].sort_values(x)
        if rows.empty:
            continue
        if rows[x].duplicated().any():
            raise ValueError(
                f"each agent must have one row per {x} and panel, got several of {agent!r}: name the panel's column"
            )
        color, dash, marker = look(agent, agents)
        every = max(1, len(rows) // 8)
        start = (i * every // max(1, len(agents))) if len(rows) > 12 else 0
        axes.plot(rows[x], rows[y], color=color, linestyle=dash, marker=marker, markevery=(start, every), label=agent)
        if rows["low"].notna().any():
            axes.fill_between(rows[x], rows["low"], rows["high"], color=color, alpha=0.16, linewidth=0)


def _draw_references(axes: Axes, references: Mapping[str, float] | None, vertical: bool = False) -> None:
    """
    :param references: name -> score, drawn as thin lines across the panel
    """
    words: dict[str, Any] = {"color": GREY, "fontsize": 8, "va": "bottom"}
    middle = (axes.dataLim.x0 + axes.dataLim.x1) / 2
    for i, (name, value) in enumerate((references or {}).items()):
        if vertical:  # each name a line higher than the one before: those of close lines stay apart
            axes.axvline(value, color=GREY, linewidth=0.9, linestyle=(0, (2, 2)))
            place, align = axes.get_xaxis_transform(), "right" if value > middle else "left"
            offset: dict[str, Any] = {"xytext": (0, 2 + 10 * i), "textcoords": "offset points"}
            axes.annotate(name, (value, 1.0), xycoords=place, **offset, ha=align, **words)
        else:  # on either side in turn
            axes.axhline(value, color=GREY, linewidth=0.9, linestyle=(0, (2, 2)))
            place, align = axes.get_yaxis_transform(), "left" if i % 2 else "right"
            axes.text(0.01 if i % 2 else 1.0, value, name, transform=place, ha=align, **words)


def learning_curves(
    curves: pd.DataFrame,
    title: str,
    *,
    agents: Sequence[str] | None = None,
    panel: str | None = None,
    runs: pd.DataFrame | None = None,
    references: Mapping[str, float] | None = None,
    score: str = "score",
    note: str = "line: interquartile mean, band: 95 % interval",
    games: int | None = None,
    share_y: bool = False,
) -> Figure:
    """
    Scores against agent steps.

    :param curves: agent, steps, estimate, low, high, n_runs, and ``panel``
    :param title: of the figure
    :param agents: all of the report, in its order; those of ``curves`` if ``None``
    :param panel: the column by which the figure is divided, such as ``env``
    :param runs: single runs, as thin lines: agent, run, steps, score, and ``panel``
    :param references: name -> score of a horizontal line
    :param score: what the score is called
    :param note: what lines and bands are
    :param games: that make a run's score at a point
    :param share_y: whether all panels have the same y-axis
    :return: the figure
    :raises ValueError: if columns, rows or agents are missing
    """
    order = require(curves, ["agent", "steps", "estimate", "low", "high", "n_runs"], agents)
    if runs is not None:
        require(runs, ["agent", "run", "steps", "score", *([panel] if panel else [])], order)

    def draw(axes: Axes, frame: pd.DataFrame) -> None:
        single = runs if runs is None or panel is None else runs[runs[panel].isin(frame[panel])]
        for keys, group in [] if single is None else single.groupby(["agent", "run"], sort=False):
            agent, rows = str(keys[0]), group.sort_values("steps")
            axes.plot(rows["steps"], rows["score"], color=look(agent, order).color, linewidth=0.6, alpha=0.45)
        _draw_lines(axes, frame, order, "steps")
        _draw_references(axes, references)
        axes.xaxis.set_major_locator(_round_ticks(panel))
        axes.xaxis.set_major_formatter(FuncFormatter(steps_text))

    with styled():
        return facets(
            curves,
            draw,
            title,
            agents=order,
            panel=panel,
            x_label="agent steps",
            y_label=score,
            note=note,
            games=games,
            share_y=share_y,
        )


def generalisation(
    curves: pd.DataFrame,
    title: str,
    *,
    agents: Sequence[str] | None = None,
    panel: str | None = None,
    x: str = "observe_prob",
    x_label: str = "probability that an observation is shown",
    references: Mapping[str, float] | None = None,
    score: str = "share of the normal score kept",
    share: bool = True,
    note: str = "line: interquartile mean, band: 95 % interval",
    games: int | None = None,
    share_y: bool = True,
) -> Figure:
    """
    Scores, or what is left of them, against how much the agent is shown.

    :param curves: agent, ``x``, estimate, low, high, n_runs, and ``panel``
    :param title: of the figure
    :param agents: all of the report, in its order; those of ``curves`` if ``None``
    :param panel: the column by which the figure is divided, such as the condition of training, or ``env``
    :param x: the column of the level of seeing less
    :param x_label: what it is called
    :param references: name -> score of a horizontal line
    :param score: what the score is called
    :param share: whether it is a share, to be written in percent
    :param note: what lines and bands are
    :param games: that make a run's score at a point
    :param share_y: whether all panels have the same y-axis
    :return: the figure
    :raises ValueError: if columns, rows or agents are missing
    """
    order = require(curves, ["agent", x, "estimate", "low", "high", "n_runs"], agents)

    def draw(axes: Axes, frame: pd.DataFrame) -> None:
        _draw_lines(axes, frame, order, x)
        _draw_references(axes, references)
        axes.xaxis.set_major_locator(_round_ticks(panel))
        if share:
            axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))

    with styled():
        return facets(
            curves,
            draw,
            title,
            agents=order,
            panel=panel,
            x_label=x_label,
            y_label=score,
            note=note,
            games=games,
            share_y=share_y,
        )


def profiles(
    frame: pd.DataFrame,
    title: str,
    *,
    agents: Sequence[str] | None = None,
    panel: str | None = None,
    score: str = "score",
    note: str = "band: 95 % interval",
    games: int | None = None,
) -> Figure:
    """
    The share of runs that score above each threshold.

    :param frame: agent, threshold, fraction, low, high, n_runs, and ``panel``
    :param title: of the figure
    :param agents: all of the report, in its order; those of ``frame`` if ``None``
    :param panel: the column by which the figure is divided
    :param score: what the score is called
    :param note: what the bands are
    :param games: that make a run's score
    :return: the figure
    :raises ValueError: if columns, rows or agents are missing
    """
    order = require(frame, ["agent", "threshold", "fraction", "low", "high", "n_runs"], agents)

    def draw(axes: Axes, rows: pd.DataFrame) -> None:
        _draw_lines(axes, rows, order, "threshold", "fraction")
        axes.set_ylim(-0.02, 1.02)
        axes.xaxis.set_major_locator(_round_ticks(panel))
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))

    with styled():
        return facets(
            frame,
            draw,
            title,
            agents=order,
            panel=panel,
            x_label=f"{score} t",
            y_label="runs that score above t",
            note=note,
            games=games,
            share_y=True,
        )


def _draw_interval(axes: Axes, row: int, entry: pd.Series, color: str, marker: str) -> None:
    """
    :param row: its place
    :param entry: estimate, low and high; no whisker where these are NaN
    """
    if math.isfinite(entry["low"]):
        axes.plot([entry["low"], entry["high"]], [row, row], color=color, linewidth=2.4, solid_capstyle="butt")
    axes.plot([entry["estimate"]], [row], color=color, marker=marker, markersize=7.5, linestyle="none")


def _limits(estimates: pd.DataFrame, scores: Sequence[float]) -> tuple[float, float]:
    """
    Find an axis on which the estimates can be told apart, though the interval of one may be a hundred times as wide.

    :param estimates: estimate, low, high
    :param scores: all else that has to be seen
    :return: the ends beyond which intervals are cut
    """
    points = [*estimates["estimate"], *scores]
    widths = sorted((estimates["high"] - estimates["low"]).dropna())
    # Of the narrower half of the intervals: one wide one must not decide
    reach = max(max(points) - min(points), widths[(len(widths) - 1) // 2] if widths else 0.0)
    return (min(points) - reach, max(points) + reach) if reach > 0 else (-math.inf, math.inf)


def _cut(axes: Axes, row: int, entry: pd.Series, limits: tuple[float, float], color: str) -> pd.Series:
    """
    Draw arrows where an interval goes beyond the limits.

    :param row: its place
    :param entry: estimate, low and high
    :param limits: as :func:`_limits` has them
    :return: the entry, cut
    """
    low, high = limits
    for is_beyond, end, marker in ((entry["low"] < low, low, "<"), (entry["high"] > high, high, ">")):
        if is_beyond:
            axes.plot([end], [row], color=color, marker=marker, markersize=6, linestyle="none", gid="cut")
    cut = entry.copy()
    cut["low"], cut["high"] = np.clip([entry["low"], entry["high"]], low, high)
    return cut


def intervals(
    estimates: pd.DataFrame,
    title: str,
    *,
    agents: Sequence[str] | None = None,
    runs: pd.DataFrame | None = None,
    references: Mapping[str, float] | None = None,
    score: str = "score",
    note: str = "marker: interquartile mean, bar: 95 % interval",
    games: int | None = None,
) -> Figure:
    """
    A row per agent: estimate, interval, and the single runs as dots below. Intervals that would leave no room for the others
    are cut, with an arrow.

    :param estimates: agent, estimate, low, high, n_runs
    :param title: of the figure
    :param agents: all of the report, in its order, which is the rows'; those of ``estimates`` if ``None``
    :param runs: single runs: agent, score
    :param references: name -> score of a vertical line
    :param score: what the score is called
    :param note: what marker and bar are
    :param games: that make a run's score
    :return: the figure
    :raises ValueError: if columns, rows or agents are missing
    """
    order = require(estimates, ["agent", "estimate", "low", "high", "n_runs"], agents)
    if runs is not None:
        require(runs, ["agent", "score"], order)
    drawn = [agent for agent in order if agent in set(estimates["agent"])]
    entries = {str(entry["agent"]): entry for _, entry in estimates.iterrows()}
    if len(entries) < len(estimates):
        raise ValueError(f"estimates must have one row per agent, got {len(estimates)} for {len(entries)} agents")
    several = estimates["n_runs"].nunique() > 1
    labels = [wrapped(agent, 24) + (f"\nn = {entries[agent]['n_runs']}" if several else "") for agent in drawn]
    what = note + ("; dots: single runs" if runs is not None else "")
    limits = _limits(estimates, [*(references or {}).values(), *([] if runs is None else runs["score"])])
    if (estimates["low"] < limits[0]).any() or (estimates["high"] > limits[1]).any():
        what += "; arrow: it goes on"
    footnote = footnote_text([what, runs_text(estimates, games)], 80)
    with styled():
        figure, axes = row_figure(labels, title, footnote, lines_above=len(references or {}))
        for row, agent in enumerate(drawn):
            color, _, marker = look(agent, order)
            _draw_interval(axes, row, _cut(axes, row, entries[agent], limits, color), color, marker)
            if runs is not None:
                dots = runs.loc[runs["agent"] == agent, "score"]
                axes.plot(dots, np.full(len(dots), row + 0.27), ".", color=color, alpha=0.55, markersize=5.5)
        _draw_references(axes, references, vertical=True)
        axes.set_xlabel(score)
        axes.xaxis.set_major_locator(_round_ticks(None))
    return figure


def improvement(
    frame: pd.DataFrame,
    title: str,
    *,
    agents: Sequence[str] | None = None,
    note: str = "bar: 95 % interval",
    games: int | None = None,
) -> Figure:
    """
    A row per pair: how probable it is that a run of the first agent scores above a run of the second.

    :param frame: agent, other, estimate, low, high, n_runs, n_other
    :param title: of the figure
    :param agents: all of the report, in its order; those of ``frame`` if ``None``
    :param note: what the bar is
    :param games: that make a run's score
    :return: the figure
    :raises ValueError: if columns, rows or agents are missing
    """
    order = require(frame, ["agent", "other", "estimate", "low", "high", "n_runs", "n_other"], agents)
    labels = [f"{wrapped(one, 22)}\nover {wrapped(two, 22)}" for one, two in zip(frame["agent"], frame["other"], strict=True)]
    with styled():
        figure, axes = row_figure(labels, title, footnote_text([note, runs_text(frame, games)], 80))
        axes.axvline(0.5, color=GREY, linewidth=0.9, linestyle=(0, (2, 2)))
        for row, (_, entry) in enumerate(frame.iterrows()):
            color, _, marker = look(entry["agent"], order)
            _draw_interval(axes, row, entry, color, marker)
        axes.set_xlim(-0.03, 1.03)
        axes.set_xlabel("probability that the first scores more")
        axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    return figure
