import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from eval.conditions import Condition
from eval.run.configs import find_config
from eval.suite import SUITES, Evaluation, Suite, SuiteError, find_suite, read_suite

SMALL: dict[str, Any] = {
    "name": "small",
    "environments": {"CartPole-v1": {"steps": 100}},
    "agents": {"dqn": {"algo": "dqn"}},
    "seeds": [0, 1],
}


def written(folder: Path, **changes: Any) -> Path:
    path = folder / "small.yml"
    path.write_text(
        yaml.safe_dump({name: value for name, value in {**SMALL, **changes}.items() if value is not ...}, sort_keys=False)
    )
    return path


def read(folder: Path, **changes: Any) -> Suite:
    return read_suite(written(folder, **changes))


def test_what_is_not_said_has_defaults(tmp_path: Path) -> None:
    suite = read(tmp_path)
    assert suite.conditions == ("normal",)
    assert suite.evaluation == Evaluation()
    assert [(job.env, job.agent.name, job.condition, job.seed, job.steps) for job in suite.jobs()] == [
        ("CartPole-v1", "dqn", "normal", 0, 100),
        ("CartPole-v1", "dqn", "normal", 1, 100),
    ]
    assert [job.folder.as_posix() for job in suite.jobs()] == [f"CartPole-v1/dqn/normal/seed-{seed}" for seed in (0, 1)]


def test_jobs_are_all_combinations_seeds_last(tmp_path: Path) -> None:
    suite = read(
        tmp_path,
        environments={"CartPole-v1": {"steps": 100}, "ALE/Pong-v5": {"steps": 1e6, "env_kwargs": {"mode": 0}}},
        agents={"dqn": {"algo": "dqn"}, "chance": {"plug_in": "eval.evaluation.agents.RandomAgent", "like": "dqn"}},
        conditions=["normal", "flicker-0.5", "flicker-1.0"],
    )
    jobs = suite.jobs()
    assert len(jobs) == 2 * 2 * (2 + 1)
    assert [job.seed for job in jobs] == [0] * 6 + [1] * 6
    assert [job.folder.as_posix() for job in jobs[3:6]] == [
        "ALE_Pong-v5/dqn/normal/seed-0",
        "ALE_Pong-v5/dqn/flicker-0.5/seed-0",
        "ALE_Pong-v5/chance/untrained/seed-0",
    ]
    assert [job.steps for job in jobs[3:6]] == [1_000_000, 1_000_000, 0]
    assert jobs[3].env_kwargs == {"mode": 0}
    assert len({job.folder for job in jobs}) == len(jobs)


SWEEPS = {
    "none": ({}, ["normal"], ["normal"]),
    "of a normal agent": ({"sweep": {"flicker": [1.0, 0.5, 0]}}, ["normal"], ["normal", "flicker-0.5", "flicker-0"]),
    "of a flickering agent": (
        {"sweep": {"flicker": [1.0, 0.5, 0]}},
        ["flicker-0.5"],
        ["flicker-0.5", "normal", "flicker-0"],
    ),
    "what else is hidden stays": (
        {"sweep": {"flicker": [1.0, 0.5]}},
        ["hide_velocity+flicker-0.25"],
        ["hide_velocity+flicker-0.25", "hide_velocity", "hide_velocity+flicker-0.5"],
    ),
    "of two kinds": (
        {"sweep": {"flicker": [0.5], "noise": [0.1]}, "conditions": ["freeze-0.5"]},
        ["normal"],
        ["normal", "flicker-0.5", "noise-0.1", "freeze-0.5"],
    ),
    "of an agent beside two": (
        {"sweep": {"flicker": [0.5]}},
        ["normal", "flicker-0.1"],
        ["normal", "flicker-0.1", "flicker-0.5"],
    ),
}


@pytest.mark.parametrize(("evaluation", "trained", "evaluated"), SWEEPS.values(), ids=SWEEPS.keys())
def test_a_sweep_starts_from_the_training_condition(
    evaluation: dict[str, Any], trained: list[str], evaluated: list[str], tmp_path: Path
) -> None:
    suite = read(tmp_path, evaluation=evaluation, conditions=trained)
    assert suite.evaluation.conditions_for(trained) == evaluated


def test_a_grid_makes_an_agent_of_each_combination(tmp_path: Path) -> None:
    entry = {
        "algo": "drqn",
        "hyperparams": {"batch_size": 8, "n_steps": 1},
        "grid": [{"a": {"n_steps": 2}, "b": {"n_steps": 3}}, {"small": {"buffer_size": 10}, "large": {"buffer_size": 20}}],
    }
    agents = read(tmp_path, agents={"drqn": entry}).agents
    assert [(agent.name, agent.hyperparams) for agent in agents] == [
        ("drqn-a-small", {"batch_size": 8, "n_steps": 2, "buffer_size": 10}),
        ("drqn-a-large", {"batch_size": 8, "n_steps": 2, "buffer_size": 20}),
        ("drqn-b-small", {"batch_size": 8, "n_steps": 3, "buffer_size": 10}),
        ("drqn-b-large", {"batch_size": 8, "n_steps": 3, "buffer_size": 20}),
    ]


def test_a_conf_file_lies_beside_the_suite_or_is_a_shipped_one(tmp_path: Path) -> None:
    (tmp_path / "mine.yml").write_text("default: {}\n")
    (own,) = read(tmp_path, agents={"dqn": {"algo": "dqn", "conf_file": "mine.yml"}}).agents
    assert own.conf_file == tmp_path / "mine.yml"
    (shipped,) = read(tmp_path, agents={"drqn": {"algo": "drqn", "conf_file": "presets/paper_drqn.yml"}}).agents
    assert shipped.conf_file is not None
    assert shipped.conf_file.is_file()


def test_a_budget_may_have_an_exponent(tmp_path: Path) -> None:
    path = written(tmp_path)
    path.write_text(path.read_text().replace("steps: 100", "steps: 1e6"))
    assert read_suite(path).jobs()[0].steps == 1_000_000


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "agents of one folder": (
        {"agents": {"x": {"algo": "dqn"}, "X": {"algo": "dqn"}}},
        "agents must differ in more than upper",
    ),
    "environments of one folder": (
        {"environments": {"ALE/Pong-v5": {"steps": 1}, "ALE_Pong-v5": {"steps": 1}}},
        "environments must differ in more than upper and lower case",
    ),
    "no seeds": ({"seeds": []}, "seeds must be different numbers below 100,000, one at least, got"),
    "no name": ({"name": ...}, "a suite must have name, got environments, agents, seeds"),
    "a name that is a path": ({"name": "../up"}, r"name must be of letters, digits and -_.=, .* got '../up'"),
    "an unknown entry": ({"sedes": [0]}, "a suite may have name, .* got sedes"),
    "the same seed twice": ({"seeds": [0, 0]}, r"seeds must be different .* got \[0, 0\]"),
    "a seed of the evaluation": ({"seeds": [100_000]}, "seeds must be .* below 100,000"),
    "a number of seeds": ({"seeds": 3}, "seeds must be a list, got 3"),
    "evaluated on training seeds": (
        {"evaluation": {"first_seed": 0}},
        "first_seed must be a whole number of at least 100,000, got 0",
    ),
    "no budget": ({"environments": {"CartPole-v1": {}}}, r"environments.CartPole-v1 must have steps, got nothing"),
    "a budget of nothing": (
        {"environments": {"CartPole-v1": {"steps": 0}}},
        "steps must be a whole number of at least 1, got 0",
    ),
    "half a step": ({"environments": {"CartPole-v1": {"steps": 0.5}}}, "steps must be a whole number of at least 1, got 0.5"),
    "a budget in words": ({"environments": {"CartPole-v1": {"steps": "many"}}}, "steps must be a number, got 'many'"),
    "no environment": ({"environments": {}}, "must have an environment and an agent at least, got 0 and 1"),
    "a list of environments": ({"environments": ["CartPole-v1"]}, "environments must be a mapping of names, got"),
    "neither trained nor plugged in": ({"agents": {"x": {}}}, "agents.x must have either algo or plug_in, got neither"),
    "both": ({"agents": {"x": {"algo": "dqn", "plug_in": "a.b"}}}, "agents.x must have either algo or plug_in, got both"),
    "a plug-in's hyperparameters": (
        {"agents": {"x": {"plug_in": "a.b", "grid": []}}},
        "agents.x may not have grid beside plug_in",
    ),
    "an agent like nobody": (
        {"agents": {"x": {"plug_in": "a.b", "like": "y"}}},
        "like must name an agent that is trained, .* got y",
    ),
    "an agent like": ({"agents": {"x": {"algo": "dqn", "like": "y"}}}, "agents.x may not have like beside algo"),
    "an unknown setting": (
        {"agents": {"x": {"algo": "dqn", "hyperparameters": {}}}},
        "agents.x may have algo, .* got hyperparameters",
    ),
    "an environment that is not there": (
        {"agents": {"x": {"algo": "dqn", "per_env": {"Pong-v4": {}}}}},
        "agents.x.per_env may have CartPole-v1, got Pong-v4",
    ),
    "a file that is not there": (
        {"agents": {"x": {"algo": "dqn", "conf_file": "none.yml"}}},
        "conf_file must be a file beside the suite's or in hyperparams/, got none.yml",
    ),
    "two agents of one name": (
        {"agents": {"x": {"algo": "dqn", "grid": [{"a": {}}]}, "x-a": {"algo": "dqn"}}},
        "agents must have different names, got x-a, x-a",
    ),
    "an unknown condition of an environment": (
        {"environments": {"CartPole-v1": {"steps": 1, "conditions": ["dark"]}}},
        "a condition must be 'normal', or of .* got 'dark'",
    ),
    "no condition of an environment": (
        {"environments": {"CartPole-v1": {"steps": 1, "conditions": []}}},
        r"environments\.CartPole-v1\.conditions must have a condition to train in at least, got \[\]",
    ),
    "no condition": ({"conditions": []}, r"conditions must have a condition to train in at least, got \[\]"),
    "an unknown condition": ({"conditions": ["dark"]}, "a condition must be 'normal', or of .* got 'dark'"),
    "a sweep out of bounds": (
        {"evaluation": {"sweep": {"flicker": [2]}}},
        "sweep.flicker must have a number from 0 to 1 .* got 2",
    ),
    "a sweep of what has no level": ({"evaluation": {"sweep": {"hide_velocity": [1]}}}, "sweep may have .* got hide_velocity"),
    "more than every action": ({"evaluation": {"epsilon": 1.5}}, "epsilon must be from 0 to 1, got 1.5"),
    "a text for a truth": ({"evaluation": {"deterministic": "no"}}, "deterministic must be true or false, got 'no'"),
    "no games": ({"evaluation": {"games": 0}}, "games must be a whole number of at least 1, got 0"),
}


@pytest.mark.parametrize(("changes", "words"), BAD.values(), ids=BAD.keys())
def test_a_bad_suite_is_refused(changes: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(SuiteError, match=words) as caught:
        read(tmp_path, **changes)
    assert str(caught.value).startswith(str(tmp_path / "small.yml"))


def test_what_is_no_yaml_is_refused(tmp_path: Path) -> None:
    (tmp_path / "suite.yml").write_text("name: [")
    with pytest.raises(SuiteError, match=r"suite.yml: while parsing"):
        read_suite(tmp_path / "suite.yml")


def test_a_suite_is_found_by_its_path_or_by_its_name(tmp_path: Path) -> None:
    assert find_suite("smoke") == SUITES / "smoke.yml"
    assert find_suite(str(written(tmp_path))) == tmp_path / "small.yml"
    with pytest.raises(SuiteError, match=r"a suite must be a file, or one of atari-flicker, .*, smoke, got smok"):
        find_suite("smok")


SHIPPED = {
    # name: environments, agents, training conditions
    "smoke": (2, 3, ["normal"]),
    "small-tasks": (5, 6, ["normal"]),
    "slimevolley-state": (1, 5, ["hide_velocity"]),
    "slimevolley-state-flicker": (1, 5, ["hide_velocity+flicker-0.5"]),
    "slimevolley": (1, 5, ["normal"]),
    "slimevolley-flicker": (1, 5, ["flicker-0.5"]),
    "slimevolley-flicker-warm": (1, 2, ["flicker-0.5"]),
    "pong": (1, 2, ["normal", "flicker-0.5"]),
    "atari-flicker": (10, 3, ["flicker-0.5"]),
    "atari-normal": (9, 3, ["normal"]),
    "replication": (1, 17, ["normal"]),
}


def test_an_environment_may_have_conditions_of_its_own(tmp_path: Path) -> None:
    suite = read(
        tmp_path,
        environments={"CartPole-v1": {"steps": 1, "conditions": ["flicker-0.50"]}, "CartPoleNoVel-v1": {"steps": 1}},
        agents={"dqn": {"algo": "dqn"}, "chance": {"plug_in": "eval.evaluation.agents.RandomAgent", "like": "dqn"}},
        seeds=[0],
    )
    assert [(job.folder.parent.as_posix(), *job.evaluated) for job in suite.jobs()] == [
        ("CartPole-v1/dqn/flicker-0.5", "flicker-0.5"),
        ("CartPole-v1/chance/untrained", "flicker-0.5"),
        ("CartPoleNoVel-v1/dqn/normal", "normal"),
        ("CartPoleNoVel-v1/chance/untrained", "normal"),
    ]


@pytest.mark.parametrize("name", ["slimevolley", "slimevolley-flicker", "slimevolley-state", "slimevolley-state-flicker"])
def test_all_agents_explore_for_as_many_steps(name: str) -> None:
    suite = read_suite(find_suite(name))
    (env,) = suite.environments
    configs = {agent.name: find_config(agent, env) for agent in suite.agents if agent.algo in ("drqn", "dqn")}
    (steps,) = {job.steps for job in suite.jobs() if job.agent.name in configs}
    explored = {
        name: config["exploration_fraction"] * steps if "exploration_fraction" in config else config["exploration_steps"]
        for name, config in configs.items()
    }
    stacked = "dqn-10" if name.endswith("flicker") else "dqn-4"
    assert set(explored) == {"drqn", "dqn-1", stacked}
    assert list(explored.values()) == [pytest.approx(explored["drqn"], rel=0.001)] * len(explored)


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_suite_is_whole(name: str) -> None:
    suite = read_suite(find_suite(name))
    n_environments, n_agents, conditions = SHIPPED[name]
    assert suite.name == name
    assert suite.description
    assert (len(suite.environments), len(suite.agents), list(suite.conditions)) == (n_environments, n_agents, conditions)


@pytest.mark.parametrize("name", SHIPPED)
def test_the_readme_tells_how_many_jobs_a_suite_has(name: str) -> None:
    readme = (SUITES.parents[1] / "README.md").read_text()
    assert re.findall(rf"^\| `{name}` \|.*\| (\d+) \|$", readme, flags=re.MULTILINE) == [
        str(len(read_suite(find_suite(name)).jobs()))
    ]


def test_the_readmes_suite_is_one(tmp_path: Path) -> None:
    readme = (SUITES.parents[1] / "README.md").read_text()
    (text,) = re.findall(r"```yaml\n(name: mine.*?)```", readme, flags=re.DOTALL)
    (tmp_path / "mine.yml").write_text(text)
    assert len(read_suite(tmp_path / "mine.yml").jobs()) == 5 * (2 * 2 + 1)


def test_every_shipped_suite_is_known_here() -> None:
    assert {path.stem for path in SUITES.glob("*.yml")} == set(SHIPPED)


def test_the_papers_games_are_those_of_its_tables() -> None:
    flickering = set(read_suite(find_suite("atari-flicker")).environments)
    normal = set(read_suite(find_suite("atari-normal")).environments)
    assert flickering - normal == {"PongNoFrameskip-v4"}
    assert normal < flickering


def test_the_replication_is_two_agents_four_decays_two_buffers() -> None:
    agents = [agent for agent in read_suite(find_suite("replication")).agents if agent.algo is not None]
    steps = {1_000_000, 750_000, 500_000, 250_000}
    found = {
        (agent.algo, agent.hyperparams["buffer_size"], round(agent.hyperparams["exploration_fraction"] * 3_000_000, -1))
        for agent in agents
        if agent.algo == "dqn"
    } | {
        (agent.algo, agent.hyperparams["buffer_size"], agent.hyperparams["exploration_steps"])
        for agent in agents
        if agent.algo == "drqn"
    }
    assert found == {(algo, size, decay) for algo in ("dqn", "drqn") for size in (10_000, 100_000) for decay in steps}


def test_no_further_condition_of_evaluation_is_needed(tmp_path: Path) -> None:
    assert read(tmp_path, evaluation={"conditions": []}).evaluation.conditions == ()


def test_conditions_of_evaluation_are_canonical(tmp_path: Path) -> None:
    suite = read(tmp_path, evaluation={"conditions": ["flicker-0.50+hide_velocity"]})
    assert suite.evaluation.conditions == (str(Condition.parse("hide_velocity+flicker-0.5")),)
