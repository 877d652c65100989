"""From a finished result to a shipped agent, and back to games: with agents that are really trained."""

import base64
import json
import pickle
import platform
import shutil
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch as th
import yaml
from stable_baselines3 import DQN

from drqn_sb3 import DRQN
from drqn_sb3.envs import RecallEnv
from eval.__main__ import main
from eval.evaluation.environments import EnvSpec
from eval.evaluation.models import Contestant, sha256_of
from eval.results import RESULT, read_result, write_result
from eval.run.job import run
from eval.run.plan import JOB, make_plan, write_plan
from eval.shipping import ship as shipping
from eval.shipping.card import CARD, describe_scores, read_card, write_card
from eval.shipping.check import check_files
from eval.shipping.folders import place
from eval.shipping.games import GAMES, read_games, write_games
from eval.shipping.page import overview_page
from eval.shipping.proof import check_same_play
from eval.shipping.run_files import check_no_places, copy_run_files
from eval.shipping.ship import ship
from eval.shipping.trained import contestant_of, read_trained
from eval.suite import read_suite

ROOT = Path(__file__).parents[2]
CHECKPOINTS = [{"drqn_sb3.RunCheckpointCallback": {"save_freq": 300}}]
STEPS = {"learning_starts": 100, "exploration_steps": 200}
SUITE: dict[str, Any] = {
    "name": "shipped",
    "environments": {"Recall-v0": {"steps": 400, "conditions": ["normal", "flicker-0.5"]}},
    "agents": {
        "drqn": {"algo": "drqn", "hyperparams": {"callback": CHECKPOINTS, **STEPS, "normalize": "{'norm_reward': False}"}},
        "chance": {"plug_in": "eval.evaluation.agents.RandomAgent", "like": "drqn"},
    },
    "seeds": [0],
    "curve": {"points": 1, "games": 2},
    "evaluation": {"games": 8, "n_envs": 4, "conditions": ["normal", "flicker-0.5"], "film_steps": 0},
}


@pytest.fixture(name="world", scope="module")
def fixture_world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A suite's results: a DRQN of each of two conditions, and an agent that is not trained."""
    folder = tmp_path_factory.mktemp("world")
    (folder / "shipped.yml").write_text(yaml.safe_dump(SUITE, sort_keys=False))
    suite = read_suite(folder / "shipped.yml")
    plan = make_plan(suite, folder / "results", "cpu")
    write_plan(suite, folder / "results", plan)
    for job in plan:
        run(job)
    return folder / "results" / "Recall-v0"


@pytest.fixture(name="results")
def fixture_results(world: Path, tmp_path: Path) -> Path:
    """A copy that may be spoilt."""
    return Path(shutil.copytree(world, tmp_path / "Recall-v0"))


def own(results: Path, condition: str = "normal") -> Path:
    return results / "drqn" / condition / "seed-0"


def everything_in(folder: Path) -> dict[str, bytes]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.fixture(name="shipped", scope="module")
def fixture_shipped(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    to = tmp_path_factory.mktemp("shipped") / "agents"
    ship([own(world), own(world, "flicker-0.5")], to)
    return to


def test_an_agent_that_is_told_its_actions_is_trained_filmed_and_shipped(tmp_path: Path) -> None:
    own_wrapper = "drqn_sb3.last_action.LastAction"
    settings = {"policy": "MultiInputLstmPolicy", "policy_kwargs": "dict(hidden_size=8, predictor=[8])", "normalize": False}
    changes = {
        "environments": {"CartPole-v1": {"steps": 400, "conditions": ["flicker-0.5"]}},
        "agents": {"told": {"algo": "drqn", "hyperparams": {**STEPS, **settings, "env_wrapper": own_wrapper}}},
        "evaluation": {"games": 4, "n_envs": 2, "film_steps": 5},
    }
    path = tmp_path / "told.yml"
    path.write_text(yaml.safe_dump({**SUITE, **changes}, sort_keys=False))
    suite = read_suite(path)
    plan = make_plan(suite, tmp_path / "results", "cpu")
    write_plan(suite, tmp_path / "results", plan)
    (job,) = plan
    run(job)
    result = read_result(job)
    hiding = {"drqn_sb3.wrappers.FlickerObservation": {"observe_prob": 0.5}}
    assert result.facts["config"]["env_wrapper"] == [hiding, own_wrapper]
    assert result.video is not None
    ship([job], tmp_path / "agents")
    folder = tmp_path / "agents" / "drqn" / "CartPole-v1_1"
    config = yaml.safe_load((folder / "CartPole-v1" / "config.yml").read_text())
    assert config["env_wrapper"] == [hiding, own_wrapper]
    assert DRQN.load(folder / "CartPole-v1.zip").q_net.predictor is not None


def test_an_agent_lies_where_the_zoo_finds_it_and_only_what_playing_needs(shipped: Path) -> None:
    names = {
        "Recall-v0.zip",
        "README.md",
        "games.csv",
        CARD,
        *(f"Recall-v0/{name}" for name in ("args.yml", "config.yml", "vecnormalize.pkl")),
    }
    assert sorted(path.name for path in (shipped / "drqn").iterdir()) == ["Recall-v0_1", "Recall-v0_2"]
    for folder in (shipped / "drqn").iterdir():
        assert set(everything_in(folder)) == names
    assert sorted(path.name for path in shipped.iterdir()) == ["README.md", "drqn"]
    assert "(drqn/Recall-v0_2/README.md) | shipped | Recall-v0 | `flicker-0.5`" in (shipped / "README.md").read_text()


def test_the_zoos_files_need_no_harness_and_name_no_place(shipped: Path) -> None:
    folder = shipped / "drqn" / "Recall-v0_2"
    config, args = (yaml.safe_load((folder / "Recall-v0" / name).read_text()) for name in ("config.yml", "args.yml"))
    assert "callback" not in config and "resume" not in config and args["hyperparams"] == {}
    assert config["env_wrapper"] == [{"drqn_sb3.wrappers.FlickerObservation": {"observe_prob": 0.5}}]
    assert (args["algo"], args["env"], args["seed"], args["log_folder"]) == ("drqn", "Recall-v0", 0, "zoo")
    assert config["n_timesteps"] == args["n_timesteps"] == 400, "the suite's budget, not the file's"


def test_a_card_has_the_results_figures_and_the_files_hashes(shipped: Path, world: Path) -> None:
    folder = shipped / "drqn" / "Recall-v0_1"
    card, result = read_card(folder), read_result(own(world))
    games = result.episodes().query("condition == 'normal'")["score"]
    assert card["scores"]["normal"]["mean"] == games.mean()
    assert card["training"]["model_sha256"] == result.facts["model_sha256"]
    assert card["bytes"] == (folder / "Recall-v0.zip").stat().st_size
    check_files(folder, card)


def test_a_shipped_agent_acts_as_the_trained_one(shipped: Path, world: Path) -> None:
    trained = read_trained(own(world))
    small, large = DRQN.load(shipped / "drqn" / "Recall-v0_1" / "Recall-v0.zip"), DRQN.load(trained.model)
    observations = np.random.default_rng(0).random((50, 1, 3)).astype(np.float32)
    states: list[Any] = [None, None]
    for observation in observations:
        (action, states[0]), (other, states[1]) = (
            model.predict(observation, state, deterministic=True) for model, state in zip((small, large), states, strict=True)
        )
        assert action == other
    assert all(map(np.array_equal, *states))


def test_shipping_again_replaces_the_agents_own_folder_and_gives_the_same_bytes(
    shipped: Path, world: Path, tmp_path: Path
) -> None:
    to = Path(shutil.copytree(shipped, tmp_path / "agents"))
    before = everything_in(to)
    (to / "drqn" / "Recall-v0_2" / "old.txt").write_text("of a former version")
    assert ship([own(world, "flicker-0.5")], to) == [to / "drqn" / "Recall-v0_2"]
    assert everything_in(to) == before


def test_numbers_are_the_next_free_ones_or_the_one_given(world: Path, tmp_path: Path) -> None:
    to = tmp_path / "agents"
    (to / "drqn" / "Recall-v0_3").mkdir(parents=True)  # somebody else's
    assert ship([own(world)], to) == [to / "drqn" / "Recall-v0_4"]
    assert ship([own(world, "flicker-0.5")], to, exp_id=1) == [to / "drqn" / "Recall-v0_1"]
    assert "-f agents --exp-id 1 --deterministic -n 5000\n" in (to / "drqn" / "Recall-v0_1" / "README.md").read_text()


def spoil_model(results: Path) -> None:
    (path,) = own(results).glob("zoo/drqn/*/Recall-v0.zip")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("more", b"more")


def foreign_page(results: Path) -> None:
    (results.parent / "agents").mkdir()
    (results.parent / "agents" / "README.md").write_text("# Trained agents of mine\n\nNotes that exist nowhere else.\n")


def in_the_way(results: Path) -> None:
    (results.parent / "agents" / "drqn" / "Recall-v0_5").mkdir(parents=True)


BAD: dict[str, tuple[Callable[[Path], object], dict[str, Any], str]] = {
    "no folder": (lambda _: None, {"results": ["missing"]}, "must be a folder, got .*missing, which is not there"),
    "unfinished": (lambda results: (own(results) / RESULT).unlink(), {}, "is not finished: python -m eval run goes on"),
    "a folder of results": (lambda _: None, {"results": ["drqn"]}, "holds no result.json; did you mean .*seed-0"),
    "plug-in": (lambda _: None, {"results": ["chance/untrained/seed-0"]}, "was not trained: there is nothing to ship"),
    "no run": (lambda results: (own(results) / "trained.json").unlink(), {}, "holds no run of the zoo"),
    "no model": (lambda results: shutil.rmtree(own(results) / "zoo"), {}, "its agent is missing"),
    "another model": (spoil_model, {}, "is not the agent that has played: its SHA-256 must be"),
    "in the way": (in_the_way, {"exp_id": 5}, "Recall-v0_5 is in the way, and no shipped agent's"),
    "a page of somebody else's": (
        foreign_page,
        {},
        r"agents, where it does not begin with '# Trained agents': choose another",
    ),
    "a folder in the page's place": (
        lambda results: (results.parent / "agents" / "README.md").mkdir(parents=True),
        {},
        r"whose README\.md may be written anew",
    ),
    "a bad number": (lambda _: None, {"exp_id": 0}, "--exp-id must be a number from 1 on"),
    "twice": (lambda _: None, {"results": ["drqn/normal/seed-0"] * 2}, "each agent must be given once"),
    "a file": (lambda results: (results.parent / "agents").write_text(""), {}, "--to must be a folder"),
}


@pytest.mark.parametrize(("spoil", "arguments", "message"), BAD.values(), ids=BAD.keys())
def test_what_cannot_be_shipped_is_refused_and_nothing_is_written(
    spoil: Callable[[Path], object], arguments: dict[str, Any], message: str, results: Path
) -> None:
    spoil(results)
    before = everything_in(results.parent)
    paths = [results / path for path in arguments.get("results", ["drqn/normal/seed-0"])]
    with pytest.raises(ValueError, match=message):
        ship(paths, results.parent / "agents", arguments.get("exp_id"))
    assert everything_in(results.parent) == before


def test_another_agents_folder_is_never_taken(shipped: Path, world: Path, tmp_path: Path) -> None:
    to = Path(shutil.copytree(shipped, tmp_path / "agents"))
    shutil.rmtree(to / "drqn" / "Recall-v0_1")
    with pytest.raises(ValueError, match="is another agent's"):
        ship([own(world)], to, exp_id=2)
    with pytest.raises(ValueError, match=r"has been shipped to .*Recall-v0_2 before"):
        ship([own(world, "flicker-0.5")], to, exp_id=1)


def spoiled(model: Path, key: str, change: Callable[[th.Tensor], th.Tensor]) -> None:
    agent = DRQN.load(model)
    weights = agent.policy.state_dict()
    (name,) = (name for name in weights if name.startswith("q_net.") and name.endswith(key))
    agent.policy.load_state_dict({**weights, name: change(weights[name])})
    agent.save(model)


SPOILT: dict[str, tuple[str, Callable[[th.Tensor], th.Tensor], str]] = {
    "actions": ("head.0.bias", lambda bias: th.tensor([1e3, -1e3]) * (1 if bias[0] < bias[1] else -1), "must act as the"),
    "states": ("weight_hh", lambda weights: weights * (1 + 1e-6), "its recurrent states differ"),
}


@pytest.mark.parametrize(("key", "change", "message"), SPOILT.values(), ids=SPOILT.keys())
def test_an_agent_that_acts_or_remembers_otherwise_is_not_shipped(
    key: str, change: Callable[[th.Tensor], th.Tensor], message: str, world: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    strip = shipping.strip_model

    def strip_badly(source: Path, target: Path) -> None:
        strip(source, target)
        spoiled(target, key, change)

    monkeypatch.setattr(shipping, "strip_model", strip_badly)
    with pytest.raises(ValueError, match=f"can't be shipped: the small agent .*{message}|{message}"):
        ship([own(world)], tmp_path / "agents")
    assert not (tmp_path / "agents").exists()


def a_dqn(path: Path, change: Callable[[Any], object]) -> Contestant:
    """A DQN that has learned nothing, changed, and saved."""
    model = DQN("MlpPolicy", RecallEnv(), seed=0, buffer_size=1, policy_kwargs={"net_arch": [4]}, device="cpu")
    with th.no_grad():
        change(model)
    model.save(path)
    return Contestant("dqn", "dqn", path, EnvSpec("Recall-v0", {}, []), "Recall-v0", "normal", 0, {})


def test_a_model_acts_as_its_copy_with_another_target_network(tmp_path: Path) -> None:
    one = a_dqn(tmp_path / "one.zip", lambda _: None)
    other = a_dqn(tmp_path / "other.zip", lambda model: model.q_net_target.q_net[0].bias.add_(1.0))
    check_same_play(one, other, "normal", 1_000_000, 4)


def test_weights_that_differ_in_a_bit_are_found_where_all_actions_are_the_same(tmp_path: Path) -> None:
    one = a_dqn(tmp_path / "one.zip", lambda _: None)
    other = a_dqn(tmp_path / "other.zip", lambda model: model.q_net.q_net[0].bias[0].mul_(1 + 2**-23))
    with pytest.raises(ValueError, match=r"must have the trained one's weights, got others of q_net\.q_net\.0\.bias"):
        check_same_play(one, other, "normal", 1_000_000, 4)


def test_an_agent_whose_files_make_another_environment_is_not_shipped(world: Path, shipped: Path) -> None:
    trained, other = read_trained(own(world)).contestant, contestant_of(shipped / "drqn" / "Recall-v0_1", "normal")
    stacked = other._replace(spec=other.spec._replace(frame_stack=2))
    with pytest.raises(ValueError, match="must be of the environment"):
        check_same_play(trained, stacked, "normal", 1_000_000, 10)


def test_a_result_without_games_in_its_own_condition_is_refused(results: Path) -> None:
    result = read_result(own(results))
    games = result.episodes().query("condition != 'normal'")
    write_result(own(results), result.facts, games)
    with pytest.raises(ValueError, match="has no games under normal"):
        read_trained(own(results))


PRIVATE = {
    "a folder, in a text": ("README.md", lambda folder: f"see {folder}/x"),
    "the checkout, in a text": ("args.yml", lambda folder: f"log_folder: {ROOT}"),
    "the machine": ("card.json", lambda folder: f"on {platform.node()}."),
    "the machine, in a text": ("system_info.txt", lambda folder: f"OS: {platform.node()} 6.1"),
}


@pytest.mark.parametrize(("name", "text"), PRIVATE.values(), ids=PRIVATE.keys())
def test_places_of_this_machine_are_found(name: str, text: Callable[[Path], str], tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(platform, "node", lambda: "a-machine")
    (tmp_path / "agent").mkdir()
    private = tmp_path / "private"
    (tmp_path / "agent" / name).write_text("nothing of a-machine-like kind, nor " + str(private) + "-like")
    check_no_places(tmp_path / "agent", private)
    (tmp_path / "agent" / name).write_text(text(private))
    with pytest.raises(ValueError, match=f"must name no place of this machine: {name} names"):
        check_no_places(tmp_path / "agent", private)


@pytest.mark.parametrize("pickled", [False, True])
def test_places_within_a_model_are_found(pickled: bool, tmp_path: Path) -> None:
    place = str(tmp_path / "private")
    value = {":serialized:": base64.b64encode(place.encode()).decode()} if pickled else place
    (tmp_path / "agent").mkdir()
    with zipfile.ZipFile(tmp_path / "agent" / "a.zip", "w") as archive:
        archive.writestr("data", json.dumps({"policy_kwargs": value, "seed": 0}))
    with pytest.raises(ValueError, match=r"a\.zip/data names"):
        check_no_places(tmp_path / "agent", tmp_path / "private")


def test_the_machine_is_found_in_what_a_model_has_pickled(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(platform, "node", lambda: "a-machine")
    text = "a-machine".ljust(ord("A"))  # a pickle tells the length before it: a letter
    (tmp_path / "agent").mkdir()
    with zipfile.ZipFile(tmp_path / "agent" / "a.zip", "w") as archive:
        value = {":serialized:": base64.b64encode(pickle.dumps(text)).decode()}
        archive.writestr("data", json.dumps({"policy_kwargs": value}))
    with pytest.raises(ValueError, match=r"a\.zip/data names a-machine"):
        check_no_places(tmp_path / "agent")


def test_places_are_found_by_the_names_of_links_to_them_too(tmp_path: Path) -> None:
    for name in ("private", "agent"):
        (tmp_path / name).mkdir()
    link, text = tmp_path / "link", tmp_path / "agent" / "README.md"
    link.symlink_to(tmp_path / "private")
    for named in (link, tmp_path / "private"):
        text.write_text(f"see {named}/x")
        with pytest.raises(ValueError, match=f"names {named}"):
            check_no_places(tmp_path / "agent", link)


def test_prefixes_of_the_system_are_no_places_of_this_machine(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(sys, "prefix", "/usr")
    (tmp_path / "README.md").write_text("/usr/bin/env")
    check_no_places(tmp_path)


def test_places_in_the_zoos_files_are_left_out(world: Path, tmp_path: Path) -> None:
    (parameters,) = own(world).glob("zoo/drqn/*/Recall-v0")
    source = Path(shutil.copytree(parameters, tmp_path / "source"))
    text = (source / "args.yml").read_text().replace("- zoo", "- /somewhere/else/zoo")
    assert "/somewhere" in text
    (source / "args.yml").write_text(text)
    copy_run_files(source, tmp_path / "target")
    assert yaml.safe_load((tmp_path / "target" / "args.yml").read_text())["log_folder"] == "zoo"
    assert not (tmp_path / "target" / "command.txt").exists()


def ship_command(*words: object) -> int:
    return main(["ship", *map(str, words)])


def claim(folder: Path, score: float) -> None:
    """Have a card say that each game ended with a score, and have its games say so too."""
    card = read_card(folder)
    games = read_games(folder, card).assign(score=score)
    write_games(folder, games)
    card["scores"] = {condition: describe_scores(group, False) for condition, group in games.groupby("condition")}
    card["files"][GAMES] = sha256_of([folder / GAMES])
    write_card(folder, card)


def test_the_command_ships_and_checks(shipped: Path, world: Path, tmp_path: Path, capsys: Any) -> None:
    to = Path(shutil.copytree(shipped, tmp_path / "agents"))
    assert ship_command(own(world), "--to", to) == 0
    shown = capsys.readouterr().out
    assert "Recall-v0_1: 0.0" in shown and "Computing" not in shown
    assert ship_command("--check", "--to", to, "--games", 20, "--device", "cpu", "--seed", 700_000) == 0
    shown = capsys.readouterr().out
    assert shown.count("over 20 fresh games, expected about") == shown.count(": as its card says\n") == 2
    assert "up to 0.025, an agent counts as playing otherwise" in shown, "5 % over two agents"
    assert "Computing" not in shown

    claim(to / "drqn" / "Recall-v0_2", 5.0)
    assert ship_command("--check", "--to", to, "--device", "cpu") == 1
    shown = capsys.readouterr().out
    assert "over 8 fresh games, expected about 5.000 to 5.000, p = 0.000" in shown
    assert shown.count("OTHERWISE THAN ITS CARD SAYS") == 1


def test_a_card_whose_games_are_not_beside_it_is_not_checked(shipped: Path, tmp_path: Path) -> None:
    to = Path(shutil.copytree(shipped, tmp_path / "agents"))
    card = read_card(to / "drqn" / "Recall-v0_1")
    card["scores"]["normal"].update(mean=5.0)
    write_card(to / "drqn" / "Recall-v0_1", card)
    with pytest.raises(SystemExit, match=r"games\.csv must be the games of the card: under normal, .* must be 5\.0"):
        ship_command("--check", "--to", to)


def test_a_file_that_cannot_be_written_is_told_of(world: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit, match=r"python -m eval ship: .*file"):
        ship_command(own(world), "--to", tmp_path / "file" / "agents")


def test_the_check_refuses_files_that_were_not_shipped(shipped: Path, tmp_path: Path) -> None:
    to = Path(shutil.copytree(shipped, tmp_path / "agents"))
    config = to / "drqn" / "Recall-v0_1" / "Recall-v0" / "config.yml"
    config.write_text(config.read_text() + "frame_stack: 2\n")
    with pytest.raises(SystemExit, match=r"config\.yml is not what was shipped"):
        ship_command("--check", "--to", to)
    config.unlink()
    with pytest.raises(SystemExit, match=r"config\.yml is missing"):
        ship_command("--check", "--to", to)


BAD_COMMANDS = {
    "nothing": ((), "there must be a RESULT_FOLDER"),
    "both": (("--check", "folder"), "must stand without a RESULT_FOLDER"),
    "a number to check": (("--check", "--exp-id", 1), "must stand without"),
    "games to ship": (("folder", "--games", 5), "--games and --seed must go with --check"),
    "seeds to ship": (("folder", "--seed", 500_000), "--games and --seed must go with --check"),
    "seeds of training": (("--check", "--seed", 7), "--seed must be at least 100,000, .* got 7"),
    "no games": (("--check", "--games", 0), "--games must be 1 at least, got 0"),
    "nothing shipped": (("--check", "--to", "nowhere"), "must be a folder with shipped agents"),
}


@pytest.mark.parametrize(("words", "message"), BAD_COMMANDS.values(), ids=BAD_COMMANDS.keys())
def test_a_bad_command_is_refused(words: tuple[object, ...], message: str, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match=message):
        ship_command(*words)


def test_a_package_that_is_not_there_is_told_of(results: Path) -> None:
    job = json.loads((own(results) / JOB).read_text())
    (own(results) / JOB).write_text(json.dumps({**job, "gym_packages": ["no.such.package"]}))
    with pytest.raises(ValueError, match=r"its environment needs no\.such\.package, which can't be imported"):
        read_trained(own(results))


def test_a_former_agent_stays_when_the_new_one_cannot_take_its_place(shipped: Path, tmp_path: Path) -> None:
    to = Path(shutil.copytree(shipped, tmp_path / "agents"))
    folder, before = to / "drqn" / "Recall-v0_1", everything_in(to)
    with pytest.raises(FileNotFoundError):
        place(tmp_path / "never-made", folder)
    assert everything_in(to) == before


def test_an_empty_table_can_be_written() -> None:
    assert "python -m eval ship --check --to agents" in overview_page({})
