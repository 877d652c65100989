"""What the command line names: runs of the zoo, bare models, plug-ins."""

import argparse
import hashlib
from pathlib import Path
from typing import Any

import pytest
import yaml
from evaluation_world import ATARI

from eval.conditions import Condition
from eval.evaluation.cli import add_arguments
from eval.evaluation.environments import EnvSpec
from eval.evaluation.models import Contestant, find_contestants, jsonable, model_file, model_sha256, read_zoo_yaml

CONFIG = """!!python/object/apply:collections.OrderedDict
- - - env_wrapper
    - - drqn_sb3.envs.DiscreteActions
      - drqn_sb3.wrappers.FlickerObservation:
          observe_prob: 0.5
  - - frame_stack
    - 4
  - - normalize
    - true
  - - policy_kwargs
    - activation_fn: !!python/name:torch.nn.modules.activation.ReLU ''
      net_arch: !!python/tuple
      - 8
      - 8
"""
ARGS = """!!python/object/apply:collections.OrderedDict
- - - algo
    - dqn
  - - env
    - SlimeVolley-v0
  - - env_kwargs
    - survival_bonus: true
  - - seed
    - 7
"""


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A folder as the zoo leaves it, but for the model."""
    folder = tmp_path / "logs" / "dqn" / "SlimeVolley-v0_3"
    parameters = folder / "SlimeVolley-v0"
    parameters.mkdir(parents=True)
    (parameters / "config.yml").write_text(CONFIG)
    (parameters / "args.yml").write_text(ARGS)
    (parameters / "vecnormalize.pkl").write_text("")
    (folder / "SlimeVolley-v0.zip").write_text("")
    (folder / "best_model.zip").write_text("")
    return folder


def arguments(*words: object) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return parser.parse_args([str(word) for word in words])


def test_of_a_run_everything_is_known(run: Path) -> None:
    for model in (run, run / "SlimeVolley-v0.zip"):
        (found,) = find_contestants(arguments(model))
        assert found.spec == EnvSpec(
            "SlimeVolley-v0",
            {"survival_bonus": True},
            ["drqn_sb3.envs.DiscreteActions"],
            4,
            run / "SlimeVolley-v0" / "vecnormalize.pkl",
        )
        assert (found.name, found.algo, found.condition, found.seed) == ("dqn", "dqn", "flicker-0.5", 7)
        assert found.trained_env == "SlimeVolley-v0"
        assert found.model == run / "SlimeVolley-v0.zip"
        assert found.config["policy_kwargs"] == {"activation_fn": "torch.nn.modules.activation.ReLU", "net_arch": [8, 8]}


def test_another_model_of_a_run_can_be_chosen(run: Path) -> None:
    found = find_contestants(arguments(run, run / "best_model.zip", "--names", "last", "best"))
    assert [one.name for one in found] == ["last", "best"]
    assert [one.model for one in found] == [run / "SlimeVolley-v0.zip", run / "best_model.zip"]
    assert found[0].spec == found[1].spec


def test_what_is_given_comes_before_what_is_known(run: Path, tmp_path: Path) -> None:
    words: tuple[object, ...] = ("--frame-stack", 2, "--env-wrapper", ATARI, "{rl_zoo3.wrappers.FrameSkip: {skip: 3}}")
    words += ("--vec-normalize", tmp_path / "other.pkl", "--env-kwargs", "{survival_bonus: false}")
    (found,) = find_contestants(arguments(run, *words))
    wrappers = [ATARI, {"rl_zoo3.wrappers.FrameSkip": {"skip": 3}}]
    assert found.spec == EnvSpec("SlimeVolley-v0", {"survival_bonus": False}, wrappers, 2, tmp_path / "other.pkl")
    assert found.condition == "flicker-0.5"  # it was trained so


def test_of_a_bare_model_it_has_to_be_said(tmp_path: Path) -> None:
    model = tmp_path / "mine.zip"
    model.write_text("")
    words = (model, "--algo", "ppo", "--env", "CartPole-v1", "--frame-stack", 3)
    spec = EnvSpec("CartPole-v1", {}, [], 3)
    (found,) = find_contestants(arguments(*words))
    # How it was trained is not known, and "normal" would be a guess
    assert found == Contestant("mine", "ppo", model, spec, None, None, None, {"frame_stack": 3})
    (found,) = find_contestants(arguments(*words, "--trained-on", "flicker-0.5+hide_velocity", "--training-seeds", 4))
    assert (found.trained_env, found.condition, found.seed) == ("CartPole-v1", "hide_velocity+flicker-0.5", 4)
    assert found.spec == spec


def test_seeds_go_to_the_models_that_have_none_and_one_name_to_all(run: Path, tmp_path: Path) -> None:
    models = [tmp_path / f"{name}.zip" for name in "abc"]
    for model in models:
        model.write_text("")
    words = (models[0], run, *models[1:], "--algo", "dqn", "--env", "SlimeVolley-v0", "--names", "mine")
    found = find_contestants(arguments(*words, "--training-seeds", 5, 0, 6))
    assert [(one.name, one.seed) for one in found] == [("mine", seed) for seed in (5, 7, 0, 6)]
    assert [one.seed for one in find_contestants(arguments(*words))] == [None, 7, None, None]


def test_whether_a_held_action_was_a_condition_can_be_said(run: Path) -> None:
    skip = {"rl_zoo3.wrappers.FrameSkip": {"skip": 2}}
    wrappers = ["drqn_sb3.envs.DiscreteActions", *Condition.parse("repeat-2+flicker-0.5").env_wrappers()]
    (run / "SlimeVolley-v0" / "config.yml").write_text(yaml.safe_dump({"env_wrapper": wrappers}))
    (unsaid,) = find_contestants(arguments(run))
    assert (unsaid.condition, unsaid.spec.env_wrapper) == ("flicker-0.5", [wrappers[0], skip])
    (said,) = find_contestants(arguments(run, "--trained-on", "repeat-2+flicker-0.5"))
    assert (said.condition, said.spec.env_wrapper) == ("repeat-2+flicker-0.5", [wrappers[0]])


def test_a_plug_in_needs_an_environment_only() -> None:
    (found,) = find_contestants(arguments("--agent", "eval.evaluation.agents:RandomAgent", "--env", "CartPole-v1"))
    spec = EnvSpec("CartPole-v1", {}, [])
    assert found == Contestant("RandomAgent", "eval.evaluation.agents:RandomAgent", None, spec, None, None, 0, {})


def test_a_model_is_known_by_its_contents(tmp_path: Path) -> None:
    model, statistics = tmp_path / "model.zip", tmp_path / "vecnormalize.pkl"
    model.write_bytes(b"weights")
    statistics.write_bytes(b"means")
    assert model_sha256(model, None) == hashlib.sha256(b"weights").hexdigest()
    assert model_sha256(model, statistics) == hashlib.sha256(b"weightsmeans").hexdigest()


ERRORS: dict[str, tuple[tuple[str, ...], str]] = {
    "nothing": ((), "there must be a MODEL or an --agent to evaluate"),
    "nobody there": (("nowhere",), "a MODEL must be a zip file or a run's folder, nowhere is not there"),
    "bare model": (("bare.zip",), r"bare.zip: nothing is known of a model.*give --algo and --env"),
    "bare model, half known": (("bare.zip", "--env", "CartPole-v1"), r"give --algo$"),
    "no run": (("empty",), "a MODEL must be a zip file or a run's folder of the zoo, got empty"),
    "unfinished": (("unfinished",), r"unfinished has no X-v0\.zip.*there is best_model\.zip"),
    "two runs in one": (("double",), "double must hold one run, got X-v0, Y-v0"),
    "another algorithm": (("RUN", "--algo", "ppo"), "it is a model of dqn, and --algo says ppo"),
    "another environment": (
        ("RUN", "--env", "CartPole-v1"),
        "trained on SlimeVolley-v0, and --env says CartPole-v1: add --other-env",
    ),
    "statistics lost": (("LOST",), r"its observations were normalised, and .* is not there: give --vec-normalize"),
    "an agent nowhere": (("--agent", "a:B"), "--agent must go with --env"),
    "too few names": (
        ("RUN", "RUN", "RUN", "--names", "a", "b"),
        "--names must be as many as there are contestants, 3, or one for all models, got 2",
    ),
    "a model's name for a plug-in": (
        ("RUN", "--agent", "a:B", "--env", "SlimeVolley-v0", "--names", "a"),
        "--names must be as many as there are contestants, 2,",
    ),
    "too many seeds": (("RUN", "--training-seeds", "1"), "--training-seeds must be one for each.* not known, 0, got 1"),
    "too few seeds": (
        ("bare.zip", "bare.zip", "--algo", "ppo", "--env", "X-v0", "--training-seeds", "1"),
        "--training-seeds must be one for each.* not known, 2, got 1",
    ),
    "a seed below zero": (
        ("bare.zip", "--algo", "ppo", "--env", "X-v0", "--training-seeds", "-3"),
        "--training-seeds must be of at least 0, got -3",
    ),
    "another condition": (
        ("RUN", "--trained-on", "flicker-0.25"),
        "it was trained under flicker-0.5, and --trained-on says flicker-0.25",
    ),
    "held, without a wrapper that does it": (
        ("RUN", "--trained-on", "repeat-3+flicker-0.5"),
        "env_wrapper must end in the FrameSkip of repeat-3",
    ),
    "no condition": (
        ("bare.zip", "--algo", "ppo", "--env", "X-v0", "--trained-on", "fog"),
        "bare.zip: a condition must be",
    ),
    "a condition among the task's wrappers": (
        ("bare.zip", "--algo", "ppo", "--env", "X-v0", "--env-wrapper", "drqn_sb3.wrappers.FlickerObservation"),
        "give --trained-on flicker-0.5 if the model was trained so, and --conditions flicker-0.5 if it is to play so",
    ),
    "no mapping": (("broken",), "args.yml must hold names and values"),
    "no yaml": (("damaged",), "args.yml can't be read"),
}


@pytest.mark.parametrize(("words", "message"), ERRORS.values(), ids=ERRORS.keys())
def test_what_is_missing_or_contradicts_itself_is_named(
    words: tuple[str, ...], message: str, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bare.zip").write_text("")
    (tmp_path / "empty").mkdir()
    texts = {"unfinished": ARGS, "double": ARGS, "broken": "- 1", "damaged": "{a: b"}
    for folder, text in texts.items():
        for env in ("X-v0", "Y-v0") if folder == "double" else ("X-v0",):
            (tmp_path / folder / env).mkdir(parents=True)
            (tmp_path / folder / env / "args.yml").write_text(text)
            (tmp_path / folder / env / "config.yml").write_text(CONFIG)
    (tmp_path / "unfinished" / "best_model.zip").write_text("")
    if "LOST" in words:
        (run / "SlimeVolley-v0" / "vecnormalize.pkl").unlink()
    with pytest.raises(ValueError, match=message):
        find_contestants(arguments(*(str(run) if word in ("RUN", "LOST") else word for word in words)))


def test_another_environment_can_be_meant(run: Path) -> None:
    (found,) = find_contestants(arguments(run, "--env", "SlimeVolleySurvival-v0", "--other-env"))
    assert (found.spec.env_id, found.trained_env) == ("SlimeVolleySurvival-v0", "SlimeVolley-v0")
    assert (found.condition, found.seed) == (None, 7)  # it was not trained here
    (found,) = find_contestants(arguments(run, "--env", "SlimeVolley-v0", "--other-env"))
    assert (found.trained_env, found.condition) == ("SlimeVolley-v0", "flicker-0.5")


def test_reading_a_config_runs_nothing(tmp_path: Path) -> None:
    path = tmp_path / "config.yml"
    text = "a: !!python/object/apply:os.system ['touch was_run']\nb: !!python/object/new:pathlib.Path ['x']\nc: 1\n"
    path.write_text(text)
    assert read_zoo_yaml(path) == {"a": "os.system", "b": "pathlib.Path", "c": 1}
    with pytest.raises(yaml.YAMLError):
        yaml.safe_load(text)
    assert not Path("was_run").exists()


VALUES: dict[str, tuple[Any, Any]] = {
    "nested": ({"a": (1, [2.5, None])}, {"a": [1, [2.5, None]]}),
    "keys": ({1: True}, {"1": True}),
    "anything else": ({"p": Path("x")}, {"p": "x"}),
}


@pytest.mark.parametrize(("value", "expected"), VALUES.values(), ids=VALUES.keys())
def test_a_config_can_be_written_as_json(value: Any, expected: Any) -> None:
    assert jsonable(value) == expected


def test_a_file_is_taken_as_it_is(run: Path) -> None:
    assert model_file(run / "best_model.zip") == run / "best_model.zip"
