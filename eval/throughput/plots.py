"""The picture of the results. Reads no files; imports neither PyTorch nor Stable-Baselines3."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from eval.throughput.contestants import HIGHLIGHTED
from eval.throughput.report import Results, number, summaries

ROW_HEIGHT, HEAD_HEIGHT = 0.32, 1.1  # inches


def draw_measurement(axes: Axes, measurement: Mapping[str, Any]) -> None:
    """
    Draw medians as dots, the range of the rounds as whiskers, the number of rounds beside them.

    The scale is logarithmic: equal ratios are equally far apart. It has no zero for bars to begin at.

    :param axes: where to draw
    :param measurement: of the results
    """
    by_name, entries = summaries(measurement), measurement["contestants"]
    names = list(entries)
    rates = [by_name[name].rate for name in names if name in by_name]
    floor = 10 ** math.floor(math.log10(min((rate.lowest for rate in rates), default=1.0) / 1.5))
    for row, name in enumerate(names):
        if name not in by_name:
            axes.text(floor, row, f" {entries[name]['status']}", va="center", fontsize=8, color="0.4", style="italic")
            continue
        rate = by_name[name].rate
        whiskers = [[rate.median - rate.lowest], [rate.highest - rate.median]]
        color = "tab:blue" if name in HIGHLIGHTED else "0.35"
        axes.errorbar(rate.median, row, xerr=whiskers, color=color, fmt="o", markersize=6, linewidth=1, capsize=2)
        axes.text(rate.highest * 1.08, row, f"{number(rate.median)}  (n={rate.n})", va="center", fontsize=8)
    axes.set_xscale("log")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(axis="x", color="0.9")
    axes.set_axisbelow(True)
    axes.set_xlim(floor, max((rate.highest for rate in rates), default=2.0) * 5)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_title(measurement["title"], fontsize=9, loc="left")
    axes.set_xlabel(f"{measurement['unit']}/s, median and range of the rounds", fontsize=8)
    axes.tick_params(axis="x", labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def draw(results: Results) -> Figure:
    """
    :param results: of the benchmark, with a measurement besides the peak
    :return: a figure with a panel for each
    """
    shown: Sequence[Mapping[str, Any]] = [entry for entry in results["measurements"] if entry["name"] != "peak"]
    heights = [HEAD_HEIGHT + ROW_HEIGHT * len(measurement["contestants"]) for measurement in shown]
    figure = Figure(figsize=(7.5, sum(heights) + 0.5), layout="constrained")
    panels = figure.subplots(len(shown), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axes, measurement in zip(panels, shown, strict=True):
        draw_measurement(axes, measurement)
    machine, arguments = results["machine"], results["arguments"]
    where = machine["cpu"] if results["device"] == "cpu" else "GPU"
    figure.suptitle(f"{where}, {results['device']}, {arguments['threads']} threads", fontsize=10)
    return figure
