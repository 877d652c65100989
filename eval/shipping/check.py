"""Whether shipped agents are what their cards say: the files, and how well they play games that nobody has seen."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from eval.conditions import Condition
from eval.evaluation.agents import load_agent
from eval.evaluation.models import sha256_of
from eval.evaluation.playing import Settings, check_agent, evaluate
from eval.shipping.card import expected_interval, fresh_seed
from eval.shipping.games import can_differ, permutation_p_value, read_games
from eval.shipping.trained import contestant_of, import_packages

LEVEL = 0.05
"""Probability of finding any agent to play otherwise, if all play as their cards say."""


class Finding(NamedTuple):
    """
    What fresh games of an agent have come to.

    :param folder: of the agent
    :param condition: that was played in
    :param own_games: number of games that the card's figures are of
    :param games: number of fresh ones
    :param mean: of their scores
    :param low: lower end of the interval in which the card expects it, see :func:`~eval.shipping.card.expected_interval`
    :param high: upper end
    :param p_value: of the two being games of one agent, see :func:`~eval.shipping.games.permutation_p_value`
    :param level: up to which it counts as another
    """

    folder: Path
    condition: str
    own_games: int
    games: int
    mean: float
    low: float
    high: float
    p_value: float
    level: float

    @property
    def is_otherwise(self) -> bool:
        """Whether the agent plays better or worse than its card says."""
        return self.p_value <= self.level

    @property
    def verdict(self) -> str:
        """In words."""
        if self.is_otherwise:
            return "OTHERWISE THAN ITS CARD SAYS"
        return "as its card says" if can_differ(self.own_games, self.games, self.level) else "too few games to tell"


def check_files(folder: Path, card: dict[str, Any]) -> None:
    """
    :param folder: of a shipped agent
    :param card: its card
    :raises ValueError: if a file is missing, or not what was shipped
    """
    for name, digest in card["files"].items():
        path = folder / name
        if not path.is_file():
            raise ValueError(f"{path} is missing: ship the agent again")
        if sha256_of([path]) != digest:
            raise ValueError(f"{path} is not what was shipped: its SHA-256 must be {digest}, got {sha256_of([path])}")


def check_playable(folder: Path, card: dict[str, Any], settings: Settings) -> None:
    """
    :param folder: of a shipped agent
    :param card: its card
    :param settings: how it is to play
    :raises ValueError: if its files are not what was shipped, or it can't play
    """
    check_files(folder, card)
    read_games(folder, card)
    import_packages(card["gym_packages"])
    contestant = contestant_of(folder, card["condition"])
    assert contestant.model is not None
    agent = load_agent(contestant.model, contestant.algo, "cpu")
    check_agent(agent, contestant.spec, [Condition.parse(card["condition"])], settings)


def settings_for(card: dict[str, Any], games: int | None = None, seed: int | None = None) -> Settings:
    """
    :param card: an agent's
    :param games: how many to play; ``None`` for as many as the card's figures are of
    :param seed: of the first; ``None`` for that of :func:`~eval.shipping.card.fresh_seed`
    :return: how it is to play: as then, but for the seeds
    :raises ValueError: if a game would be one of the card's own
    """
    own = Settings(**card["evaluation"])
    fresh = own._replace(games=games or own.games, first_seed=fresh_seed(card) if seed is None else seed)
    if fresh.first_seed < own.first_seed + own.games and own.first_seed < fresh.first_seed + fresh.games:
        raise ValueError(
            f"--seed must be such that no fresh game is one of a card's own, whose seeds are {own.first_seed} to"
            f" {own.first_seed + own.games - 1}, got {fresh.first_seed} for the first of {fresh.games}"
        )
    return fresh


def play_fresh(
    folder: Path,
    card: dict[str, Any],
    settings: Settings,
    level: float = LEVEL,
    device: str = "auto",
    on_game: Callable[[], object] | None = None,
) -> Finding:
    """
    Have a shipped agent play in its training condition, with other seeds than those of its card, and compare.

    :param folder: the agent's
    :param card: its card
    :param settings: how it plays, see :func:`settings_for`
    :param level: of the comparison: :data:`LEVEL`, shared out among all agents that are checked
    :param device: that it acts on
    :param on_game: is called after each game
    :return: what came of it
    """
    condition = card["condition"]
    contestant = contestant_of(folder, condition)
    assert contestant.model is not None
    agent = load_agent(contestant.model, contestant.algo, device)

    def tell(condition: str, n_games: int) -> None:
        if on_game is not None:
            on_game()

    played = evaluate(agent, contestant.spec, [Condition.parse(condition)], settings, tell)["score"].to_numpy()
    own = read_games(folder, card).query("condition == @condition")["score"].to_numpy()
    score = card["scores"][condition]
    low, high = expected_interval(score["mean"], score["std"], score["games"], settings.games)
    # More draws for smaller levels, so that the p-value can come well below them
    p_value = permutation_p_value(own, played, max(9_999, math.ceil(20 / level)))
    return Finding(folder, condition, len(own), settings.games, float(played.mean()), low, high, p_value, level)
