import argparse
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from eval.conditions import Condition
from eval.run.cli import has_parts, plan
from eval.run.configs import complete, find_config, is_resumable
from eval.run.plan import check_begun, check_suite, make_plan, write_plan
from eval.suite import SUITES, Suite, SuiteError, find_suite, read_suite

PROGRESS = "eval.run.training.ProgressCallback"
CHECKPOINTS = "drqn_sb3.RunCheckpointCallback"


def a_suite(folder: Path, **changes: Any) -> Suite:
    entries = {
        "name": "small",
        "environments": {"CartPoleNoVel-v1": {"steps": 100}},
        "agents": {
            "drqn": {"algo": "drqn", "hyperparams": {"n_steps": 1}, "per_env": {"CartPoleNoVel-v1": {"batch_size": 7}}}
        },
        "seeds": [0],
        "evaluation": {"games": 3},
    }
    path = folder / "small.yml"
    path.write_text(yaml.safe_dump({**entries, **changes}, sort_keys=False))
    return read_suite(path)


def planned(suite: Suite, results: Path, device: str = "cpu", evaluate_again: bool = False) -> list[Path]:
    """Plan a suite, as the command does."""
    plan = make_plan(suite, results, device)
    check_begun(plan, evaluate_again)
    write_plan(suite, results, plan)
    return list(plan)


def agent_of(folder: Path, env: str, **entry: Any) -> dict[str, Any]:
    suite = a_suite(folder, environments={env: {"steps": 1}}, agents={"one": entry})
    return find_config(suite.agents[0], env)


def test_a_job_says_all_that_is_to_be_done(tmp_path: Path) -> None:
    (folder,) = planned(a_suite(tmp_path), tmp_path / "results")
    job = json.loads((folder / "job.json").read_text())
    assert folder == tmp_path / "results" / "CartPoleNoVel-v1" / "drqn" / "normal" / "seed-0"
    assert (job["env"], job["algo"], job["condition"], job["seed"], job["steps"]) == (
        "CartPoleNoVel-v1",
        "drqn",
        "normal",
        0,
        100,
    )
    assert job["config"]["n_steps"] == 1, "the agent's"
    assert job["config"]["batch_size"] == 7, "the agent's on this environment"
    assert job["config"]["sequence_length"] == 10, "shipped"
    assert job["evaluation"]["conditions"] == ["normal"]
    assert job["device"] == "cpu"


def test_a_plan_lists_what_has_to_be_there(tmp_path: Path) -> None:
    folders = planned(a_suite(tmp_path, conditions=["normal", "flicker-0.5"], seeds=[3, 4]), tmp_path / "results")
    plan = json.loads((tmp_path / "results" / "suite.json").read_text())
    assert plan["name"] == "small"
    assert [tmp_path / "results" / job["folder"] for job in plan["jobs"]] == folders
    assert [(job["condition"], job["seed"]) for job in plan["jobs"]] == [
        ("normal", 3),
        ("flicker-0.5", 3),
        ("normal", 4),
        ("flicker-0.5", 4),
    ]


def test_the_budget_of_the_hyperparameters_may_change_which_the_suites_steps_replace(tmp_path: Path) -> None:
    agents = {"dqn": {"algo": "dqn", "hyperparams": {"n_timesteps": 7}}}
    (folder,) = planned(a_suite(tmp_path, agents=agents), tmp_path / "results")
    (folder / "trained.json").write_text("{}")
    agents["dqn"]["hyperparams"] = {"n_timesteps": 8}
    assert planned(a_suite(tmp_path, agents=agents), tmp_path / "results") == [folder]
    agents["dqn"]["hyperparams"] = {"n_timesteps": 8, "gamma": 0.5}
    with pytest.raises(SuiteError, match=r"was begun with other settings \(config.gamma: None -> 0.5\)"):
        planned(a_suite(tmp_path, agents=agents), tmp_path / "results")


def test_the_points_of_the_curve_may_change_for_an_agent_that_is_not_trained(tmp_path: Path) -> None:
    random = {"random": {"plug_in": "eval.evaluation.agents.RandomAgent", "like": "drqn"}}
    agents = {"drqn": {"algo": "drqn"}, **random}
    trained, untrained = planned(a_suite(tmp_path, agents=agents, curve={"points": 2}), tmp_path / "results")
    (untrained / "result.json").write_text("{}")
    longer = a_suite(tmp_path, agents=agents, curve={"points": 3})
    assert planned(longer, tmp_path / "results") == [trained, untrained]
    assert (untrained / "result.json").exists()
    (trained / "trained.json").write_text("{}")
    with pytest.raises(SuiteError, match=r"drqn/normal/seed-0 was begun with other settings \(curve.points: 3 -> 2\)"):
        planned(a_suite(tmp_path, agents=agents, curve={"points": 2}), tmp_path / "results")


def test_making_a_plan_writes_nothing(tmp_path: Path) -> None:
    assert len(make_plan(a_suite(tmp_path), tmp_path / "results")) == 1
    assert not (tmp_path / "results").exists()


def test_a_suite_can_grow_and_what_was_begun_cannot_change(tmp_path: Path) -> None:
    results = tmp_path / "results"
    (first,) = planned(a_suite(tmp_path), results)
    (first / "trained.json").write_text("{}")
    former = (first / "job.json").read_bytes()
    folders = planned(a_suite(tmp_path, seeds=[0, 1]), results)
    assert len(folders) == 2
    assert (first / "job.json").read_bytes() == former
    planned(a_suite(tmp_path), results, "auto")
    changed = a_suite(tmp_path, environments={"CartPoleNoVel-v1": {"steps": 200}}, evaluation={"games": 4})
    with pytest.raises(
        SuiteError, match=r"seed-0 was begun with other settings \(steps: 100 -> 200; evaluation.games: 3 -> 4\)"
    ):
        planned(changed, results, evaluate_again=True)
    assert json.loads((first / "job.json").read_text())["steps"] == 100


def test_what_has_left_nothing_can_change(tmp_path: Path) -> None:
    results = tmp_path / "results"
    (folder,) = planned(a_suite(tmp_path), results)
    (folder / "zoo" / "drqn" / "CartPoleNoVel-v1_1").mkdir(parents=True)
    planned(a_suite(tmp_path, environments={"CartPoleNoVel-v1": {"steps": 200}}), results)
    assert json.loads((folder / "job.json").read_text())["steps"] == 200
    assert not (folder / "zoo").exists(), "of a run that failed at once"


def test_trained_agents_play_anew_if_that_is_asked_for(tmp_path: Path) -> None:
    results = tmp_path / "results"
    (folder,) = planned(a_suite(tmp_path), results)
    (folder / "parts").mkdir()
    for name in ("trained.json", "result.json", "zoo"):
        (folder / name).write_text("{}")
    changed = a_suite(tmp_path, evaluation={"games": 4})
    with pytest.raises(
        SuiteError, match=r"\(evaluation.games: 3 -> 4\): .*, or add --evaluate-again to have trained agents play"
    ):
        planned(changed, results)
    assert (folder / "result.json").exists()
    planned(changed, results, evaluate_again=True)
    assert not (folder / "result.json").exists()
    assert not (folder / "parts").exists()
    assert (folder / "trained.json").exists()
    assert (folder / "zoo").exists()


ONLY = {
    "an agent": (["drqn"], {"drqn/normal/seed-1", "drqn/normal/seed-10", "drqn/hide_velocity/seed-1"}),
    "an agent and a condition": (["drqn", "hide_velocity"], {"drqn/hide_velocity/seed-1"}),
    "an agent and a seed": (["drqn", "seed-1"], {"drqn/normal/seed-1", "drqn/hide_velocity/seed-1"}),
    "parts in a row": (["drqn/normal"], {"drqn/normal/seed-1", "drqn/normal/seed-10"}),
    "one job": (["/a_b-v0/drqn/normal/seed-1/"], {"drqn/normal/seed-1"}),
    "half of a part": (["dr"], set()),
    "half of parts in a row": (["drqn/normal/seed"], set()),
    "nothing": (["/"], set()),
}


@pytest.mark.parametrize(("only", "names"), ONLY.values(), ids=ONLY.keys())
def test_jobs_are_named_by_whole_parts_of_their_folders(only: list[str], names: set[str]) -> None:
    ways = ("normal/seed-1", "normal/seed-10", "hide_velocity/seed-1")
    jobs = {f"{agent}/{way}" for agent in ("drqn", "drqn-small") for way in ways}
    assert {job for job in jobs if all(has_parts(f"a_b-v0/{job}", text) for text in only)} == names


def test_only_the_jobs_that_are_asked_for_are_planned(tmp_path: Path) -> None:
    suite = a_suite(tmp_path, seeds=[1, 10])
    ways = {"out": tmp_path / "results", "dry_run": True, "device": "cpu", "evaluate_again": False}
    args = argparse.Namespace(**ways, only=["drqn", "seed-1"])
    folders, _ = plan(suite, args)
    assert [folder.name for folder in folders] == ["seed-1"]
    args.only = ["seed"]
    with pytest.raises(SuiteError, match="--only must name a job, got seed; jobs are named like CartPoleNoVel-v1/drqn/normal"):
        plan(suite, args)


def test_a_damaged_job_is_named(tmp_path: Path) -> None:
    (folder,) = planned(a_suite(tmp_path), tmp_path / "results")
    (folder / "job.json").write_text("")
    with pytest.raises(SuiteError, match=rf"{folder / 'job.json'} is damaged .*: remove {folder}"):
        planned(a_suite(tmp_path), tmp_path / "results")


def test_hyperparameters_are_found_as_the_zoo_finds_them(tmp_path: Path) -> None:
    assert agent_of(tmp_path, "CartPole-v1", algo="dqn")["policy"] == "MlpPolicy", "the zoo's"
    assert agent_of(tmp_path, "SlimeVolley-v0", algo="dqn")["n_envs"] == 16, "ours, where the zoo has none"
    assert agent_of(tmp_path, "PongNoFrameskip-v4", algo="dqn")["frame_stack"] == 4, "those of Atari games"
    assert agent_of(tmp_path, "Acrobot-v1", algo="drqn") == {"n_timesteps": 1e6, "policy": "MlpLstmPolicy"}, "the default ones"
    preset = agent_of(tmp_path, "PongNoFrameskip-v4", algo="drqn", conf_file="presets/paper_drqn.yml")
    assert preset["learning_rate"] == 0.1, "a preset's"


UNKNOWN = {
    "algorithm": ("CartPole-v1", {"algo": "drqm"}, r"agents.one.algo must be one of .*drqn.*, got drqm"),
    "hyperparameters": (
        "CartPole-v1",
        {"algo": "dqn", "conf_file": "presets/replication_dqn.yml"},
        "agents.one: replication_dqn.yml has no hyperparameters for CartPole-v1",
    ),
}


@pytest.mark.parametrize(("env", "entry", "words"), UNKNOWN.values(), ids=UNKNOWN.keys())
def test_what_is_unknown_is_named(env: str, entry: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(SuiteError, match=words):
        agent_of(tmp_path, env, **entry)


def test_an_unknown_environment_is_named(tmp_path: Path) -> None:
    check_suite(read_suite(find_suite("atari-flicker")))
    with pytest.raises(SuiteError, match=r"environments must be known to Gymnasium, got Pongg-v0"):
        check_suite(a_suite(tmp_path, environments={"Pongg-v0": {"steps": 1}}, agents={"dqn": {"algo": "dqn"}}))


BAD_SUITES: dict[str, tuple[dict[str, Any], str]] = {
    "a hyperparameter misspelt": (
        {"agents": {"x": {"algo": "drqn", "hyperparams": {"learning_start": 5}}}},
        "agents.x: drqn has no hyperparameter learning_start; it has .*learning_starts",
    ),
    "a policy of another algorithm": (
        {"agents": {"x": {"algo": "drqn", "hyperparams": {"policy": "MlpPolicy"}}}},
        "agents.x: policy must be one of .*MlpLstmPolicy.*, got MlpPolicy",
    ),
    "an algorithm for other actions": (
        {"agents": {"x": {"algo": "sac"}}, "environments": {"CartPole-v1": {"steps": 1}}},
        "CartPole-v1 must have a Box action space for sac, got Discrete",
    ),
    "actions for another algorithm": (
        {"agents": {"x": {"algo": "drqn"}}, "environments": {"Pendulum-v1": {"steps": 1}}},
        "Pendulum-v1 must have a Discrete action space for drqn, got Box",
    ),
    "a wrapper that is not there": (
        {"agents": {"x": {"algo": "drqn", "hyperparams": {"env_wrapper": "no.such.Wrapper"}}}},
        "no.such.Wrapper",
    ),
    "a stack of less than nothing": (
        {"agents": {"x": {"algo": "dqn", "hyperparams": {"frame_stack": -3}}}, "environments": {"CartPole-v1": {"steps": 1}}},
        "frame_stack must be a whole number above 0, got -3",
    ),
    "velocities that nobody knows": (
        {"conditions": ["hide_velocity"], "agents": {"x": {"algo": "drqn"}}, "environments": {"Recall-v0": {"steps": 1}}},
        "Recall-v0",
    ),
    "velocities that nobody knows, when playing": (
        {
            "evaluation": {"conditions": ["hide_velocity"]},
            "agents": {"x": {"algo": "drqn"}},
            "environments": {"Recall-v0": {"steps": 1}},
        },
        "Recall-v0",
    ),
    "a plug-in that is not there": (
        {"agents": {"x": {"plug_in": "eval.evaluation.agents.Randm"}}},
        "agents.x.plug_in: .*Randm",
    ),
    "weights that are not there": (
        {"agents": {"x": {"algo": "drqn", "hyperparams": {"callback": [{"drqn_sb3.WarmStart": {"path": "no/such.zip"}}]}}}},
        "agents.x: WarmStart must have the path of a model's zip, from the checkout's folder, got no/such.zip",
    ),
    "weights of nobody": (
        {"agents": {"x": {"algo": "drqn", "hyperparams": {"callback": "drqn_sb3.WarmStart"}}}},
        "agents.x: WarmStart must have the path of a model's zip, from the checkout's folder, got None",
    ),
    "a package that is not there": ({"gym_packages": ["nobodys_games"]}, "gym_packages must be modules, got nobodys_games"),
}


@pytest.mark.parametrize(("changes", "words"), BAD_SUITES.values(), ids=BAD_SUITES.keys())
def test_what_cannot_be_done_is_told_of_before_anything_is_begun(changes: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(SuiteError, match=words):
        make_plan(a_suite(tmp_path, **changes), tmp_path / "results")
    assert not (tmp_path / "results").exists()


HELD = {
    "ours": ("drqn", {}, True, True),
    "ours, dicts": ("drqn", {}, False, True),
    "the stock DQN": ("dqn", {}, True, True),
    "the stock DQN with our buffer": ("qrdqn", {"replay_buffer_class": "FrameStackReplayBuffer"}, True, True),
    "the stock DQN with another": ("dqn", {"replay_buffer_class": "HerReplayBuffer"}, True, False),
    "the stock DQN, dicts": ("dqn", {}, False, False),
    "on-policy": ("ppo_lstm", {}, False, True),
    "on-policy with noise of its own": ("ppo", {"use_sde": True}, True, False),
    "others": ("trpo", {}, True, False),
}


@pytest.mark.parametrize(("algo", "config", "holds_arrays", "expected"), HELD.values(), ids=HELD.keys())
def test_what_checkpoints_can_hold_is_known(algo: str, config: dict[str, Any], holds_arrays: bool, expected: bool) -> None:
    assert is_resumable(config, algo, holds_arrays) is expected


def test_what_no_checkpoint_can_hold_is_trained_all_the_same(tmp_path: Path) -> None:
    suite = a_suite(tmp_path, environments={"Pendulum-v1": {"steps": 1}}, agents={"ppo": {"algo": "ppo"}})
    (job,) = make_plan(suite, tmp_path).values()
    assert job["config"]["use_sde"] is True, "as the zoo has it"
    assert job["resumable"] is False
    assert job["config"]["callback"] == [PROGRESS]


def test_games_of_the_paper_compare_memory_and_little_else(tmp_path: Path) -> None:
    for name in ("atari-flicker", "atari-normal"):
        suite = read_suite(find_suite(name))
        drqn, *others = [find_config(suite.agents[0], env) for env in suite.environments]
        defaults = {"policy_kwargs": None, "initial_state": "zero"}
        assert all({**defaults, **other, "n_timesteps": 1e7} == {**defaults, **drqn} for other in others), "one setting"
        dqn = find_config(suite.agents[1], "BowlingNoFrameskip-v4")
        same = (
            "n_envs",
            "n_steps",
            "gamma",
            "learning_rate",
            "buffer_size",
            "learning_starts",
            "exploration_final_eps",
            "env_wrapper",
        )
        assert {key: drqn[key] for key in same} == {key: dqn[key] for key in same}
        assert drqn["exploration_steps"] == dqn["exploration_fraction"] * 1e7
        # Steps trained on per step taken; updates between two copies of the target network
        assert drqn["batch_size"] * drqn["sequence_length"] / (drqn["train_freq"] * 8) == dqn["batch_size"] * 2 / 8
        assert drqn["target_update_interval"] / (drqn["train_freq"] * 8) == dqn["target_update_interval"] * 2 / 8


CONFIGS: dict[str, tuple[dict[str, Any], str, str, dict[str, Any]]] = {
    "nothing hidden": ({"env_wrapper": "a.B"}, "normal", "drqn", {"env_wrapper": "a.B", "callback": [CHECKPOINTS, PROGRESS]}),
    "hidden behind one": (
        {"env_wrapper": "a.B"},
        "flicker-0.5",
        "drqn",
        {
            "env_wrapper": ["a.B", {"drqn_sb3.wrappers.FlickerObservation": {"observe_prob": 0.5}}],
            "callback": [CHECKPOINTS, PROGRESS],
        },
    ),
    "hidden behind some": (
        {"env_wrapper": [{"a.B": {"c": 1}}, "d.E"]},
        "hide_velocity",
        "ppo",
        {
            "env_wrapper": [{"a.B": {"c": 1}}, "d.E", {"drqn_sb3.wrappers.HideVelocity": {}}],
            "callback": [CHECKPOINTS, PROGRESS],
        },
    ),
    "callbacks of its own": (
        {"callback": [{"drqn_sb3.checkpoints.RunCheckpointCallback": {"keep": 3}}, "a.B"]},
        "normal",
        "a2c",
        {"callback": [{"drqn_sb3.checkpoints.RunCheckpointCallback": {"keep": 3}}, "a.B", PROGRESS]},
    ),
    "a buffer that checkpoints can hold": (
        {},
        "normal",
        "dqn",
        {"replay_buffer_class": "FrameStackReplayBuffer", "callback": [CHECKPOINTS, PROGRESS]},
    ),
    "no checkpoints": ({}, "normal", "trpo", {"callback": [PROGRESS]}),
}


@pytest.mark.parametrize(("config", "condition", "algo", "expected"), CONFIGS.values(), ids=CONFIGS.keys())
def test_hyperparameters_are_completed(config: dict[str, Any], condition: str, algo: str, expected: dict[str, Any]) -> None:
    before = json.dumps(config)
    assert complete(config, Condition.parse(condition), algo, algo != "trpo") == expected
    assert json.dumps(config) == before


def test_hyperparameters_that_hide_observations_themselves_are_refused(tmp_path: Path) -> None:
    config = agent_of(tmp_path, "PongNoFrameskip-v4", algo="drqn", conf_file="presets/paper_flicker_drqn.yml")
    with pytest.raises(SuiteError, match=r"must leave hiding observations to the suite's conditions, got FlickerObservation"):
        complete(config, Condition(), "drqn", True)


def test_native_games_show_everything(tmp_path: Path) -> None:
    config = agent_of(tmp_path, "PongNoFrameskip-v4", algo="drqn", conf_file="presets/native_atari_drqn.yml")
    assert complete(config, Condition(), "drqn", True)["vec_env_wrapper"] == config["vec_env_wrapper"]
    with pytest.raises(
        SuiteError, match=r"condition must be normal with drqn_sb3.envs.native_atari, got flicker-0.5: use AtariWrap"
    ):
        complete(config, Condition.parse("flicker-0.5"), "drqn", True)


def test_wrappers_whose_part_a_condition_would_hide_are_refused_before_training(tmp_path: Path) -> None:
    wrappers = ["drqn_sb3.last_action.LastAction", {"rl_zoo3.wrappers.FrameSkip": {"skip": 2}}]
    agents = {"told": {"algo": "drqn", "hyperparams": {"policy": "MultiInputLstmPolicy", "env_wrapper": wrappers}}}
    suite = {"environments": {"CartPole-v1": {"steps": 1}}, "agents": agents}
    assert len(planned(a_suite(tmp_path, **suite), tmp_path / "normal")) == 1
    for change in ({"conditions": ["flicker-0.5"]}, {"evaluation": {"games": 1, "sweep": {"flicker": [1.0, 0.5]}}}):
        with pytest.raises(SuiteError, match=r"must end in LastAction .*flicker-0.5.* got LastAction, FrameSkip"):
            planned(a_suite(tmp_path, **suite, **change), tmp_path / "hidden")


def test_a_plug_in_plays_in_the_environments_of_the_agent_that_it_is_like(tmp_path: Path) -> None:
    agents = {"drqn": {"algo": "drqn"}, "chance": {"plug_in": "eval.evaluation.agents.RandomAgent", "like": "drqn"}}
    suite = a_suite(tmp_path, environments={"SlimeVolley-v0": {"steps": 1}}, agents=agents)
    drqn, chance = (json.loads((folder / "job.json").read_text()) for folder in planned(suite, tmp_path / "results"))
    assert chance["config"] == {"env_wrapper": drqn["config"]["env_wrapper"]}
    assert (chance["condition"], chance["steps"], chance["plug_in"]) == (None, 0, "eval.evaluation.agents.RandomAgent")


@pytest.mark.parametrize("name", sorted(path.stem for path in SUITES.glob("*.yml")))
def test_every_job_of_a_shipped_suite_can_be_planned(name: str, tmp_path: Path) -> None:
    suite = read_suite(find_suite(name))
    jobs = make_plan(suite, tmp_path).values()
    assert len(jobs) == len(suite.jobs())
    assert all(job["resumable"] == (job["algo"] is not None) for job in jobs)
