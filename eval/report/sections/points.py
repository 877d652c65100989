"""Points won and lost, and how long rallies last, where rewards are points."""

from eval.report.estimates import Estimates
from eval.report.page import Block, Heading, Paragraph, slug
from eval.report.published import counts_points
from eval.report.tables import INTERVAL, long_table
from eval.report.words import interval, number


def points(estimates: Estimates, env: str) -> list[Block]:
    """
    :param estimates: of the report
    :param env: an environment
    :return: the part of the section; nothing where rewards are no points
    """
    if not counts_points(env):
        return []
    rows = [row for training in estimates.collection.trainings(env) for row in _rows(estimates, env, training)]
    if not rows:
        return []
    head = ("Trained and evaluated on", "Agent", "Won", "Lost", "Rally", f"Rally, {INTERVAL}", "n")
    return [
        Heading("Points and rallies", 3),
        long_table(slug("points", env), f"Points per game and decisions per point in {env}", head, rows, (2, 3, 4, 5, 6)),
        Paragraph(
            "Points won and lost are means per game. The rally is the number of agent decisions per point, of all of a "
            "run's games together; a last rally that the end of the game interrupts counts with its decisions and without "
            "a point. Longer rallies mean that the agent returns the ball more often, even before it wins."
        ),
    ]


def _rows(estimates: Estimates, env: str, training: str) -> list[dict[str, object]]:
    collection = estimates.collection
    found = collection.select(env, training, training)
    found = found.assign(rally=found["length"] / (found["won"] + found["lost"]).where(found["won"] + found["lost"] > 0))
    won, lost = (
        estimates.of(collection.matrix(found, name), "mean").set_index("agent")["estimate"] for name in ("won", "lost")
    )
    rallies = estimates.of(collection.matrix(found.dropna(subset=["rally"]), "rally"), "mean").set_index("agent")
    rows: list[dict[str, object]] = []
    for agent in sorted(won.index, key=lambda name: (lost[name] - won[name], name)):
        entry = rallies.loc[agent].to_dict() if agent in rallies.index else None
        n_runs = int((found["agent"] == agent).sum())
        rally, low, high = (entry[key] if entry else float("nan") for key in ("estimate", "low", "high"))
        rows.append(
            {
                "Trained and evaluated on": training,
                "Agent": agent,
                "Won": number(won[agent]),
                "Lost": number(lost[agent]),
                "Rally": number(rally),
                f"Rally, {INTERVAL}": interval(low, high, n_runs),
                "n": n_runs,
                "condition": training,
                "agent": agent,
                "won_per_game": won[agent],
                "lost_per_game": lost[agent],
                "rally": rally,
                "rally_low": low,
                "rally_high": high,
                "n_runs": n_runs,
            }
        )
    return rows
