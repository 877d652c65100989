"""
A result: one agent and the games it has played, in a folder of its own, with all that is needed to trust it.

::

    result.json     what was done, by what, on what (the facts), and the SHA-256 of the others and of itself
    episodes.csv    a row per game
    curve.csv       a row per game played during training, where there was one
    video.gif       what it sees beside what happens, where it was filmed

``result.json`` is written last: a folder without one is unfinished. Reading verifies everything, and imports neither PyTorch
nor Stable-Baselines3.
"""

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

FORMAT = 1
RESULT, EPISODES, CURVE, VIDEO = "result.json", "episodes.csv", "curve.csv", "video.gif"
EPISODE_COLUMNS = {"condition": str, "game": int, "seed": int, "score": float, "length": int, "won": int, "lost": int}
"""
Of ``episodes.csv``: condition of observation; number of the game, its seed; sum of its true, unclipped rewards; agent
decisions; rewards above and below zero (points won and lost, in SlimeVolley and Pong).
"""
CURVE_COLUMNS = {"steps": int, "game": int, "score": float}
"""Of ``curve.csv``: agent steps trained; number of the game among those played then; its score."""
FACTS = (
    *("env", "agent", "algo", "trained_env", "condition", "seed", "steps", "suite", "evaluation", "config", "model_sha256"),
    *("command", "versions", "git", "machine", "changes", "seconds"),
)
"""
Of ``result.json``: environment's id; agent's name; algorithm; the environment that it was trained on (None: not trained, or
unknown); training condition (None: likewise); training seed; agent steps trained; suite's name; how it was evaluated;
hyperparameters; the model's file; and where it comes from. ``changes`` lists what was different (versions, git, machine)
whenever the job was gone on with, most often nothing.
"""


def without_shipped_budget(config: Mapping[str, Any]) -> dict[str, Any]:
    """
    Leave out the budget that hyperparameters name: the suite's ``steps`` have taken its place.

    :param config: hyperparameters, as the zoo reads them
    :return: the same without ``n_timesteps``
    """
    return {name: value for name, value in config.items() if name != "n_timesteps"}


_REMEDY = f"Remove the {RESULT} in that folder, and have the command that has written it play the games again"


class ResultError(ValueError):
    """A result is not what was written, or not whole."""


class Result:
    """
    A result that has been verified; :func:`read_result` makes it.

    :param folder: where it lies
    :param facts: those of :data:`FACTS`
    :param contents: bytes of its files, by name
    """

    def __init__(self, folder: Path, facts: dict[str, Any], contents: dict[str, bytes]) -> None:
        self.folder = folder
        self.facts = facts
        self.env: str = facts["env"]
        self.agent: str = facts["agent"]
        self.algo: str = facts["algo"]
        self.condition: str | None = facts["condition"]
        self.seed: int | None = facts["seed"]
        self.steps: int = facts["steps"]
        self.suite: str | None = facts["suite"]
        self._contents = contents

    def __repr__(self) -> str:
        return f"Result({self.env}, {self.agent}, {self.condition}, seed {self.seed})"

    def episodes(self) -> pd.DataFrame:
        """
        :return: a row per game, columns :data:`EPISODE_COLUMNS`
        """
        return _table(self.folder / EPISODES, self._contents[EPISODES], EPISODE_COLUMNS)

    def curve(self) -> pd.DataFrame | None:
        """
        :return: a row per game played during training, columns :data:`CURVE_COLUMNS`; None where there was none
        """
        content = self._contents.get(CURVE)
        return None if content is None else _table(self.folder / CURVE, content, CURVE_COLUMNS)

    @property
    def video(self) -> Path | None:
        """The film's file, where there is one."""
        return self.folder / VIDEO if VIDEO in self._contents else None


def write_result(
    folder: Path,
    facts: dict[str, Any],
    episodes: pd.DataFrame,
    curve: pd.DataFrame | None = None,
    video: Path | None = None,
) -> Result:
    """
    Write a result, ``result.json`` last.

    :param folder: where to; what is there already is replaced
    :param facts: those of :data:`FACTS`, as JSON has them
    :param episodes: a row per game, columns :data:`EPISODE_COLUMNS`
    :param curve: a row per game played during training, columns :data:`CURVE_COLUMNS`
    :param video: a GIF, which is copied
    :return: the result, read back
    :raises ValueError: if facts or columns are missing or others are there, or a score is not finite
    :raises OSError: if it can't be written
    """
    from drqn_sb3.checkpoints.files import write_atomically

    if set(facts) != set(FACTS):
        raise ValueError(f"facts must be {', '.join(FACTS)}, got {', '.join(facts)}")
    contents = {EPISODES: _csv(episodes, EPISODE_COLUMNS)}
    if curve is not None:
        contents[CURVE] = _csv(curve, CURVE_COLUMNS)
    if video is not None:
        contents[VIDEO] = video.read_bytes()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / RESULT).unlink(missing_ok=True)
    sha256 = {name: write_atomically(folder / name, [content]) for name, content in contents.items()}
    document = {"format": FORMAT, **facts, "files": sha256}
    document["sha256"] = _digest(document)
    write_atomically(folder / RESULT, [(json.dumps(document, indent=1, allow_nan=False) + "\n").encode()])
    return read_result(folder)


def read_result(folder: Path) -> Result:
    """
    Read a result and verify all of it.

    :param folder: where it lies
    :return: the result
    :raises ResultError: if anything is missing, edited, or of another format
    """
    path = folder / RESULT
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ResultError(f"{folder} holds no result: {RESULT} is missing") from None
    except ValueError as error:
        raise ResultError(f"{path} is damaged: {error}") from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise ResultError(f"{path} must be a result of format {FORMAT}, got {_format_of(document)}")
    if document.pop("sha256", None) != _digest(document):
        raise ResultError(f"{path} has been edited: its facts are not those that were written. {_REMEDY}")
    missing = [name for name in FACTS if name not in document]
    if missing:
        raise ResultError(f"{path} lacks {', '.join(missing)}")
    files = document.get("files")
    if not isinstance(files, dict) or EPISODES not in files or not set(files) <= {EPISODES, CURVE, VIDEO}:
        raise ResultError(f"{path} must list {EPISODES}, and may list {CURVE} and {VIDEO}, got {files!r}")
    contents = {name: _verified(folder / name, digest) for name, digest in files.items()}
    result = Result(folder, {name: document[name] for name in FACTS}, contents)
    result.episodes(), result.curve()
    return result


def find_results(paths: Sequence[Path]) -> list[Path]:
    """
    :param paths: folders, each a result or with results anywhere below
    :return: the folders that are results, sorted, each once
    :raises ResultError: if a path is no folder or holds none
    """
    found: set[Path] = set()
    for path in paths:
        if not path.is_dir():
            raise ResultError(f"results must be folders, got {path}, which is {'a file' if path.exists() else 'not there'}")
        here = {file.parent for file in path.rglob(RESULT)}
        if not here:
            raise ResultError(f"{path} holds no result: no {RESULT} lies in or below it")
        found |= here
    return sorted(found)


def _csv(table: pd.DataFrame, columns: dict[str, type]) -> bytes:
    _check_columns(table, columns, "the table")
    if not np.isfinite(table["score"].to_numpy(dtype=float)).all():
        raise ValueError(f"scores must be finite, got {table['score'].tolist()}")
    # Python's shortest texts of the numbers: they are read back to the bit
    return str(table[list(columns)].to_csv(index=False, lineterminator="\n")).encode()


def _table(path: Path, content: bytes, columns: dict[str, type]) -> pd.DataFrame:
    try:
        table = pd.read_csv(io.BytesIO(content), float_precision="round_trip", keep_default_na=False, na_values=["nan"])
        _check_columns(table, columns, str(path))
        return table.astype(columns)
    except (ValueError, pd.errors.ParserError) as error:
        raise ResultError(f"{path} can't be read: {error}") from error


def _check_columns(table: pd.DataFrame, columns: dict[str, type], name: str) -> None:
    if set(table.columns) != set(columns):
        raise ValueError(f"{name} must have the columns {', '.join(columns)}, got {', '.join(map(str, table.columns))}")
    if table.empty:
        raise ValueError(f"{name} must have a row at least, got none")


def _verified(path: Path, sha256: str) -> bytes:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise ResultError(f"{path} is missing") from None
    if hashlib.sha256(content).hexdigest() != sha256:
        raise ResultError(f"{path} has been edited or damaged: it is not what was written. {_REMEDY}")
    return content


def _digest(document: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def _format_of(document: Any) -> str:
    return repr(document.get("format")) if isinstance(document, dict) else f"a {type(document).__name__}"
