"""``python -m eval evaluate``, from models to results that can be read."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
from sb3_contrib import RecurrentPPO
from stable_baselines3 import PPO

from drqn_sb3 import DRQN
from eval.__main__ import main
from eval.conditions import Condition
from eval.evaluation.cli import SWEEPS
from eval.evaluation.environments import EnvSpec, make_env
from eval.results import find_results, read_result

ROOT = Path(__file__).parents[2]
CARTPOLE = EnvSpec("CartPole-v1", {}, [])
QUICK = ["--games", "3", "--n-envs", "2"]


@pytest.fixture(scope="module")
def zoo_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the zoo: flickering, normalised, stacked."""
    logs = tmp_path_factory.mktemp("zoo")
    params = [
        *("n_envs:2", "n_steps:16", "batch_size:16", "n_epochs:1", "normalize:True", "frame_stack:2"),
        "env_wrapper:['drqn_sb3.wrappers.FlickerObservation']",
    ]
    words = [*("--algo", "ppo", "--env", "CartPole-v1", "-n", "64", "--seed", "3", "--eval-freq", "-1", "--verbose", "0")]
    command = [sys.executable, "-m", "rl_zoo3.train", *words, "-f", str(logs), "-params", *params]
    subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
    return logs / "ppo" / "CartPole-v1_1"


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models that lie in no run's folder."""
    folder = tmp_path_factory.mktemp("bare")
    env = make_env(CARTPOLE, Condition(), 0, 9, 1)
    PPO("MlpPolicy", env, seed=0, n_steps=16, batch_size=16).learn(16).save(folder / "plain.zip")
    RecurrentPPO("MlpLstmPolicy", env, seed=0, n_steps=16, batch_size=16).save(folder / "recurrent.zip")
    DRQN("MlpLstmPolicy", env, seed=0, policy_kwargs={"hidden_size": 8}).save(folder / "drqn.zip")
    return folder


def evaluate(*words: object) -> int:
    return main(["evaluate", *map(str, words)])


def test_a_run_of_the_zoo_needs_nothing_but_its_name(
    zoo_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [zoo_run, *QUICK, "--sweep", "flicker", "--levels", 1, 0.5, "--conditions", "hide_velocity", "--out", tmp_path]
    words += ["--device", "cpu"]
    assert evaluate(*words) == 0
    (folder,) = find_results([tmp_path])
    assert folder.relative_to(tmp_path).as_posix() == "CartPole-v1/ppo/flicker-0.5/seed-3"
    result = read_result(folder)
    facts = result.facts
    named = (result.env, result.agent, result.algo, result.condition, result.seed, result.steps, result.suite)
    assert named == ("CartPole-v1", "ppo", "ppo", "flicker-0.5", 3, 64, None)
    assert facts["evaluation"] == {
        **{"games": 3, "first_seed": 1_000_000, "n_envs": 2, "deterministic": True, "epsilon": 0.0},
        "conditions": ["hide_velocity", "normal", "flicker-0.5"],
    }
    assert (facts["trained_env"], facts["changes"], facts["machine"]["device"]) == ("CartPole-v1", [], "cpu")
    assert (facts["config"]["n_steps"], facts["config"]["frame_stack"]) == (16, 2)
    assert str(tmp_path) not in facts["command"] and facts["command"].startswith("-m eval evaluate CartPole-v1_1 --out ")
    assert "--levels 1.0 0.5" in facts["command"] and "--seed" not in facts["command"]
    episodes = result.episodes()
    assert episodes["condition"].tolist() == [text for text in ("hide_velocity", "normal", "flicker-0.5") for _ in range(3)]
    assert episodes["seed"].tolist() == [1_000_000, 1_000_001, 1_000_002] * 3
    assert result.video is not None and result.video.read_bytes()[:3] == b"GIF"
    out = capsys.readouterr().out
    normal = episodes[episodes["condition"] == "normal"]["score"]
    (line,) = (line for line in out.splitlines() if " normal " in line)
    assert line.split()[:6] == ["ppo", "3", "normal", "3", f"{normal.mean():.2f}", f"{normal.std() / 3**0.5:.2f}"]


def test_what_is_finished_is_skipped_and_what_differs_is_not_replaced(
    bare: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        bare / "plain.zip",
        "--algo",
        "ppo",
        "--env",
        "CartPole-v1",
        "--conditions",
        "normal",
        "--out",
        tmp_path,
        "--no-film",
    ]
    assert evaluate(*words, *QUICK) == 0
    (folder,) = find_results([tmp_path])
    assert folder.relative_to(tmp_path).as_posix() == "CartPole-v1/plain/untrained/seed-unknown"
    before = (folder / "result.json").stat()
    capsys.readouterr()
    assert evaluate(*words, *QUICK) == 0
    assert f"{folder}: finished" in capsys.readouterr().out
    assert (folder / "result.json").stat().st_mtime_ns == before.st_mtime_ns
    assert read_result(folder).video is None
    with pytest.raises(SystemExit, match="holds a result of another evaluation: give another --out, or --force"):
        evaluate(*words, "--games", 4)
    assert evaluate(*words, "--games", 4, "--force") == 0
    assert len(read_result(folder).episodes()) == 4


@pytest.mark.parametrize("changed", ["CartPole-v1.zip", "CartPole-v1/vecnormalize.pkl"])
def test_a_result_is_of_a_models_contents_not_of_its_date(
    changed: str, zoo_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, out = tmp_path / "run", tmp_path / "out"
    shutil.copytree(zoo_run, run)
    words = [run, *QUICK, "--conditions", "normal", "--no-film", "--out", out]
    assert evaluate(*words) == 0
    (folder,) = find_results([out])
    contents = (run / "CartPole-v1.zip").read_bytes() + (run / "CartPole-v1" / "vecnormalize.pkl").read_bytes()
    assert read_result(folder).facts["model_sha256"] == hashlib.sha256(contents).hexdigest()
    later = (folder / "result.json").stat().st_mtime + 60
    os.utime(run / changed, (later, later))  # copied, or checked out again
    capsys.readouterr()
    assert evaluate(*words) == 0
    assert f"{folder}: finished" in capsys.readouterr().out
    (run / changed).write_bytes(other_contents(run / changed))
    os.utime(run / changed, (later - 7200, later - 7200))
    with pytest.raises(SystemExit, match="holds a result of another model: give another --out, or --force"):
        evaluate(*words)


def other_contents(path: Path) -> bytes:
    """The same model or statistics, in a file that is another."""
    if path.suffix == ".pkl":
        return path.read_bytes() + b"ignored"
    with zipfile.ZipFile(path, "a") as archive:
        archive.comment = b"another"
    return path.read_bytes()


def test_where_things_lie_is_not_told(bare: Path, tmp_path: Path) -> None:
    place = tmp_path / "secret" / "track.txt"
    wrapper = f"{{test_evaluation_cli.Placed: {{path: {place}}}}}"
    words = [bare / "plain.zip", *BARE, *QUICK, "--env-wrapper", wrapper, "--conditions", "normal", "--no-film"]
    assert evaluate(*words, "--out", tmp_path / "out") == 0
    (folder,) = find_results([tmp_path / "out"])
    assert read_result(folder).facts["config"] == {"env_wrapper": [{"test_evaluation_cli.Placed": {"path": "track.txt"}}]}
    assert str(tmp_path) not in (folder / "result.json").read_text()


class Placed(gym.Wrapper):
    """Needs a file."""

    def __init__(self, env: gym.Env, path: str) -> None:
        super().__init__(env)
        assert Path(path).is_absolute()


class Interrupting(gym.Wrapper):
    """Has somebody press Ctrl-C at the end of a game."""

    n_games = 0
    """That have been finished."""
    last: int | None = None
    """Number of the game at whose end it happens."""

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        obs, reward, terminated, truncated, info = self.env.step(action)
        if terminated:
            Interrupting.n_games += 1
            if Interrupting.n_games == Interrupting.last:
                signal.raise_signal(signal.SIGINT)
        return obs, reward, terminated, truncated, info


def interrupted(last: int | None, *words: object) -> tuple[int, int]:
    """The exit status, and how many games have been finished."""
    Interrupting.n_games, Interrupting.last = 0, last
    return evaluate(*words), Interrupting.n_games


def test_what_was_finished_before_an_interruption_is_not_played_again(
    bare: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "plain.zip"
    shutil.copy(bare / "plain.zip", model)
    conditions = ["--conditions", "normal", "flicker-0.5", "hide_velocity"]
    words = [model, *BARE, *QUICK, *conditions, "--no-film", "--env-wrapper", "test_evaluation_cli.Interrupting", "--out"]
    out = tmp_path / "out"
    assert interrupted(None, *words, tmp_path / "whole") == (0, 9)
    assert interrupted(7, *words, out) == (130, 7)
    assert "the same command goes on" in capsys.readouterr().err
    assert not list(out.rglob("result.json"))
    (origin,) = out.rglob("normal.json")
    facts = json.loads(origin.read_text())
    facts["versions"]["torch"] = "1.0"
    origin.write_text(json.dumps(facts))
    # Neither other settings nor another model take what is there
    assert interrupted(7, *words, out, "--epsilon", 0.5) == (130, 7)
    model.write_bytes(other_contents(model))
    assert interrupted(7, *words, out) == (130, 7)
    shutil.copy(bare / "plain.zip", model)
    assert interrupted(None, *words, out) == (0, 3)
    (one,), (other,) = (find_results([folder]) for folder in (tmp_path / "whole", out))
    assert sorted(path.name for path in other.iterdir()) == ["episodes.csv", "result.json"]
    assert (one / "episodes.csv").read_bytes() == (other / "episodes.csv").read_bytes()
    before, after = read_result(one).facts, read_result(other).facts
    assert (before["changes"], after["versions"]["torch"]) == ([], "1.0")
    (change,) = after["changes"]
    assert (set(change), change["versions"]) == ({"versions", "git", "machine"}, before["versions"])
    assert interrupted(None, *words, out) == (0, 0)


def test_several_of_ones_own_models_go_under_one_name(bare: Path, tmp_path: Path) -> None:
    shutil.copy(bare / "plain.zip", tmp_path / "other.zip")
    words = [bare / "plain.zip", tmp_path / "other.zip", *BARE, *QUICK, "--conditions", "normal", "--no-film"]
    words += ["--names", "mine", "--trained-on", "flicker-0.50", "--training-seeds", 4, 0, "--out", tmp_path / "out"]
    assert evaluate(*words) == 0
    folders = find_results([tmp_path / "out"])
    named = [folder.relative_to(tmp_path / "out").as_posix() for folder in folders]
    assert named == [f"CartPole-v1/mine/flicker-0.5/seed-{seed}" for seed in (0, 4)]
    assert "--trained-on flicker-0.50 --training-seeds 4 0" in read_result(folders[0]).facts["command"]
    for folder, seed in zip(folders, (0, 4), strict=True):
        result = read_result(folder)
        assert (result.condition, result.seed, result.facts["trained_env"]) == ("flicker-0.5", seed, "CartPole-v1")


def test_all_models_play_the_same_games(bare: Path, tmp_path: Path, zoo_run: Path) -> None:
    common = ["--env", "CartPole-v1", "--conditions", "normal", "flicker-0.5", "--no-film", *QUICK, "--seed", 200_042]
    assert evaluate(bare / "recurrent.zip", "--algo", "ppo_lstm", "--out", tmp_path, *common) == 0
    assert evaluate(bare / "drqn.zip", "--algo", "drqn", "--out", tmp_path, *common) == 0
    assert evaluate("--agent", "eval.evaluation.agents:RandomAgent", "--out", tmp_path, *common) == 0
    assert evaluate(zoo_run, zoo_run / "CartPole-v1.zip", "--names", "a", "b", "--out", tmp_path, *common) == 0
    results = [read_result(folder) for folder in find_results([tmp_path])]
    assert [result.agent for result in results] == ["RandomAgent", "a", "b", "drqn", "recurrent"]
    assert all(result.episodes()["seed"].tolist() == [200_042, 200_043, 200_044] * 2 for result in results)
    random, one, other = results[:3]
    assert (random.condition, random.steps, random.seed) == (None, 0, 0)
    assert (random.facts["trained_env"], random.facts["model_sha256"], random.facts["machine"]["device"]) == (None,) * 3
    bare_one = results[3]
    assert (bare_one.condition, bare_one.facts["trained_env"]) == (None, None)
    assert bare_one.facts["model_sha256"] == hashlib.sha256((bare / "drqn.zip").read_bytes()).hexdigest()
    assert one.episodes().equals(other.episodes())


def test_at_epsilon_one_agents_do_not_matter(bare: Path, tmp_path: Path) -> None:
    common = ["--env", "CartPole-v1", "--conditions", "normal", *QUICK, "--epsilon", 1, "--stochastic"]
    evaluate(bare / "plain.zip", "--algo", "ppo", "--out", tmp_path, *common)
    evaluate(bare / "drqn.zip", "--algo", "drqn", "--out", tmp_path, *common)
    one, other = (read_result(folder) for folder in find_results([tmp_path]))
    assert one.episodes().equals(other.episodes())
    assert one.video is not None and other.video is not None
    assert one.video.read_bytes() == other.video.read_bytes()  # films are of the same games


BARE = ["--algo", "ppo", "--env", "CartPole-v1"]
ERRORS: dict[str, tuple[Callable[[Path], list[object]], str]] = {
    "another environment's model": (
        lambda bare: [bare / "plain.zip", "--algo", "ppo", "--env", "Acrobot-v1"],
        "made for observations",
    ),
    "another algorithm's model": (
        lambda bare: [bare / "plain.zip", "--algo", "drqn", "--env", "CartPole-v1"],
        "a model of drqn",
    ),
    "the same one twice": (lambda bare: [bare / "plain.zip", bare / "plain.zip", *BARE], "tell them apart with --names"),
    "unknown condition": (lambda bare: [bare / "plain.zip", *BARE, "--conditions", "fog"], "a condition must be"),
    "level out of bounds": (
        lambda bare: [bare / "plain.zip", *BARE, "--sweep", "flicker", "--levels", 2],
        "flicker must have",
    ),
    "levels of nothing": (
        lambda bare: [bare / "plain.zip", *BARE, "--conditions", "normal", "--levels", 1],
        "must go with a --sweep",
    ),
    "no games": (lambda bare: [bare / "plain.zip", *BARE, "--games", 0], "games must be a whole number"),
    "a name for no folder": (
        lambda bare: [bare / "plain.zip", *BARE, "--names", "a/b"],
        "a name must be one that a folder may have",
    ),
    "no plug-in": (lambda bare: ["--agent", "nowhere:Agent", "--env", "CartPole-v1"], "agent must be the dotted path"),
    "bare": (lambda bare: [bare / "plain.zip"], "give --algo and --env"),
    "no environment": (lambda bare: [bare / "plain.zip", "--algo", "ppo", "--env", "Nope-v0"], "Nope-v0 can't be made"),
    "no argument of it": (
        lambda bare: [bare / "plain.zip", *BARE, "--env-kwargs", "{colour: 1}"],
        r"CartPole-v1 can't be made with \{'colour': 1\}",
    ),
    "no wrapper": (lambda bare: [bare / "plain.zip", *BARE, "--env-wrapper", "a.B"], r"a wrapper of \['a\.B'\] can't be had"),
    "half a wrapper": (lambda bare: [bare / "plain.zip", *BARE, "--env-wrapper", "{a"], "--env-wrapper must be dotted names"),
    "no package": (lambda bare: [bare / "plain.zip", *BARE, "--gym-packages", "nowhere"], "--gym-packages must be modules"),
}


@pytest.mark.parametrize(("words", "message"), ERRORS.values(), ids=ERRORS.keys())
def test_errors_come_before_any_game(words: Callable[[Path], list[object]], message: str, bare: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=message):
        evaluate(*words(bare), "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("text", ["3", "{a"])
def test_env_kwargs_are_names_and_values(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        evaluate("--env-kwargs", text)
    assert "must be names and values such as '{a: 1}'" in capsys.readouterr().err


def test_the_zoos_model_of_another_environment_is_refused(zoo_run: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="trained on CartPole-v1, and --env says CartPoleNoVel-v1: add --other-env"):
        evaluate(zoo_run, "--env", "CartPoleNoVel-v1", "--out", tmp_path)
    words = ["--env", "CartPoleNoVel-v1", "--other-env", "--conditions", "normal", "--no-film", *QUICK]
    assert evaluate(zoo_run, *words, "--out", tmp_path) == 0
    (folder,) = find_results([tmp_path])
    assert folder.relative_to(tmp_path).as_posix() == "CartPoleNoVel-v1/ppo/untrained/seed-3"
    result = read_result(folder)
    assert (result.env, result.facts["trained_env"]) == ("CartPoleNoVel-v1", "CartPole-v1")
    assert (result.condition, result.seed, result.steps) == (None, 3, 64)  # it was not trained here


def test_by_default_observations_get_scarcer(bare: Path, tmp_path: Path) -> None:
    assert evaluate(bare / "plain.zip", *BARE, "--games", 1, "--no-film", "--out", tmp_path) == 0
    (folder,) = find_results([tmp_path])
    conditions = read_result(folder).episodes()["condition"].tolist()
    assert conditions == ["normal", *(f"flicker-{prob:g}" for prob in SWEEPS["flicker"][1:])]
    assert SWEEPS["flicker"][0] == 1 and SWEEPS["flicker"][-1] == 0
    for kind, levels in SWEEPS.items():
        assert all(str(Condition().replace(kind, level)) for level in levels)


def test_help_comes_quickly_and_as_a_process_it_is_quiet(bare: Path, tmp_path: Path) -> None:
    code = "import sys; from eval.__main__ import main\ntry: main(['evaluate', '--help'])\nexcept SystemExit: pass\n"
    code += "print(sorted({'torch', 'gymnasium', 'stable_baselines3', 'pandas', 'drqn_sb3', 'PIL'} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout.endswith("[]\n") and "flicker-X" in run.stdout
    words = ["evaluate", str(bare / "plain.zip"), *BARE, "--conditions", "normal", *QUICK, "--out", str(tmp_path), "--no-film"]
    run = subprocess.run([sys.executable, "-m", "eval", *words], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "Gym has been" not in run.stderr and "Warning" not in run.stderr
    assert "plain" in run.stderr and "3/3" in run.stderr  # the progress bar
