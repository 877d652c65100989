"""Small made-up results, with known answers, for the tests of the report."""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw

from eval.conditions import Condition
from eval.results import RESULT, Result, write_result
from eval.suite import UNTRAINED

PONG, SLIME = "PongNoFrameskip-v4", "SlimeVolleyNoFrameskip-v0"
SWEEP = ("normal", "flicker-0.75", "flicker-0.5", "flicker-0.25", "flicker-0")
FIRST_SEED = 1_000_000
ALGOS = {"random": "eval.evaluation.agents.RandomAgent", "dqn": "dqn", "drqn": "drqn", "ppo": "ppo"}
VERSIONS = {"drqn_sb3": "0.4.0", "torch": "2.8.0", "stable_baselines3": "2.9.0"}

Play = Callable[[str, int], float]
"""(condition of the evaluation, number of the game) -> score."""


class Made(NamedTuple):
    """What a made-up result is of."""

    agent: str = "drqn"
    env: str = PONG
    condition: str | None = "normal"
    seed: int | None = 0
    steps: int = 100_000

    @property
    def folder(self) -> Path:
        return Path(self.env.replace("/", "_")) / self.agent / (self.condition or UNTRAINED) / f"seed-{self.seed}"


def facts(made: Made, evaluated: Sequence[str], games: int, **changes: Any) -> dict[str, Any]:
    """Facts of a result; what of ``changes`` is a dict is laid over the fact of that name."""
    found: dict[str, Any] = {
        "env": made.env,
        "agent": made.agent,
        "algo": ALGOS.get(made.agent, "dqn"),
        "trained_env": None if made.condition is None else made.env,
        "condition": made.condition,
        "seed": made.seed,
        "steps": made.steps,
        "suite": "made-up",
        "evaluation": {
            "games": games,
            "first_seed": FIRST_SEED,
            "n_envs": 8,
            "deterministic": True,
            "epsilon": 0.0,
            "conditions": list(evaluated),
        },
        "config": {"policy": "CnnLstmPolicy"} if made.agent == "drqn" else {"policy": "CnnPolicy", "frame_stack": 4},
        "model_sha256": None if made.condition is None else hashlib.sha256(made.folder.as_posix().encode()).hexdigest(),
        "command": f"-m eval.run.job {made.folder.as_posix()}",
        "versions": VERSIONS,
        "git": {"commit": "0123456789abcdef0123456789abcdef01234567", "dirty": False},
        "machine": {
            "cpu": "A Processor",
            "cores": 2,
            "memory_gb": 7.8,
            "device": "A GPU",
            "system": "Linux",
            "python": "3.11.9",
        },
        "changes": [],
        "seconds": {"train": 3600.0, "evaluate": 60.0},
    }
    for name, change in changes.items():
        found[name] = {**found[name], **change} if isinstance(change, dict) else change
    return found


def episodes_of(play: Play, evaluated: Sequence[str], games: int, length: int = 1000) -> pd.DataFrame:
    """Games of each condition. A point is won for each in a score above -21 and lost for each in one below 21, as in Pong."""
    rows = [
        {"condition": condition, "game": game, "seed": FIRST_SEED + game, "score": play(condition, game), "length": length}
        for condition in evaluated
        for game in range(games)
    ]
    table = pd.DataFrame(rows)
    table["won"] = np.clip(np.round(21 + table["score"]), 0, 21).astype(int)
    table["lost"] = np.clip(np.round(21 - table["score"]), 0, 21).astype(int)
    return table


def make(
    root: Path,
    made: Made,
    score: float | Play = 1.0,
    evaluated: Sequence[str] = ("normal",),
    games: int = 4,
    curve: bool = False,
    video: Path | None = None,
    **changes: Any,
) -> Result:
    """Write a result: each game's score is ``score``, or what it says of condition and game."""

    def constant(condition: str, game: int) -> float:
        return float(score)  # type: ignore[arg-type]

    play = score if callable(score) else constant
    episodes = episodes_of(play, evaluated, games)
    rows = (
        [
            {"steps": steps, "game": game, "score": play(evaluated[0], game) * steps / made.steps}
            for steps in range(made.steps // 4, made.steps + 1, made.steps // 4)
            for game in range(2)
        ]
        if curve
        else []
    )
    written = facts(made, evaluated, games, **changes)
    return write_result(root / made.folder, written, episodes, pd.DataFrame(rows) if rows else None, video)


def forge(folder: Path, edit: Callable[[dict[str, bytes]], None]) -> None:
    """Change a result's files and make its checksums fit, as only somebody who means to would."""
    document = json.loads((folder / RESULT).read_text())
    contents = {name: (folder / name).read_bytes() for name in document["files"]}
    edit(contents)
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    document["files"] = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    del document["sha256"]
    document["sha256"] = hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()
    (folder / RESULT).write_text(json.dumps(document))


def film(path: Path, color: str = "white") -> Path:
    """A small film of a ball that comes and goes."""
    frames = []
    for position in range(6):
        frame = Image.new("L", (64, 32), 0)
        draw = ImageDraw.Draw(frame)
        draw.ellipse([4 * position, 10, 4 * position + 6, 16], fill=color)
        if position % 2:
            draw.ellipse([32 + 4 * position, 10, 38 + 4 * position, 16], fill=color)
        frames.append(frame)
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=120, loop=0)
    return path


def rich(root: Path, seeds: int = 4, games: int = 6, envs: Sequence[str] = (PONG, SLIME)) -> None:
    """Three agents and random actions, two conditions of training, a sweep of flicker: memory helps where screens flicker."""
    video = film(root.parent / "film.gif")
    skills = {"drqn": (0.80, 0.25), "dqn": (0.85, 0.90), "ppo": (0.55, 0.60)}  # of the range; lost where nothing is shown
    for env in envs:
        low, high = (-20.7, 21.0) if env == PONG else (-4.87, 5.0)
        for made, skill, lost in _contestants(env, skills, seeds):
            generator = np.random.default_rng(
                sum(map(ord, f"{made.agent}{made.env}{made.condition}")) + 1000 * (made.seed or 0)
            )
            play = _play(low, high, skill * (1 + 0.08 * generator.standard_normal()), lost, generator, made.condition)
            own = [made.condition, *SWEEP] if made.condition else SWEEP
            more = ("hide_velocity", "noise-0.1", "noise-0.3") if made.condition in ("normal", None) and env == SLIME else ()
            evaluated = list(dict.fromkeys([*own, *more]))
            make(root, made, play, evaluated, games, made.condition is not None, video if made.seed == 0 else None)


def _contestants(env: str, skills: dict[str, tuple[float, float]], seeds: int) -> Iterator[tuple[Made, float, float]]:
    for seed in range(seeds):
        yield Made("random", env, None, seed, 0), 0.0, 0.0
        for agent, (skill, lost) in skills.items():
            for condition in ("normal", "flicker-0.5"):
                yield Made(agent, env, condition, seed, 1_000_000), skill, lost


def _play(low: float, high: float, skill: float, lost: float, generator: np.random.Generator, trained: str | None) -> Play:
    def play(condition: str, game: int) -> float:
        shown = Condition.parse(condition).level("flicker")
        hidden = 1 - (1.0 if shown is None else shown)
        practice = 0.6 if trained == "flicker-0.5" else 1.0
        noise = 0.05 * (Condition.parse(condition).level("noise") or 0.0) * 10
        left = max(1 - lost * practice * hidden**0.7 - noise, 0.0)
        score = low + (high - low) * min(max(skill * left + 0.03 * generator.standard_normal(), 0.0), 1.0)
        return float(round(score))

    return play
