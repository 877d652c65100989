"""
A few minutes with a DRQN: train one on SlimeVolley by way of the zoo, evaluate it, and draw what it sees.

The budget is far below what a good player needs: it shows that everything works, and what the pieces look like.
"""

import argparse
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import gymnasium as gym
import numpy as np
import torch as th
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from drqn_sb3 import DRQN, FlickerObservation
from drqn_sb3.envs import SlimeVolleyAtariWrapper

ENV_ID = "SlimeVolleyNoFrameskip-v0"
OBSERVE_PROB = 0.5
FIRST_SEED = 1_000_000  # of the evaluated matches: far from any that training uses
N_MOMENTS = 6

Player = Callable[[np.ndarray, bool], np.ndarray]
"""Takes an observation, and whether a match begins with it; returns the Q-value of every action, the best one is taken."""


class Moment(NamedTuple):
    """One decision: the full screen, what there was to observe, what was observed, and the Q-values of the actions."""

    screen: np.ndarray
    frame: np.ndarray
    observation: np.ndarray
    q_values: np.ndarray


class KeepFrame(gym.ObservationWrapper):
    """Keep the last observation, for a picture of what the wrappers around this one hide."""

    frame: np.ndarray

    def observation(self, observation: np.ndarray) -> np.ndarray:
        """
        :param observation: the observation
        :return: the same
        """
        self.frame = observation
        return observation


def make_env(observe_prob: float, render_mode: str | None = None) -> tuple[gym.Env, KeepFrame]:
    """
    Make the environment of the evaluation: whole matches and their true scores.

    :param observe_prob: probability that an observation is shown
    :param render_mode: ``"rgb_array"`` for pictures
    :return: the environment, and the part of it that knows what flickering hid
    """
    env = SlimeVolleyAtariWrapper(gym.make(ENV_ID, render_mode=render_mode), terminal_on_life_loss=False, clip_reward=False)
    keep = KeepFrame(env)
    return FlickerObservation(keep, observe_prob), keep


def random_player(seed: int) -> Player:
    """
    :param seed: of its generator
    :return: a player that acts uniformly at random
    """
    rng = np.random.default_rng(seed)
    return lambda observation, begins: rng.random(6)


def greedy_player(model: DRQN) -> Player:
    """
    :param model: the trained agent
    :return: a player that acts as the agent would without exploring, its recurrent state carried through a match
    """
    states = model.q_net.zero_states(1)

    def q_values(observation: np.ndarray, begins: bool) -> np.ndarray:
        nonlocal states
        tensor, _ = model.policy.obs_to_tensor(observation)
        with th.no_grad():
            values, states = model.q_net(tensor, states, th.tensor([begins], device=model.device))
        return values[0].cpu().numpy()

    return q_values


def play(env: gym.Env, player: Player, seed: int, watch: Callable[[np.ndarray, np.ndarray], None]) -> float:
    """
    Play a match.

    :param env: the environment
    :param player: who plays
    :param seed: of the match
    :param watch: is shown each observation and its Q-values
    :return: the score: points won less points lost, from -5 to 5
    """
    observation, _ = env.reset(seed=seed)
    score, begins, ended = 0.0, True, False
    while not ended:
        q_values = player(observation, begins)
        watch(observation, q_values)
        observation, reward, terminated, truncated, _ = env.step(int(q_values.argmax()))
        score += float(reward)
        begins, ended = False, terminated or truncated
    return score


def train(folder: Path, n_timesteps: int, seed: int) -> DRQN:
    """
    Train by way of the zoo's own command.

    :param folder: where the zoo keeps its logs
    :param n_timesteps: number of agent steps
    :param seed: of the run
    :return: the agent at the end of training
    :raises SystemExit: if training fails
    """
    arguments = (
        f"-m rl_zoo3.train --algo drqn --env {ENV_ID} -n {n_timesteps} -P --verbose 0 --seed {seed} "
        f"--eval-freq -1 -f {shlex.quote(str(folder))} "
        # The hyperparameters are made for millions of steps: start to learn, and to act greedily, sooner
        f"-params learning_starts:1000 exploration_steps:{max(n_timesteps // 2, 1)}"
    )
    print(f"$ python {arguments}", flush=True)
    status = subprocess.run([sys.executable, *shlex.split(arguments)]).returncode
    if status != 0:
        sys.exit(f"training ended with status {status}")
    newest = max((folder / "drqn").glob(f"{ENV_ID}_*/{ENV_ID}.zip"), key=lambda path: path.stat().st_mtime)
    return DRQN.load(newest, device="auto")


def evaluate(players: Iterable[tuple[str, Player]], n_episodes: int) -> None:
    """
    Play the same matches with every player, on normal and on flickering observations, and print the scores.

    :param players: their names and themselves
    :param n_episodes: number of matches each
    """
    print(f"\n{'player':<8} {'observations':<13} {'matches':>7} {'mean score':>11} {'std. error':>11}")
    for name, player in players:
        for observations, observe_prob in (("normal", 1.0), ("flickering", OBSERVE_PROB)):
            env, _ = make_env(observe_prob)
            scores = [play(env, player, FIRST_SEED + i, lambda *_: None) for i in range(n_episodes)]
            error = np.std(scores, ddof=1) / np.sqrt(n_episodes)
            print(f"{name:<8} {observations:<13} {n_episodes:>7} {np.mean(scores):>11.2f} {error:>11.2f}", flush=True)
            env.close()


def watch_match(player: Player) -> tuple[list[Moment], list[str]]:
    """
    Play a flickering match and keep the consecutive decisions of which closest to half were made in the dark.

    :param player: who plays
    :return: the moments, and the actions' names
    """
    env, keep = make_env(OBSERVE_PROB, render_mode="rgb_array")
    moments: list[Moment] = []

    def keep_moment(observation: np.ndarray, q_values: np.ndarray) -> None:
        screen = env.render()
        assert isinstance(screen, np.ndarray)
        moments.append(Moment(screen, keep.frame.copy(), observation.copy(), q_values))

    play(env, player, FIRST_SEED, keep_moment)
    meanings = env.get_wrapper_attr("get_action_meanings")()
    env.close()
    shown = np.array([moment.observation.any() for moment in moments])
    starts = range(len(moments) // 3, len(moments) - N_MOMENTS)
    start = min(starts, key=lambda i: abs(int(shown[i : i + N_MOMENTS].sum()) - N_MOMENTS // 2))
    return moments[start : start + N_MOMENTS], meanings


def draw(moments: list[Moment], meanings: list[str], path: Path) -> None:
    """
    Draw moments of a match, one per column.

    :param moments: the moments
    :param meanings: the actions' names
    :param path: the picture's file
    """
    figure = Figure(figsize=(2.6 * len(moments), 8.5), layout="constrained")
    axes: np.ndarray = figure.subplots(4, len(moments), height_ratios=(1, 1.7, 1.7, 1.7))
    figure.suptitle(f"{ENV_ID}: {len(moments)} consecutive decisions, every observation shown with p = {OBSERVE_PROB}")
    titles = (
        "the match (the agent is on the right)",
        "84x84 observation",
        "what flickering leaves",
        "Q-values (the action taken is marked)",
    )
    low = min(moment.q_values.min() for moment in moments)
    high = max(moment.q_values.max() for moment in moments)
    margin = 0.1 * (high - low)
    for column, moment in zip(axes.T, moments, strict=True):
        for ax, picture in zip(column, (moment.screen, moment.frame, moment.observation), strict=False):
            ax.imshow(picture, cmap="gray", vmin=0, vmax=255)
            ax.set_xticks([])
            ax.set_yticks([])
        if not moment.observation.any():
            column[2].text(0.5, 0.5, "hidden", color="0.6", ha="center", va="center", transform=column[2].transAxes)
        draw_q_values(column[3], moment.q_values, meanings)
        column[3].set_xlim(low - margin, high + margin)
    for ax, title in zip(axes[:, 0], titles, strict=True):
        ax.set_title(title, fontsize=10, loc="left")
    for ax in axes[3, 1:]:
        ax.set_yticklabels([])
    figure.savefig(path, dpi=100)


def draw_q_values(ax: Axes, q_values: np.ndarray, meanings: list[str]) -> None:
    """
    Draw the Q-value of every action as a dot, the greatest one filled.

    :param ax: where
    :param q_values: ``(n_actions,)``
    :param meanings: the actions' names
    """
    rows, taken = np.arange(len(meanings)), int(q_values.argmax())
    ax.scatter(q_values, rows, color=["C3" if row == taken else "0.7" for row in rows])
    ax.set_yticks(rows, meanings, fontsize=8)
    ax.tick_params(axis="x", labelsize=8)
    ax.set_xlabel(meanings[taken], color="C3")
    ax.invert_yaxis()


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """
    :param argv: command line arguments, by default the process's
    :return: what the command line says
    :raises SystemExit: if a number is out of bounds
    """
    parser = argparse.ArgumentParser(
        prog="python -m eval.demo", description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--n-timesteps", type=int, default=6_000, help="agent steps of training")
    parser.add_argument("--episodes", type=int, default=5, help="matches that each player plays, at least 2")
    parser.add_argument("--output", type=Path, default=Path("demo"), help="folder for logs and pictures")
    parser.add_argument("--seed", type=int, default=1, help="of training")
    args = parser.parse_args(argv)
    if args.episodes < 2:
        parser.error(f"--episodes must be at least 2, got {args.episodes}")
    if args.n_timesteps < 1:
        parser.error(f"--n-timesteps must be at least 1, got {args.n_timesteps}")
    return args


def main(argv: Sequence[str] | None = None) -> None:
    """
    Train, evaluate, draw, and say where everything is.

    :param argv: command line arguments, by default the process's
    """
    args = parse_arguments(argv)
    start = time.monotonic()
    logs = args.output / "logs"
    player = greedy_player(train(logs, args.n_timesteps, args.seed))
    evaluate((("random", random_player(args.seed)), ("DRQN", player)), args.episodes)
    picture = args.output / "what_it_sees.png"
    draw(*watch_match(player), picture)
    print(f"\nDone in {time.monotonic() - start:.0f} s.")
    print(f"{args.n_timesteps} steps are far too few to play well: expect scores like a random player's, near -5.")
    print(f"What it sees: {picture}")
    print(f"The agent:    {logs / 'drqn'}")
    print(f"Watch it:     python -m rl_zoo3.enjoy --algo drqn --env {ENV_ID} -f {shlex.quote(str(logs))}")
    print(f"Train longer: python -m rl_zoo3.train --algo drqn --env {ENV_ID} -P")


if __name__ == "__main__":
    main()
