"""Agents shown less than in training: the paper's generalisation curve, and the other ways of seeing less."""

from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from eval import plots
from eval.conditions import KINDS, Condition
from eval.report.data import Anchor, Collection
from eval.report.estimates import Estimates, band_words, ratio, with_bands
from eval.report.page import Block, Fold, Heading, Paragraph, Picture, Table, slug
from eval.report.tables import INTERVAL, long_table
from eval.report.words import describe, interval, listed, number, percent

AXES = {
    "flicker": "observation probability",
    "noise": "standard deviation of the noise",
    "freeze": "probability that an observation is frozen",
    "repeat": "environment steps per action",
}
"""Kind of condition -> its level's name on an axis."""


class Sweep(NamedTuple):
    """
    Agents evaluated at several levels of one kind.

    :param levels: ascending
    :param scores: agent -> scores of its runs, shape (n_runs, n_levels)
    """

    levels: list[float]
    scores: dict[str, np.ndarray]


class Shares(NamedTuple):
    """
    What is kept of the normal score.

    :param curves: a row per agent and level: agent, level, estimate, low, high, n_runs; maybe none
    :param left_out: agents without a normal score to keep something of
    """

    curves: pd.DataFrame
    left_out: list[str]


def find_sweep(collection: Collection, env: str, training: str, kind: str) -> Sweep | None:
    """
    :param collection: the results
    :param env: an environment
    :param training: condition of training
    :param kind: of condition, one that has levels
    :return: agents at the levels that every trained agent has; None with fewer than two levels
    """
    neutral = KINDS[kind].neutral
    base = Condition.parse(training).replace(kind, neutral)
    rows = collection.select(env, training)
    parsed = [Condition.parse(text) for text in rows["evaluated"]]
    rows = rows.assign(level=np.array([condition.level(kind) for condition in parsed], dtype=float))
    rows = rows[[condition.replace(kind, neutral) == base for condition in parsed]]
    table = rows.pivot_table(index=["agent", "seed"], columns="level", values="score", aggfunc="first")
    is_own = table.index.get_level_values("agent").isin(rows.loc[rows["trained"] == training, "agent"])
    table = table.dropna(axis="columns", subset=list(table.index[is_own])) if is_own.any() else table.dropna(axis="columns")
    table = table.dropna(axis="index")
    if table.shape[1] < 2:
        return None
    scores = {str(agent): part.to_numpy() for agent, part in table.groupby(level="agent")}
    return Sweep([float(level) for level in table.columns], scores)


def shares_kept(sweep: Sweep, neutral: float, anchor: Anchor, random: set[str]) -> Shares:
    """
    ``(score - anchor) / (normal score - anchor)`` of the means over an agent's runs.

    :param sweep: scores
    :param neutral: the level that changes nothing
    :param anchor: the score that counts as nothing learned, taken as known
    :param random: agents that act at random, which have learned nothing
    :return: the shares; agents of which a run's normal score is not above the anchor are left out
    """
    frames, left_out = [pd.DataFrame(columns=["agent", "level", "estimate", "low", "high", "n_runs"])], []
    for agent, values in sweep.scores.items():
        normal = values[:, sweep.levels.index(neutral)]
        if agent in random:
            continue
        if (normal > anchor.score).all():
            ends = dict(zip(("estimate", "low", "high"), ratio(values - anchor.score, normal - anchor.score), strict=True))
            frames.append(pd.DataFrame({"agent": agent, "level": sweep.levels, **ends, "n_runs": len(values)}))
        else:
            left_out.append(agent)
    return Shares(pd.concat(frames[1:] or frames, ignore_index=True), left_out)


def seeing_less(estimates: Estimates, env: str, training: str) -> list[Block]:
    """
    :param estimates: of the report
    :param env: an environment
    :param training: condition of training
    :return: the part of the section: a curve for each kind that was swept, and a table of what remains
    """
    blocks: list[Block] = []
    for kind in AXES:
        sweep = find_sweep(estimates.collection, env, training, kind)
        if sweep is not None:
            blocks += _swept(estimates, env, training, kind, sweep)
    blocks += _others(estimates, env, training)
    heading = Heading(f"Trained on {training}, shown less (or more)", 3)
    return [heading, *blocks] if blocks else []


def _swept(estimates: Estimates, env: str, training: str, kind: str, sweep: Sweep) -> list[Block]:
    collection, axis = estimates.collection, AXES[kind]
    data = estimates.curves(sweep.scores, sweep.levels, x="level")
    name = slug("sweep", kind, env, training)
    neutral = KINDS[kind].neutral
    kept: pd.DataFrame | None = None
    text = ""
    if Condition.parse(training).level(kind) == neutral and neutral in sweep.levels:
        anchor = collection.anchor(env)
        shares = shares_kept(sweep, neutral, anchor, collection.random_agents(env))
        if len(shares.curves):
            kept = shares.curves
        text = _share_words(anchor, shares)
    title = f"{env}, trained on {training}"
    style: dict[str, Any] = {
        "agents": collection.agents,
        "x": "level",
        "x_label": axis,
        "note": band_words(with_bands(data), "line: mean"),
    }
    blocks: list[Block] = []
    if kept is not None:
        figure = plots.generalisation(with_bands(kept), f"Share of the normal score kept: {title}", **style)
        blocks.append(
            Picture(
                slug("share", kind, env, training), figure, f"Share of the normal score kept against {axis}, {title}", text
            )
        )
    figure = plots.generalisation(
        with_bands(data),
        f"Scores: {title}",
        score="mean score",
        share=False,
        references=estimates.references(env, sweep.scores),
        **style,
    )
    note = (
        f"Each agent, trained on {training}, in evaluations that differ in the {axis} alone. Bands are 95% intervals over "
        f"runs; n is the number of runs. Fewer than three have no band.{'' if kept is not None or not text else f' {text}'}"
    )
    blocks.append(Picture(name, figure, f"Scores against {axis}, {title}", note))
    return [*blocks, Fold(f"Scores against {axis}, as a table", (_sweep_table(name, axis, data, kept),))]


def _share_words(anchor: Anchor, shares: Shares) -> str:
    above = f"{'-' if anchor.score >= 0 else '+'} {number(abs(anchor.score))}"
    words = (
        f"The share kept is (score {above}) / (normal score {above}): 100% is the agent's mean "
        f"score with everything seen, 0% the score of {anchor.source}."
    )
    if not anchor.is_known:
        words = f"The share kept is score / normal score ({anchor.source})."
    words += " It is of the means over runs, and its interval is over runs, too, each with its own normal score."
    if shares.left_out:
        words += f" No share of {listed(shares.left_out)}: a run of it is no better than that with everything seen."
    return words


def _sweep_table(name: str, axis: str, data: pd.DataFrame, kept: pd.DataFrame | None) -> Table:
    shares = {} if kept is None else {(row["agent"], row["level"]): row for row in kept.to_dict("records")}
    rows = []
    for row in data.to_dict("records"):
        share = shares.get((row["agent"], row["level"]))
        rows.append(
            {
                "Agent": row["agent"],
                axis.capitalize(): f"{row['level']:g}",
                "Mean": number(row["estimate"]),
                INTERVAL: interval(row["low"], row["high"], row["n_runs"]),
                "Share kept": "-" if share is None else _share(share),
                "n": row["n_runs"],
                **row,
                "share": np.nan if share is None else share["estimate"],
                "share_low": np.nan if share is None else share["low"],
                "share_high": np.nan if share is None else share["high"],
            }
        )
    head = ("Agent", axis.capitalize(), "Mean", INTERVAL, "Share kept", "n")
    return long_table(name, f"Scores against {axis}", head, rows, (1, 2, 3, 4, 5))


def _share(row: dict[Any, Any]) -> str:
    has_interval = np.isfinite(row["low"])
    ends = f" ({percent(row['low'])} to {percent(row['high'])})" if has_interval else ""
    return f"{percent(row['estimate'])}{ends}"


def _others(estimates: Estimates, env: str, training: str) -> list[Block]:
    """List conditions that belong to no sweep beside the normal one."""
    collection = estimates.collection
    found = collection.select(env, training)
    own = Condition.parse(training)
    swept = {str(own.replace(kind, level)) for kind in AXES for level in _levels(collection, env, training, kind)}
    is_own = found["trained"] == training
    played = dict.fromkeys(found[is_own]["evaluated"] if is_own.any() else found["evaluated"])
    others = [text for text in played if text not in swept | {training}]
    if not others:
        return []
    rows = []
    for condition in others:
        for row in estimates.scores(env, training, condition, "mean").to_dict("records"):
            rows.append(
                {
                    "Condition": condition,
                    "Agent": row["agent"],
                    "Mean": number(row["estimate"]),
                    INTERVAL: interval(row["low"], row["high"], row["n_runs"]),
                    "n": row["n_runs"],
                    "evaluated": condition,
                    **row,
                }
            )
    name = slug("other-conditions", env, training)
    caption = f"Other ways of seeing less in {env}, trained on {training}"
    table = long_table(name, caption, ("Condition", "Agent", "Mean", INTERVAL, "n"), rows, (2, 3, 4))
    text = "; ".join(f"{condition}: {describe(condition)}" for condition in others)
    return [
        table,
        Paragraph(f"Mean scores with 95% intervals over runs, in conditions that belong to no curve above. In {text}."),
    ]


def _levels(collection: Collection, env: str, training: str, kind: str) -> list[float]:
    sweep = find_sweep(collection, env, training, kind)
    return [] if sweep is None else sweep.levels
