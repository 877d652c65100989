"""What others have published, as data: CSV files in ``published/``, each number with its source."""

import functools
import re
from pathlib import Path
from typing import NamedTuple

import pandas as pd

FOLDER = Path(__file__).parent / "published"
FLICKER = "flicker-0.5"
"""What the paper calls flickering: each screen is shown with probability 0.5."""

OBSERVATIONS = {"normal": "normal", "flicker": FLICKER}
"""What the tables call an observation -> condition."""

POINT_GAMES = ("Pong", "SlimeVolley")
"""Games in which a reward is a point won or lost."""


class Reference(NamedTuple):
    """
    Two scores that a game's scores are measured against: 0 and 1 of the normalised score.

    :param random: mean score of random actions
    :param reference: the other score
    :param reference_is: what it is
    :param source: of both
    """

    random: float
    reference: float
    reference_is: str
    source: str

    def normalise(self, score: float) -> float:
        """
        :param score: of a game
        :return: 0 for random actions, 1 for the reference
        """
        return (score - self.random) / (self.reference - self.random)


def game_of(env: str) -> str:
    """
    :param env: an environment's id, as ``PongNoFrameskip-v4``, ``ALE/Pong-v5``, ``SlimeVolley-v0``
    :return: the game's name, as the tables have it
    """
    return re.sub(r"(NoFrameskip)?-v\d+$", "", env.rsplit("/", 1)[-1])


def is_atari(env: str) -> bool:
    """
    :param env: an environment's id
    :return: whether the paper or its tables of reference scores have the game, as one of the Atari 2600
    """
    reference = reference_scores().get(game_of(env))
    return reference is not None and reference.reference_is == "human"


def counts_points(env: str) -> bool:
    """
    :param env: an environment's id
    :return: whether its rewards are points won and lost
    """
    return game_of(env) in POINT_GAMES


@functools.cache
def reference_scores() -> dict[str, Reference]:
    """
    :return: game -> the scores that 0 and 1 of the normalised score stand for
    """
    table = pd.read_csv(FOLDER / "reference_scores.csv")
    return {row["env"]: Reference(*(row[name] for name in Reference._fields)) for row in table.to_dict("records")}


def paper_scores(env: str, condition: str) -> pd.DataFrame:
    """
    :param env: an environment's id
    :param condition: of observation
    :return: the paper's scores of that game under that condition: columns agent, mean, std, source; maybe empty
    """
    table = pd.read_csv(FOLDER / "drqn_paper_scores.csv")
    return _select(table, table["game"] == game_of(env), condition)[["agent", "mean", "std", "source"]]


def other_scores(env: str, condition: str) -> pd.DataFrame:
    """
    :param env: an environment's id
    :param condition: of observation
    :return: what others have published: columns agent, steps (text), mean, std (maybe NaN), source; maybe empty
    """
    table = pd.read_csv(FOLDER / "other_published_scores.csv", dtype={"steps": str}).rename(columns={"score": "mean"})
    table["steps"] = table["steps"].fillna("")
    # An Atari game's other ids are the same game; SlimeVolley's are different tasks (state or pixels)
    matches = table["env"] == env if not is_atari(env) else table["env"] == game_of(env)
    return _select(table, matches, condition)[["agent", "steps", "mean", "std", "source"]]


def _select(table: pd.DataFrame, matches: "pd.Series[bool]", condition: str) -> pd.DataFrame:
    is_condition = table["observation"].map(OBSERVATIONS) == condition
    return table[matches & is_condition].reset_index(drop=True)
