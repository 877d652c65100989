"""Whether shipped agents are what their cards say: the files, and how well they play games that nobody has seen."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from eval.conditions import Condition
from eval.evaluation.agents import load_agent
from eval.evaluation.models import sha256_of
from eval.evaluation.playing import Settings, check_agent, evaluate
from eval.shipping.card import expected_interval
from eval.shipping.page import FRESH_SEED
from eval.shipping.trained import contestant_of, import_packages


class Finding(NamedTuple):
    """
    What fresh games of an agent have come to.

    :param folder: of the agent
    :param condition: that was played in
    :param games: their number
    :param mean: of their scores
    :param low: lower end of the interval in which it should lie
    :param high: upper end
    """

    folder: Path
    condition: str
    games: int
    mean: float
    low: float
    high: float

    @property
    def is_inside(self) -> bool:
        """Whether the mean lies in the interval, but for rounding."""
        slack = 1e-9 * max(abs(self.low), abs(self.high), 1.0)
        return self.low - slack <= self.mean <= self.high + slack


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
    import_packages(card["gym_packages"])
    contestant = contestant_of(folder, card["condition"])
    assert contestant.model is not None
    agent = load_agent(contestant.model, contestant.algo, "cpu")
    check_agent(agent, contestant.spec, [Condition.parse(card["condition"])], settings)


def settings_for(card: dict[str, Any], games: int | None) -> Settings:
    """
    :param card: an agent's
    :param games: how many to play; ``None`` for as many as the card's figures are of
    :return: how it is to play: as then, but for the seeds
    """
    ways = {**card["evaluation"], "first_seed": FRESH_SEED}
    return Settings(**(ways if games is None else {**ways, "games": games}))


def play_fresh(
    folder: Path, card: dict[str, Any], settings: Settings, device: str = "auto", on_game: Callable[[], object] | None = None
) -> Finding:
    """
    Have a shipped agent play in its training condition, with other seeds than those of its card.

    :param folder: the agent's
    :param card: its card
    :param settings: how it plays, see :func:`settings_for`
    :param device: that it acts on
    :param on_game: is called after each game
    :return: what came of it, beside the interval for as many games
    """
    contestant = contestant_of(folder, card["condition"])
    assert contestant.model is not None
    agent = load_agent(contestant.model, contestant.algo, device)

    def tell(condition: str, n_games: int) -> None:
        if on_game is not None:
            on_game()

    played = evaluate(agent, contestant.spec, [Condition.parse(card["condition"])], settings, tell)
    score = card["scores"][card["condition"]]
    low, high = expected_interval(score["mean"], score["std"], score["games"], settings.games)
    return Finding(folder, card["condition"], settings.games, float(played["score"].mean()), low, high)
