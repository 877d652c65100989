"""
The games that a card's figures are of: shipped beside it as ``games.csv``, and compared with fresh ones.

Imports neither PyTorch nor Stable-Baselines3.
"""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from eval.shipping.card import describe_scores

GAMES = "games.csv"
COLUMNS = {"condition": str, "seed": int, "score": float}
"""Of ``games.csv``: condition of observation; seed of the game; sum of its true, unclipped rewards."""
_AT_ONCE = 2_000_000
"""Numbers that are drawn at a time."""


def write_games(folder: Path, episodes: pd.DataFrame) -> None:
    """
    :param folder: of the agent
    :param episodes: its games, columns :data:`~eval.results.EPISODE_COLUMNS`
    """
    text = episodes[list(COLUMNS)].to_csv(index=False, lineterminator="\n")
    (folder / GAMES).write_bytes(str(text).encode())


def read_games(folder: Path, card: dict[str, Any]) -> pd.DataFrame:
    """
    :param folder: of a shipped agent
    :param card: its card
    :return: the games that the card's figures are of, a row each, columns :data:`COLUMNS`
    :raises ValueError: if they can't be read, or are not those games
    """
    path = folder / GAMES
    try:
        table = pd.read_csv(path, float_precision="round_trip", keep_default_na=False, na_values=["nan"])
        games = table[list(COLUMNS)].astype(COLUMNS)
    except FileNotFoundError:
        raise ValueError(f"{path} is missing: ship the agent again") from None
    except (ValueError, KeyError, pd.errors.ParserError) as error:
        raise ValueError(f"{path} can't be read: {error}") from error
    _check_games(path, games, card)
    return games


def _check_games(path: Path, games: pd.DataFrame, card: dict[str, Any]) -> None:
    found = {str(condition): group for condition, group in games.groupby("condition", sort=False)}
    if found.keys() != card["scores"].keys():
        raise ValueError(f"{path} must have games under {', '.join(card['scores'])}, as the card, got {', '.join(found)}")
    first_seed = card["evaluation"]["first_seed"]
    for condition, group in found.items():
        told = card["scores"][condition]
        if group["seed"].tolist() != list(range(first_seed, first_seed + told["games"])):
            raise ValueError(f"{path} must have {told['games']} games under {condition}, with seeds from {first_seed} on")
        is_same = {name: math.isclose(told[name], value, rel_tol=1e-9, abs_tol=1e-12) for name, value in _figures(group)}
        if not all(is_same.values()):
            raise ValueError(
                f"{path} must be the games of the card: under {condition}, mean and standard deviation of their scores must be"
                f" {told['mean']} and {told['std']}, got {' and '.join(str(value) for _, value in _figures(group))}"
            )


def _figures(games: pd.DataFrame) -> list[tuple[str, float]]:
    described = describe_scores(games, is_match=False)
    return [(name, described[name]) for name in ("mean", "std")]


def permutation_p_value(own: np.ndarray, fresh: np.ndarray, resamples: int = 9_999, seed: int = 0) -> float:
    """
    Tell how likely the means of two samples are to differ by as much as they do, or more, if both are of one distribution:
    a two-sided permutation test. It holds for any distribution, few games and ties included. Of the permutations so many
    are drawn, and that which was seen is counted with them, so that the level is kept exactly (Phipson & Smyth 2010,
    arXiv 1603.05766).

    :param own: scores, ``(n,)``
    :param fresh: others, ``(m,)``
    :param resamples: number of permutations that are drawn
    :param seed: of the draws
    :return: the p-value, ``1 / (resamples + 1)`` at least
    :raises ValueError: if there are no scores, or too few draws
    """
    if not len(own) or not len(fresh) or resamples < 1:
        raise ValueError(f"own, fresh and resamples must be 1 at least, got {len(own)}, {len(fresh)} and {resamples}")
    pooled = np.concatenate([own, fresh]).astype(float)
    values, counts = np.unique(pooled, return_counts=True)
    # With zero in the middle, the sum over either sample is as far from zero as the means are apart, but for a factor
    values -= pooled.mean()
    seen = abs(float((fresh - pooled.mean()).sum())) - 1e-9 * float(np.abs(values) @ counts)
    generator, n_as_far, n_left = np.random.default_rng(seed), 0, resamples
    while n_left > 0:
        n_drawn = min(n_left, max(_AT_ONCE // len(values), 1))
        # How often each value falls to the fresh games, (n_drawn, values)
        drawn = generator.multivariate_hypergeometric(counts, len(fresh), size=n_drawn, method="count")
        n_as_far += int(np.count_nonzero(np.abs(drawn @ values) >= seen))
        n_left -= n_drawn
    return (1 + n_as_far) / (1 + resamples)


def can_differ(own: int, fresh: int, level: float) -> bool:
    """
    :param own: number of games
    :param fresh: number of others
    :param level: at which they are compared
    :return: whether there are enough of them for any scores to have a p-value of that level
    """
    return math.comb(own + fresh, fresh) >= 2 / level
