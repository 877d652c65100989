"""The answer first: what memory buys, and when, in a few sentences made from the numbers."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from eval.report.comparison import FEWEST_RUNS, Comparison, compare, contestants, learned, measured_envs
from eval.report.data import Collection
from eval.report.estimates import Estimate, Estimates
from eval.report.page import Block, Bullets, Fold, Heading, Paragraph, Table
from eval.report.sections.seeing_less import find_sweep, shares_kept
from eval.report.tables import long_table
from eval.report.words import interval, listed, number, percent, plural, signed

VERDICTS = {
    "helps": "memory helps",
    "costs": "memory costs",
    "undecided": "no clear difference",
    "too few runs": "too few runs to tell",
}


MOST_SENTENCES = 6
"""With more cases than that, the table tells it alone."""

HALF = 0.5
"""The probability of improvement that is no difference."""


class Case(NamedTuple):
    """
    One environment and condition of training.

    :param env: the environment
    :param training: the condition of training and of evaluation
    :param best: the agent with the best mean
    :param score: its mean over runs
    :param comparison: with and without memory, None where one kind is missing
    """

    env: str
    training: str
    best: str
    score: Estimate
    comparison: Comparison | None


def find_cases(estimates: Estimates) -> list[Case]:
    """
    :param estimates: of the report
    :return: every environment and condition of training in which an agent that does not act at random was evaluated
    """
    collection = estimates.collection
    cases = []
    for env in collection.envs:
        for training in collection.trainings(env):
            matrix = contestants(collection, env, training, training)
            if matrix:
                best = next(iter(matrix))
                (row,) = estimates.of({best: matrix[best]}, "mean").to_dict("records")
                score = Estimate(row["estimate"], row["low"], row["high"], row["n_runs"])
                comparison = compare(estimates, matrix, collection.memory(env))
                cases.append(Case(env, training, best, score, comparison))
    return cases


def find_overall(estimates: Estimates) -> list[Case]:
    """
    :param estimates: of the report
    :return: for each condition of training the environments that can be put together, as one case: normalised scores
    """
    collection = estimates.collection
    cases = []
    for training in collection.all_trainings:
        envs = measured_envs(collection, training)
        matrix = learned(collection, training, envs) if len(envs) > 1 else {}
        comparison = compare(estimates, matrix, collection.memory(envs[0])) if matrix else None
        if comparison is not None:
            best = next(iter(matrix))
            score = Estimate(float(matrix[best].mean()), np.nan, np.nan, len(matrix[best]))
            cases.append(Case(f"all {len(envs)} environments (normalised)", training, best, score, comparison))
    return cases


def summary(estimates: Estimates) -> list[Block]:
    """
    :param estimates: of the report
    :return: the section
    """
    cases, overall = find_cases(estimates), find_overall(estimates)
    compared = [case for case in cases if case.comparison is not None]
    blocks: list[Block] = [Heading("What does memory buy, and when?"), *_answer(overall, compared)]
    if cases:
        blocks.append(_table([*overall, *cases]))
    if compared:
        blocks.append(Paragraph(_explanation(len(compared) + len(overall))))
    kept = tuple(text for env in estimates.collection.envs for text in _kept(estimates.collection, env))
    if kept:
        text = (
            "Trained with everything seen, then shown less (shares of the score above that of random actions, or above 0 "
            "where that is not known, with 95% intervals)"
        )
        is_long = len(kept) > MOST_SENTENCES
        blocks += [Fold(text, (Bullets(kept),))] if is_long else [Paragraph(f"{text}:"), Bullets(kept)]
    return blocks


def _explanation(n_compared: int) -> str:
    text = (
        "The gain is the mean score of the best agent with memory less that of the best without, with Welch's 95% "
        "interval over runs. The probability is that of a run with memory beating a run without; 0.5 is no "
        f"difference. Memory is said to help or to cost where the gain's interval leaves out 0, with {FEWEST_RUNS} "
        "runs of each at least. The best were picked by the same scores, which flatters both, and the more so the "
        "more agents there are."
    )
    if n_compared > 1:
        text += (
            f" These are {n_compared} comparisons at 95% each: about one in twenty would show a difference by chance alone, "
            "were there none."
        )
    return f"{text} Every agent is below."


def _answer(overall: list[Case], compared: list[Case]) -> list[Block]:
    if not compared:
        return [Paragraph("These results do not tell: that takes an agent with memory and one without, trained alike.")]
    blocks: list[Block] = []
    if overall:
        blocks += [
            Paragraph("All games together, by normalised scores (0 is random actions, see below):"),
            Bullets(tuple(map(_sentence, overall))),
        ]
    if len(compared) > MOST_SENTENCES:
        found = [case.comparison.verdict for case in compared if case.comparison is not None]
        counts = [f"{words} in {found.count(verdict)}" for verdict, words in VERDICTS.items() if verdict in found]
        text = f"One by one, of {len(compared)} cases: {listed(counts)}. The table has each."
        return [*blocks, Paragraph(text)]
    text = "The best agent with memory beside the best without, trained and evaluated alike, by the mean of their runs:"
    items = [_sentence(case) for verdict in VERDICTS for case in compared if _is(case, verdict)]
    return [*blocks, Paragraph(text), Bullets(tuple(items))]


def _sentence(case: Case) -> str:
    assert case.comparison is not None
    recurrent, other, gain, improvement, _ = case.comparison
    runs = plural(gain.n_runs, "run")
    return (
        f"{VERDICTS[case.comparison.verdict].capitalize()} in {case.env}, {case.training}: {recurrent} scores "
        f"{number(abs(gain.value))} {'more' if gain.value >= 0 else 'less'} than {other}{_ends(gain, signed)}, and a run "
        f"of it beats one of {other} with probability {number(improvement.value)}"
        f"{_ends(improvement, number, _limit(case.comparison))}; n = {runs} of each."
    )


def _limit(comparison: Comparison) -> str:
    """Say where a verdict stands beside a vague probability, as so few runs can't have a clearer one at all."""
    low, high, farthest = (round(value, 2) for value in (*comparison.improvement[1:3], comparison.farthest))
    could = farthest > HALF if comparison.gain.value >= 0 else farthest < HALF
    if could or not low <= HALF <= high or comparison.verdict not in ("helps", "costs"):
        return ""
    runs = plural(comparison.improvement.n_runs, "run")
    return f": with {runs} of each it reaches {number(farthest)} even if every run of one beats every run of the other"


def _ends(estimate: Estimate, words: Callable[[float], str], more: str = "") -> str:
    return f" ({words(estimate.low)} to {words(estimate.high)}{more})" if np.isfinite(estimate.low) else ""


def _is(case: Case, verdict: str) -> bool:
    return case.comparison is not None and case.comparison.verdict == verdict


def _table(cases: list[Case]) -> Table:
    rows = []
    for case in cases:
        comparison = case.comparison
        gain = comparison.gain if comparison else Estimate(np.nan, np.nan, np.nan, 0)
        improvement = comparison.improvement if comparison else gain
        rows.append(
            {
                "Environment": case.env,
                "Trained on": case.training,
                "Verdict": VERDICTS[comparison.verdict] if comparison else "nothing to compare",
                "With, without": f"{comparison.recurrent}, {comparison.other}" if comparison else "-",
                "Gain": _with_interval(signed(gain.value), gain),
                "Probability": _with_interval(number(improvement.value), improvement),
                "n": gain.n_runs or "-",
                "Best trained, mean": f"{case.best}, {number(case.score.value)}",
                "env": case.env,
                "condition": case.training,
                "verdict": comparison.verdict if comparison else "",
                "recurrent": comparison.recurrent if comparison else "",
                "other": comparison.other if comparison else "",
                **{f"gain{end}": value for end, value in zip(("", "_low", "_high"), gain[:3], strict=True)},
                **{f"probability{end}": value for end, value in zip(("", "_low", "_high"), improvement[:3], strict=True)},
                "n_runs": gain.n_runs,
                "best": case.best,
                "best_mean": case.score.value,
            }
        )
    head = tuple(rows[0])[:8]
    return long_table("summary", "With memory and without, with 95% intervals", head, rows, (4, 5, 6))


def _with_interval(value: str, estimate: Estimate) -> str:
    ends = interval(estimate.low, estimate.high, estimate.n_runs)
    return value if ends == "-" else f"{value} ({ends})"


def _share(row: Any) -> str:
    runs = plural(int(row.n_runs), "run")
    ends = f"{percent(row.low)} to {percent(row.high)}, n = {runs}" if np.isfinite(row.low) else f"n = {runs}"
    return f"{row.agent} keeps {percent(row.estimate)} ({ends})"


def _kept(collection: Collection, env: str) -> list[str]:
    """Say what is left of the normal score where about half of the observations are shown."""
    texts = []
    for training in collection.trainings(env):
        sweep = find_sweep(collection, env, training, "flicker")
        if sweep is None or "flicker" in training or 1.0 not in sweep.levels:
            continue
        level = min(sweep.levels, key=lambda value: (abs(value - 0.5), value))
        curves = shares_kept(sweep, 1.0, collection.anchor(env), collection.random_agents(env)).curves
        found = collection.select(env, training)
        is_shown = (curves["level"] == level) & curves["agent"].isin(found[found["trained"] == training]["agent"])
        rows = curves[is_shown].sort_values(["estimate", "agent"], ascending=[False, True])
        if level < 1 and len(rows):
            kept = listed([_share(row) for row in rows.itertuples()])
            base = env if training == "normal" else f"{env} ({training})"
            texts.append(f"{base}, each observation shown with probability {level:g}: {kept} of its normal score.")
    return texts
