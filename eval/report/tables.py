"""Tables of estimates."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from eval.report.page import Table
from eval.report.words import interval, number

INTERVAL = "95% interval"


def score_table(name: str, caption: str, iqms: pd.DataFrame, means: pd.DataFrame, spreads: dict[str, float]) -> Table:
    """
    :param name: of the CSV file
    :param caption: what it shows
    :param iqms: interquartile means, a row per agent, as :func:`eval.stats.interval_estimates` has them
    :param means: means, likewise
    :param spreads: agent -> standard deviation over its runs
    :return: both, best mean first
    """
    data = iqms.rename(columns={"estimate": "iqm", "low": "iqm_low", "high": "iqm_high"})
    data = data.merge(means.rename(columns={"estimate": "mean", "low": "mean_low", "high": "mean_high"}))
    data["std_over_runs"] = data["agent"].map(spreads)
    data = data.sort_values(["mean", "agent"], ascending=[False, True], kind="stable").reset_index(drop=True)
    return Table(
        name=name,
        caption=caption,
        head=("Agent", "n", "IQM", INTERVAL, "Mean", INTERVAL, "Std over runs"),
        rows=tuple(
            (
                str(row["agent"]),
                str(row["n_runs"]),
                number(row["iqm"]),
                interval(row["iqm_low"], row["iqm_high"], row["n_runs"]),
                number(row["mean"]),
                interval(row["mean_low"], row["mean_high"], row["n_runs"]),
                number(row["std_over_runs"]),
            )
            for row in data.to_dict("records")
        ),
        data=data,
        numeric=frozenset(range(1, 7)),
    )


def improvement_table(name: str, caption: str, estimates: pd.DataFrame) -> Table:
    """
    :param name: of the CSV file
    :param caption: what it shows
    :param estimates: as :func:`eval.stats.probability_of_improvement` has them
    :return: a row per pair
    """
    return Table(
        name=name,
        caption=caption,
        head=("Agent", "is better than", "Probability", INTERVAL, "n"),
        rows=tuple(
            (
                str(row["agent"]),
                str(row["other"]),
                number(row["estimate"]),
                interval(row["low"], row["high"], min(row["n_runs"], row["n_other"])),
                f"{row['n_runs']} and {row['n_other']}",
            )
            for row in estimates.to_dict("records")
        ),
        data=estimates,
        numeric=frozenset({2, 3, 4}),
    )


def long_table(
    name: str, caption: str, head: Sequence[str], rows: Sequence[Mapping[Any, Any]], numeric: Sequence[int]
) -> Table:
    """
    :param name: of the CSV file
    :param caption: what it shows
    :param head: names of the columns that are shown
    :param rows: of the CSV file; what is shown stands under the names of ``head``, and is left out of the file
    :param numeric: columns of numbers
    :return: the table
    """
    shown = tuple(tuple(str(row[column]) for column in head) for row in rows)
    raw = [{key: value for key, value in row.items() if key not in head} for row in rows]
    return Table(name, caption, tuple(head), shown, pd.DataFrame(raw), frozenset(numeric))
