"""
What a model card says, as data: ``card.json``. Imports neither PyTorch nor Stable-Baselines3.

``scores`` has, per condition: the games' number, mean and standard deviation; the interval in which the mean of as many fresh
games should lie; and the shares of games won, drawn and lost, where games are matches. ``git`` is the commit that the result
was made with. ``files`` has the SHA-256 of what is shipped, by its path in the agent's folder.
"""

import json
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import t as student

from eval.results import Result

CARD = "card.json"
FORMAT = 1
CONFIDENCE = 0.95
IDENTITY = ("suite", "env", "agent", "algo", "condition", "seed")
"""What tells a trained agent from all others."""
FRESH = 1_000_000
"""How far above a card's own seeds those of fresh games begin."""
_MATCHES = re.compile(
    r"SlimeVolley(Pixel|NoFrameskip)?-v0"
    r"|(ALE/)?(Boxing|DoubleDunk|FishingDerby|IceHockey|Pong|Tennis)(-ram)?(NoFrameskip|Deterministic)?-v\d+"
)
"""Environments whose score is one's own points less an opponent's."""
_NOT_THE_AGENTS = ("curve", "resume", "n_timesteps")
"""Of a result's config: how its run was watched and gone on with, and a budget that the suite's steps have replaced."""
_KEYS = {
    "format",
    *IDENTITY,
    "algorithm",
    "steps",
    "git",
    "gym_packages",
    "evaluation",
    "scores",
    "training",
    "bytes",
    "files",
}


def make_card(result: Result, algorithm: str, gym_packages: list[str], files: dict[str, str], size: int) -> dict[str, Any]:
    """
    :param result: of the agent
    :param algorithm: name of its class
    :param gym_packages: modules that register its environment
    :param files: SHA-256 of what is shipped, by path
    :param size: of the model's zip, in bytes
    :return: the card
    """
    facts, episodes = result.facts, result.episodes()
    is_match = has_matches(result.env, facts["config"])
    settings = {name: facts["evaluation"][name] for name in ("games", "first_seed", "n_envs", "deterministic", "epsilon")}
    machine = {name: facts["machine"].get(name) for name in ("cpu", "cores", "device", "python")}
    config = {name: value for name, value in facts["config"].items() if name not in _NOT_THE_AGENTS}
    return {
        "format": FORMAT,
        **{name: facts[name] for name in (*IDENTITY, "steps", "git")},
        "algorithm": algorithm,
        "gym_packages": gym_packages,
        "evaluation": settings,
        "scores": {
            str(condition): describe_scores(games, is_match) for condition, games in episodes.groupby("condition", sort=False)
        },
        "training": {
            "seconds": facts["seconds"]["train"],
            "config": config,
            "versions": facts["versions"],
            "machine": machine,
            "model_sha256": facts["model_sha256"],
        },
        "bytes": size,
        "files": dict(sorted(files.items())),
    }


def has_matches(env: str, config: Mapping[str, Any]) -> bool:
    """
    :param env: environment's id
    :param config: hyperparameters, with the environment's arguments
    :return: whether a game is known to be a match, which is won by a score above zero and lost by one below
    """
    # SlimeVolley's bonus for surviving makes a score of more than points
    return _MATCHES.fullmatch(env) is not None and "survival_bonus" not in (config.get("env_kwargs") or {})


def describe_scores(games: pd.DataFrame, is_match: bool) -> dict[str, Any]:
    """
    :param games: of one condition, with a column ``score``
    :param is_match: whether they are won and lost, see :func:`has_matches`
    :return: what is told of them, see the module
    """
    scores = games["score"].to_numpy(dtype=float)
    mean, std, n = float(scores.mean()), float(scores.std(ddof=1)), len(scores)
    low, high = expected_interval(mean, std, n, n)
    shares = {"won": scores > 0, "drawn": scores == 0, "lost": scores < 0}
    told = {name: float(np.mean(share)) for name, share in shares.items()} if is_match else dict.fromkeys(shares)
    return {"games": n, "mean": mean, "std": std, "low": low, "high": high, **told}


def expected_interval(mean: float, std: float, games: int, fresh_games: int) -> tuple[float, float]:
    """
    Tell where the mean of further games should lie: the prediction interval of a mean, by Student's t.

    It is exact for normal scores, and too narrow where few games differ from the others: with 100 games of an agent that fails
    once in a hundred, it holds three quarters of such means. It is for show; what is decided is decided by
    :func:`~eval.shipping.games.permutation_p_value`.

    :param mean: of the scores
    :param std: their standard deviation, of a sample
    :param games: how many there are, 2 at least
    :param fresh_games: how many there will be
    :return: both ends, between which the mean will lie with a probability of about :data:`CONFIDENCE`
    :raises ValueError: if there are too few games
    """
    if games < 2 or fresh_games < 1:
        raise ValueError(f"games must be 2 at least, and fresh_games 1, got {games} and {fresh_games}")
    half = float(student.ppf((1 + CONFIDENCE) / 2, games - 1)) * std * math.sqrt(1 / games + 1 / fresh_games)
    return mean - half, mean + half


def fresh_seed(card: dict[str, Any]) -> int:
    """
    :param card: an agent's
    :return: seed of the first of fresh games: above all of those that the card's figures are of
    """
    ways = card["evaluation"]
    return int(ways["first_seed"]) + max(FRESH, int(ways["games"]))


def identity(card: dict[str, Any]) -> tuple[Any, ...]:
    """
    :param card: an agent's, or a result's facts
    :return: what tells it from all others
    """
    return tuple(card[name] for name in IDENTITY)


def write_card(folder: Path, card: dict[str, Any]) -> None:
    """
    :param folder: of the agent
    :param card: its card
    """
    (folder / CARD).write_bytes((json.dumps(card, indent=1, allow_nan=False, ensure_ascii=False) + "\n").encode())


def read_card(folder: Path) -> dict[str, Any]:
    """
    :param folder: of a shipped agent
    :return: its card
    :raises ValueError: if it is missing or can't be read
    """
    path = folder / CARD
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{folder} holds no shipped agent: {CARD} is missing") from None
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    if not isinstance(card, dict) or card.get("format") != FORMAT or not card.keys() >= _KEYS:
        raise ValueError(
            f"{path} must be a card of format {FORMAT}, with {', '.join(sorted(_KEYS))}: remove {folder}, and ship the agent"
        )
    return card


def shipped_agents(to: Path) -> dict[Path, dict[str, Any]]:
    """
    :param to: folder of all shipped agents
    :return: their cards, by their folders, in the order of algorithm, environment and number
    :raises ValueError: if a card can't be read
    """
    folders = [path.parent for path in to.glob(f"*/*/{CARD}") if not path.parts[-3].startswith(".")]
    return {folder: read_card(folder) for folder in sorted(folders, key=_order)}


def _order(folder: Path) -> tuple[str, str, int]:
    name, number = split_name(folder.name)
    return folder.parent.name, name, number


def split_name(name: str) -> tuple[str, int]:
    """
    :param name: of a run's folder, as the zoo has it
    :return: the environment's part of it, and its number
    """
    env, _, number = name.rpartition("_")
    return (env, int(number)) if number.isdigit() else (name, 0)


def numbers_in(names: Iterable[str], env: str) -> set[int]:
    """
    :param names: of folders
    :param env: environment's name, as the zoo's folders have it
    :return: numbers of those that are runs in this environment
    """
    return {number for found, number in map(split_name, names) if found == env and number > 0}
