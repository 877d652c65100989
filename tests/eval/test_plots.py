"""Figures, by what they hold: the data drawn, the words, the looks. And by their bytes."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from eval.plot_style import COLORS
from eval.plots import facets, generalisation, improvement, intervals, learning_curves, look, profiles, save

AGENTS = ["dqn", "drqn", "ppo_lstm"]


def curves(agents: list[str], x: str = "steps", n_runs: int = 5, y: str = "estimate", n: int = 5) -> pd.DataFrame:
    """:return: agent i rises from i to i + 1, plus and minus a half."""
    frames = []
    for i, agent in enumerate(agents):
        height = i + np.linspace(0, 1, n)
        band = 0.5 if n_runs > 1 else np.nan
        places = np.linspace(0, 1_000_000 if x == "steps" else 1, n)
        columns = {"agent": agent, x: places, y: height, "low": height - band, "high": height + band, "n_runs": n_runs}
        frames.append(pd.DataFrame(columns))
    return pd.concat(frames, ignore_index=True)


def estimates(agents: list[str], n_runs: int = 5) -> pd.DataFrame:
    return curves(agents, n_runs=n_runs).groupby("agent", sort=False).last().reset_index()


def pairs(n_runs: int = 5) -> pd.DataFrame:
    rows = [("dqn", "drqn", 0.2, 0.1, 0.4), ("drqn", "dqn", 0.8, 0.6, 0.9)]
    frame = pd.DataFrame(rows, columns=["agent", "other", "estimate", "low", "high"]).assign(n_runs=n_runs, n_other=n_runs)
    return frame.assign(low=np.nan, high=np.nan) if n_runs == 1 else frame


def by_env(frame: pd.DataFrame, n: int) -> pd.DataFrame:
    return pd.concat([frame.assign(env=f"Env-v{i}", estimate=frame["estimate"] + 10 * i) for i in range(n)])


def seen(figure: Figure) -> list[Text]:
    """:return: all words that can be seen: ticks beyond an axis's ends are not drawn."""
    figure.draw_without_rendering()
    beyond = set()
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            beyond |= {id(tick.label1) for tick in axis.get_major_ticks() if not low <= tick.get_loc() <= high}
    found = [artist for artist in figure.findobj(Text) if isinstance(artist, Text)]
    return [text for text in found if text.get_visible() and text.get_text().strip() and id(text) not in beyond]


def texts(figure: Figure) -> list[str]:
    """:return: what they say, lines joined."""
    return [text.get_text().replace("\n", " ") for text in seen(figure)]


def line(axes: Axes, agent: str) -> tuple[list[float], list[float]]:
    (found,) = [line for line in axes.get_lines() if line.get_label() == agent]
    return np.asarray(found.get_xdata()).tolist(), np.asarray(found.get_ydata()).tolist()


def bands(axes: Axes) -> list[tuple[float, float, str]]:
    """:return: lowest, highest and colour of each band."""
    found = [artist for artist in axes.collections if isinstance(artist, PolyCollection)]
    drawn = []
    for band in found:
        heights = np.concatenate([np.asarray(path.vertices)[:, 1] for path in band.get_paths()])
        red, green, blue, _ = np.asarray(band.get_facecolor(), dtype=float).ravel()
        drawn.append((float(heights.min()), float(heights.max()), to_hex((red, green, blue)).upper()))
    return drawn


FIGURES: dict[str, Callable[[int], Figure]] = {
    "learning_curves": lambda n: learning_curves(curves(AGENTS, n_runs=n), "A title", games=20),
    "generalisation": lambda n: generalisation(curves(AGENTS, "observe_prob", n), "A title", games=20),
    "profiles": lambda n: profiles(curves(AGENTS, "threshold", n, "fraction"), "A title", games=20),
    "intervals": lambda n: intervals(estimates(AGENTS, n), "A title", games=20),
    "improvement": lambda n: improvement(pairs(n), "A title", games=20),
}
every_figure = pytest.mark.parametrize("draw", FIGURES.values(), ids=FIGURES.keys())


# Words


@every_figure
def test_every_figure_says_how_many_runs_and_games_it_rests_on(draw: Callable[[int], Figure]) -> None:
    for n in (3, 7):
        assert any(f"n = {n} runs, 20 games each" in text for text in texts(draw(n)))
    assert any("n = 1 run, 20 games each; no interval for a single run" in text for text in texts(draw(1)))


@every_figure
def test_every_title_stands_on_the_left(draw: Callable[[int], Figure]) -> None:
    (title,) = [text for text in draw(3).texts if text.get_text() == "A title"]
    assert title.get_horizontalalignment() == "left" and title.get_position()[0] < 0.02


@every_figure
def test_every_figure_is_narrow_with_large_letters(draw: Callable[[int], Figure]) -> None:
    figure = draw(3)
    phone = 360 / 96 / figure.get_figwidth()  # what a phone shrinks it by
    assert min(float(text.get_fontsize()) for text in seen(figure)) * phone >= 5.8 and figure.get_figwidth() <= 5.4


def overlaps(figure: Figure) -> list[tuple[str, str]]:
    """:return: pairs of words that lie upon each other, and words that reach over the figure's edge."""
    boxes = [(text.get_text(), text.get_window_extent().shrunk(0.97, 0.9)) for text in seen(figure)]
    edge = figure.bbox
    out = [(words, "the edge") for words, box in boxes if not (edge.x0 <= box.x0 and box.x1 <= edge.x1)]
    out += [(words, "the edge") for words, box in boxes if not (edge.y0 <= box.y0 and box.y1 <= edge.y1)]
    return out + [(a, b) for i, (a, one) in enumerate(boxes) for b, other in boxes[i + 1 :] if one.overlaps(other)]


LONG = [
    "drqn with a memory of 512 units, burn-in 4, double Q, n-step 3",
    "dqn, four frames stacked and all else as in the paper",
]
CROWDED: dict[str, Callable[[], Figure]] = {
    "long names": lambda: learning_curves(
        curves(LONG), "A title that is much too long to stand on one line of a narrow figure"
    ),
    "long rows": lambda: intervals(pd.concat([estimates(LONG), estimates(["x"], 1)]), "A title"),
    "ten agents": lambda: learning_curves(curves([f"agent_{i}" for i in range(10)]), "Ten"),
    "ten rows": lambda: intervals(estimates([f"agent_{i}" for i in range(10)]), "Ten"),
    "two panels": lambda: generalisation(by_env(curves(AGENTS, "observe_prob"), 2), "Two", panel="env", games=100),
    "ten panels": lambda: learning_curves(by_env(curves(AGENTS), 10), "Ten", panel="env", games=100),
    "references": lambda: intervals(estimates(AGENTS), "R", references={"random": -4.87, "published": -4.6, "human": 9.3}),
    "one row": lambda: intervals(estimates(["dqn"]), "One"),
    "pairs": lambda: improvement(pairs().assign(agent=LONG[0], other=LONG[1]), "Pairs"),
}


@pytest.mark.parametrize("draw", CROWDED.values(), ids=CROWDED.keys())
def test_no_words_lie_upon_each_other_or_beyond_the_edge(draw: Callable[[], Figure]) -> None:
    assert overlaps(draw()) == []


@pytest.mark.parametrize("name", ["long names", "long rows", "pairs"])
def test_a_long_name_is_broken_and_not_cut(name: str) -> None:
    words = " ".join(texts(CROWDED[name]()))
    assert all(long in words for long in LONG)


def test_agents_of_unequal_runs_have_theirs_beside_their_name() -> None:
    unequal = pd.concat([curves(["dqn"], n_runs=5), curves(["drqn"], n_runs=3)])
    words = texts(learning_curves(unequal, "A title"))
    assert {"dqn (n = 5)", "drqn (n = 3)"} < set(words) and any("n = 3 to 5 runs" in text for text in words)
    rows = texts(intervals(pd.concat([estimates(["dqn"], 5), estimates(["drqn"], 3)]), "A title"))
    assert {"dqn n = 5", "drqn n = 3"} < set(rows)


def test_several_tasks_are_counted() -> None:
    assert any(
        "n = 5 runs on each of 9 tasks" in text for text in texts(intervals(estimates(AGENTS).assign(n_tasks=9), "A title"))
    )


# What is drawn


def test_learning_curves_are_lines_with_bands_in_the_agents_colours() -> None:
    (axes,) = learning_curves(curves(AGENTS), "A title", score="points").axes
    for i, agent in enumerate(AGENTS):
        assert line(axes, agent) == ([0, 250_000, 500_000, 750_000, 1_000_000], [i, i + 0.25, i + 0.5, i + 0.75, i + 1])
    assert bands(axes) == [(i - 0.5, i + 1.5, COLORS[i]) for i in range(3)]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("agent steps", "points")


def test_steps_are_written_in_thousands_and_millions() -> None:
    words = texts(learning_curves(curves(AGENTS), "A title"))
    assert {"0", "200k", "800k", "1M"} <= set(words)


def test_rows_out_of_order_give_the_same_line() -> None:
    (axes,) = learning_curves(curves(AGENTS).iloc[::-1], "A title").axes
    assert line(axes, "dqn")[0] == [0, 250_000, 500_000, 750_000, 1_000_000]


def test_single_runs_are_thin_lines_and_references_dashed_ones() -> None:
    rows = curves(["dqn"])
    runs = pd.concat([rows.assign(run=run, score=rows["estimate"] + run) for run in (1, 2)])
    (axes,) = learning_curves(curves(AGENTS), "A title", runs=runs, references={"random": -4.87}).axes
    thin = [line for line in axes.get_lines() if line.get_linewidth() < 0.8]
    assert [np.asarray(line.get_ydata())[0] for line in thin] == [1, 2]
    assert {to_hex(line.get_color()).upper() for line in thin} == {COLORS[0]}
    assert [-4.87, -4.87] in [np.asarray(line.get_ydata()).tolist() for line in axes.get_lines()]
    assert "random" in [text.get_text() for text in axes.texts]


def test_one_run_has_a_line_and_no_band() -> None:
    (axes,) = learning_curves(curves(AGENTS, n_runs=1), "A title").axes
    assert bands(axes) == [] and line(axes, "drqn")[1][0] == 1


def test_a_constant_score_is_a_level_line() -> None:
    constant = curves(["dqn"]).assign(estimate=-5.0, low=-5.0, high=-5.0)
    (axes,) = learning_curves(constant, "A title").axes
    low, high = axes.get_ylim()
    assert low < -5 < high and set(line(axes, "dqn")[1]) == {-5.0}


def test_a_generalisation_curve_is_in_percent_over_the_probability() -> None:
    figure = generalisation(curves(AGENTS, "observe_prob"), "A title")
    (axes,) = figure.axes
    assert line(axes, "dqn") == ([0, 0.25, 0.5, 0.75, 1], [0, 0.25, 0.5, 0.75, 1])
    assert {"0%", "100%", "200%"} <= set(texts(figure))
    assert axes.get_xlabel() == "probability that an observation is shown"
    assert "100%" not in texts(generalisation(curves(AGENTS, "observe_prob"), "A title", share=False, score="score"))


def test_a_generalisation_curve_may_be_over_another_level() -> None:
    (axes,) = generalisation(curves(AGENTS, "noise"), "A title", x="noise", x_label="noise's standard deviation").axes
    assert axes.get_xlabel() == "noise's standard deviation" and line(axes, "dqn")[0][1] == 0.25


def test_profiles_fall_from_all_to_none_of_the_runs() -> None:
    frame = curves(["dqn"], "threshold", y="fraction").assign(fraction=[1, 0.75, 0.5, 0.25, 0])
    (axes,) = profiles(frame, "A title", score="human-normalised score").axes
    assert line(axes, "dqn")[1] == [1, 0.75, 0.5, 0.25, 0]
    assert axes.get_ylim() == (-0.02, 1.02) and axes.get_xlabel() == "human-normalised score t"


def drawn(axes: Axes) -> list[tuple[list[float], list[float], str]]:
    lines = [(line.get_xdata(), line.get_ydata(), to_hex(line.get_color()).upper()) for line in axes.get_lines()]
    return [(np.asarray(x).tolist(), np.asarray(y).tolist(), color) for x, y, color in lines]


def test_intervals_are_a_row_per_agent_with_the_runs_beside() -> None:
    runs = pd.DataFrame({"agent": ["dqn", "dqn", "drqn"], "score": [0.5, 1.5, 2.0]})
    figure = intervals(estimates(AGENTS), "A title", agents=AGENTS, runs=runs, references={"random": -1.0})
    (axes,) = figure.axes
    lines = drawn(axes)
    for row in range(3):
        assert ([row + 0.5, row + 1.5], [row, row], COLORS[row]) in lines
        assert ([row + 1.0], [row], COLORS[row]) in lines
    assert ([0.5, 1.5], [0.27, 0.27], COLORS[0]) in lines and ([2.0], [1.27], COLORS[1]) in lines
    assert [label.get_text() for label in axes.get_yticklabels()] == AGENTS
    assert axes.yaxis_inverted() and any(x == [-1.0, -1.0] for x, _, _ in lines)
    assert any("dots: single runs" in text for text in texts(figure))


def test_an_interval_that_swamps_the_others_is_cut_with_an_arrow() -> None:
    frame = pd.DataFrame({"agent": ["a", "b", "wild"], "estimate": [1.0, 3.0, 2.0], "n_runs": 3})
    frame = frame.assign(low=[0.9, 2.8, -100.0], high=[1.1, 3.2, 104.0])
    figure = intervals(frame, "A title")
    (axes,) = figure.axes
    arrows = {line.get_marker(): float(np.asarray(line.get_xdata())[0]) for line in axes.lines if line.get_gid() == "cut"}
    assert arrows == {"<": -1.0, ">": 5.0}
    assert axes.get_xlim()[1] - axes.get_xlim()[0] < 10
    assert any("arrow: it goes on" in text for text in texts(figure))


UNCUT = {
    "all are wide": ([1.0, 1.1], [-9.0, -8.0], [11.0, 12.0]),
    "one agent": ([1.0], [-9.0], [11.0]),
    "no intervals": ([1.0, 2.0], [float("nan")] * 2, [float("nan")] * 2),
    "no width": ([1.0, 1.0], [1.0, 1.0], [1.0, 1.0]),
}


@pytest.mark.parametrize(("estimate", "low", "high"), UNCUT.values(), ids=UNCUT.keys())
def test_other_intervals_are_drawn_whole(estimate: list[float], low: list[float], high: list[float]) -> None:
    agents = [f"agent-{i}" for i in range(len(estimate))]
    figure = intervals(pd.DataFrame({"agent": agents, "estimate": estimate, "low": low, "high": high, "n_runs": 3}), "A title")
    assert not [line for line in figure.axes[0].lines if line.get_gid() == "cut"]
    assert not any("arrow" in text for text in texts(figure))


def test_an_agent_of_one_run_has_a_marker_and_no_bar() -> None:
    (axes,) = intervals(estimates(["dqn"], n_runs=1), "A title").axes
    assert drawn(axes) == [([1.0], [0], COLORS[0])]


def test_improvement_is_a_row_per_pair_around_one_half() -> None:
    (axes,) = improvement(pairs(), "A title", agents=AGENTS).axes
    lines = drawn(axes)
    assert ([0.1, 0.4], [0, 0], COLORS[0]) in lines and ([0.8], [1], COLORS[1]) in lines
    assert any(x == [0.5, 0.5] for x, _, _ in lines)
    assert [label.get_text() for label in axes.get_yticklabels()] == ["dqn\nover drqn", "drqn\nover dqn"]


# Panels


@pytest.mark.parametrize("n", [2, 3, 10])
def test_each_env_has_its_panel_and_all_share_one_legend(n: int) -> None:
    figure = learning_curves(by_env(curves(AGENTS), n), "A title", panel="env")
    assert [axes.get_title(loc="left") for axes in figure.axes] == [f"Env-v{i}" for i in range(n)]
    for i, axes in enumerate(figure.axes):
        assert line(axes, "dqn")[1][0] == 10 * i
        assert (axes.get_xlabel() != "") == (i + 2 >= n)
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == AGENTS


def test_panels_share_the_y_axis_if_asked_to() -> None:
    frame = by_env(curves(AGENTS), 2)
    assert len({axes.get_ylim() for axes in learning_curves(frame, "A title", panel="env", share_y=True).axes}) == 1
    assert len({axes.get_ylim() for axes in learning_curves(frame, "A title", panel="env").axes}) == 2


def test_single_runs_go_to_their_own_panel() -> None:
    runs = by_env(curves(["dqn"]), 2).assign(run=0, score=lambda rows: rows["estimate"])
    for i, axes in enumerate(learning_curves(by_env(curves(AGENTS), 2), "A title", panel="env", runs=runs).axes):
        thin = [line for line in axes.get_lines() if line.get_linewidth() < 0.8]
        assert [np.asarray(line.get_ydata())[0] for line in thin] == [10 * i]


def test_facets_draw_anything() -> None:
    def draw(axes: Axes, rows: pd.DataFrame) -> None:
        axes.plot(rows["steps"], rows["estimate"], label="mine")

    figure = facets(by_env(curves(["dqn"]), 3), draw, "A title", agents=AGENTS, panel="env", y_label="rally length")
    assert [line(axes, "mine")[1][0] for axes in figure.axes] == [0, 10, 20]
    assert [axes.get_ylabel() for axes in figure.axes] == ["rally length", "", "rally length"]


# Looks


def test_an_agent_looks_the_same_whoever_else_is_drawn() -> None:
    (alone,) = learning_curves(curves(["drqn"]), "A title", agents=AGENTS).axes
    (together,) = learning_curves(curves(AGENTS), "A title", agents=AGENTS).axes
    (one,), (other,) = ([line for line in axes.get_lines() if line.get_label() == "drqn"] for axes in (alone, together))
    assert (one.get_color(), one.get_marker(), one.get_linestyle()) == (
        other.get_color(),
        other.get_marker(),
        other.get_linestyle(),
    )
    assert one.get_color() == look("drqn", AGENTS).color == COLORS[1]


def test_35_agents_have_35_looks() -> None:
    agents = [str(i) for i in range(35)]
    assert len({look(agent, agents)[:2] for agent in agents}) == 35
    assert len({look(agent, agents).marker for agent in agents[:10]}) == 10


def test_the_users_own_style_changes_nothing(tmp_path: Path) -> None:
    save(learning_curves(curves(AGENTS), "A title"), tmp_path / "mine")
    with matplotlib.rc_context({"axes.facecolor": "red", "font.size": 30, "savefig.dpi": 10, "svg.fonttype": "none"}):
        save(learning_curves(curves(AGENTS), "A title"), tmp_path / "yours")
    for suffix in (".png", ".svg"):
        assert (tmp_path / f"mine{suffix}").read_bytes() == (tmp_path / f"yours{suffix}").read_bytes()


# Files

SAVE = """
import sys
sys.path.insert(0, {folder!r})
from test_plots import FIGURES
from eval.plots import save
for name, draw in FIGURES.items():
    save(draw(5), sys.argv[1] + "/" + name)
"""


def test_two_processes_write_the_same_bytes(tmp_path: Path) -> None:
    here, theirs, ours = Path(__file__).parent, tmp_path / "theirs", tmp_path / "ours"
    theirs.mkdir()
    ours.mkdir()
    environment = {**os.environ, "PYTHONHASHSEED": "12345", "PYTHONPATH": str(here.parents[1])}
    subprocess.run([sys.executable, "-c", SAVE.format(folder=str(here)), str(theirs)], check=True, env=environment)
    for name, draw in FIGURES.items():
        save(draw(5), ours / name)
    names = sorted(f"{name}{suffix}" for name in FIGURES for suffix in (".png", ".svg"))
    assert sorted(path.name for path in theirs.iterdir()) == names
    for name in names:
        assert (ours / name).read_bytes() == (theirs / name).read_bytes(), name


def test_a_picture_and_a_drawing_that_opens_anywhere_are_written(tmp_path: Path) -> None:
    save(learning_curves(curves(AGENTS), "A title"), tmp_path / "a.figure")
    with Image.open(tmp_path / "a.figure.png") as image:
        assert image.width == 960 and "Software" not in image.info
    root = ElementTree.parse(tmp_path / "a.figure.svg").getroot()
    tags = {element.tag.split("}")[1] for element in root.iter()}
    assert "path" in tags and "text" not in tags  # letters are paths: no viewer needs the font
    assert "date" not in tags


# What is refused

REFUSED: dict[str, tuple[Callable[[], Figure], str]] = {
    "no column": (lambda: learning_curves(curves(AGENTS).drop(columns="low"), ""), r"without \['low'\]"),
    "no row": (lambda: profiles(curves(AGENTS, "threshold", y="fraction").iloc[:0], ""), "at least one row, got none"),
    "unknown agent": (lambda: intervals(estimates(AGENTS), "", agents=["dqn"]), r"got \['dqn'\] without 'drqn'"),
    "unknown agent of a run": (
        lambda: intervals(estimates(["dqn"]), "", runs=pd.DataFrame({"agent": ["ppo"], "score": [1.0]})),
        "without 'ppo'",
    ),
    "no panel": (lambda: learning_curves(curves(AGENTS), "", panel="env"), r"without \['env'\]"),
    "panels not named": (
        lambda: learning_curves(by_env(curves(AGENTS), 2), ""),
        "one row per steps and panel, got several of 'dqn'",
    ),
    "an agent twice": (lambda: intervals(curves(["dqn"]), ""), "one row per agent, got 5 for 1 agents"),
    "improvement of nobody": (lambda: improvement(pairs().iloc[:0], ""), "at least one row"),
    "no probability": (lambda: generalisation(curves(AGENTS), ""), r"without \['observe_prob'\]"),
}


@pytest.mark.parametrize(("draw", "words"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_be_drawn_is_refused(draw: Callable[[], Figure], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        draw()
