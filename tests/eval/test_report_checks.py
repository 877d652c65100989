"""What the report refuses or remarks, before anything is drawn."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from made_results import FIRST_SEED, PONG, Made, episodes_of, forge, make

from eval.__main__ import SUBCOMMANDS
from eval.report.checks import check, load
from eval.report.findings import ERROR, MISSING, NOTE, Finding

DQN, DRQN = Made("dqn"), Made("drqn")


def findings_of(root: Path) -> list[Finding]:
    results, findings = load([root])
    return findings + check(results, [root])


def two_agents(root: Path) -> None:
    make(root, DQN)
    make(root, DRQN)


def edit_a_row(root: Path) -> None:
    two_agents(root)
    path = root / DRQN.folder / "episodes.csv"
    path.write_text(path.read_text().replace("1.0", "9.0", 1))


def edit_two_results(root: Path) -> None:
    edit_a_row(root)
    path = root / DQN.folder / "result.json"
    path.write_text(path.read_text().replace("100000", "200000", 1))


def copy_a_result(root: Path) -> None:
    two_agents(root)
    make(root / "again", DRQN)


def forge_a_nan(root: Path) -> None:
    two_agents(root)

    def edit(contents: dict[str, bytes]) -> None:
        contents["episodes.csv"] = contents["episodes.csv"].replace(b",1.0,", b",nan,", 1)

    forge(root / DRQN.folder, edit)


def forge_an_infinity_in_a_curve(root: Path) -> None:
    make(root, DQN)
    make(root, DRQN, curve=True)

    def edit(contents: dict[str, bytes]) -> None:
        contents["curve.csv"] = contents["curve.csv"].replace(b",0.25", b",inf", 1)

    forge(root / DRQN.folder, edit)


def repeat_a_point_of_a_curve(root: Path) -> None:
    make(root, DRQN, curve=True)

    def edit(contents: dict[str, bytes]) -> None:
        contents["curve.csv"] += contents["curve.csv"].splitlines(keepends=True)[-1]

    forge(root / DRQN.folder, edit)


def mix_budgets(root: Path) -> None:
    make(root, DQN)
    make(root, DRQN._replace(steps=50_000))


def mix_budgets_of_seeds(root: Path) -> None:
    make(root, DRQN)
    make(root, DRQN._replace(seed=1, steps=50_000))


def leave_out_a_seed(root: Path) -> None:
    two_agents(root)
    make(root, DRQN._replace(seed=1))


def write_plan(root: Path, *jobs: Made, evaluation: dict[str, object] | None = None, **changes: object) -> None:
    """Plan jobs, all with the changes, in the folders that they have without them."""
    evaluation = {"games": 4, "first_seed": FIRST_SEED, "deterministic": True, "epsilon": 0.0, **(evaluation or {})}
    entries = [{**made._asdict(), "evaluated": ["normal"], "folder": made.folder.as_posix(), **changes} for made in jobs]
    (root / "suite.json").write_text(json.dumps({"name": "s", "description": "", "jobs": entries, "evaluation": evaluation}))


def planned_otherwise(evaluation: dict[str, object] | None = None, **changes: object) -> Callable[[Path], None]:
    def write(root: Path) -> None:
        make(root, DRQN)
        write_plan(root, DRQN, evaluation=evaluation, **changes)

    return write


def with_other_env_kwargs(root: Path) -> None:
    make(root, DQN, config={"env_kwargs": {"difficulty": 3}})
    make(root, DRQN, config={"env_kwargs": None})


def play_at_random_in_another_task(root: Path) -> None:
    make(root, DQN)
    make(root, Made("random", condition=None, steps=0), config={"env_kwargs": {"difficulty": 3}})


def mix_trained_and_not_trained(root: Path) -> None:
    make(root, DRQN)
    make(root, DRQN._replace(condition=None, seed=1), algo="drqn", trained_env="CartPole-v1")


def leave_out_a_planned_seed(root: Path) -> None:
    two_agents(root)
    write_plan(root, DQN, DRQN, DQN._replace(seed=1), DRQN._replace(seed=1))


def leave_out_several_planned_seeds(root: Path) -> None:
    two_agents(root)
    write_plan(root, DQN, DRQN, *(DRQN._replace(seed=seed) for seed in range(1, 9)))


def leave_out_a_planned_seed_of_one(root: Path) -> None:
    two_agents(root)
    write_plan(root, DQN, DRQN, DRQN._replace(seed=1))


def leave_out_a_planned_plug_in(root: Path) -> None:
    make(root, DRQN)
    write_plan(root, DRQN, Made("random", condition=None, steps=0))


def damage_the_plan(root: Path) -> None:
    two_agents(root)
    (root / "suite.json").write_text("{}")


def with_episodes(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def write(root: Path) -> None:
        two_agents(root)

        def edit(contents: dict[str, bytes]) -> None:
            contents["episodes.csv"] = change(contents["episodes.csv"])

        forge(root / DRQN.folder, edit)

    return write


def without_last_game(content: bytes) -> bytes:
    return b"".join(content.splitlines(keepends=True)[:-1])


def with_last_game_twice(content: bytes) -> bytes:
    return content + content.splitlines(keepends=True)[-1]


def with_other_seeds(content: bytes) -> bytes:
    return content.replace(str(FIRST_SEED + 3).encode(), str(FIRST_SEED + 9).encode())


def in_another_condition(content: bytes) -> bytes:
    return content.replace(b"normal", b"flicker-0.5")


def with_one_game_more(content: bytes) -> bytes:
    return content + content.splitlines(keepends=True)[-1].replace(b"normal,3,1000003", b"normal,4,1000004")


def evaluated_with(**changes: object) -> Callable[[Path], None]:
    def write(root: Path) -> None:
        make(root, DQN)
        games = int(str(changes.get("games", 4)))
        make(root, DRQN, games=games, evaluation=changes)

    return write


def with_other_first_seed(root: Path) -> None:
    evaluated_with(first_seed=7)(root)


def under_one_name(root: Path) -> None:
    make(root, DRQN)
    make(root, DRQN._replace(seed=1), algo="dqn")


FAULTS: dict[str, tuple[Callable[[Path], None], str, list[str]]] = {
    "a row edited by hand": (edit_a_row, ERROR, ["edited", "drqn/normal/seed-0/episodes.csv"]),
    "facts edited by hand": (edit_two_results, ERROR, ["edited", "dqn/normal/seed-0/result.json", "facts"]),
    "a duplicate": (copy_a_result, ERROR, ["duplicates", "drqn", "seed 0", "again"]),
    "a score that is no number": (forge_a_nan, ERROR, ["finite", "nan", "drqn/normal/seed-0"]),
    "an infinite score in a curve": (forge_an_infinity_in_a_curve, ERROR, ["finite", "inf", "curve", "drqn"]),
    "a curve's game twice": (repeat_a_point_of_a_curve, ERROR, ["repeated games", "curve", "drqn"]),
    "budgets mixed among agents": (mix_budgets, ERROR, ["mixed budgets", PONG, "50,000 steps", "100,000 steps", "drqn"]),
    "budgets mixed among seeds": (mix_budgets_of_seeds, ERROR, ["mixed budgets", "seed-1"]),
    "a seed that others have": (leave_out_a_seed, MISSING, ["missing seeds 1", "dqn", PONG]),
    "a planned seed": (
        leave_out_a_planned_seed_of_one,
        MISSING,
        ["missing seed 1 of drqn in", "results/PongNoFrameskip-v4/drqn/normal/seed-1 holds no whole result"],
    ),
    "a planned seed of two agents": (
        leave_out_a_planned_seed,
        MISSING,
        ["missing seed 1 of dqn and drqn in", "(trained on normal): no whole results of them in results/PongNoFrameskip-v4"],
    ),
    "planned seeds": (
        leave_out_several_planned_seeds,
        MISSING,
        ["missing seeds 1, 2, 3, 4, 5 and 3 more of drqn", "in results/PongNoFrameskip-v4/drqn/normal"],
    ),
    "a planned plug-in": (leave_out_a_planned_plug_in, MISSING, ["missing seed 0", "random", "not trained here"]),
    "a plan that says nothing": (damage_the_plan, MISSING, ["suite.json can't be read", "jobs"]),
    "a game left out": (with_episodes(without_last_game), ERROR, ["missing games: 3 of 4", "drqn/normal/seed-0"]),
    "a game twice": (with_episodes(with_last_game_twice), ERROR, ["repeated games: 3", "drqn/normal/seed-0"]),
    "a game too many": (with_episodes(with_one_game_more), ERROR, ["games beyond the 4", "drqn"]),
    "a game of another seed": (with_episodes(with_other_seeds), ERROR, ["first_seed + game", "drqn/normal/seed-0"]),
    "no game of a condition": (with_episodes(in_another_condition), ERROR, ["missing games", "none in normal"]),
    "games of a condition not named": (with_episodes(in_another_condition), ERROR, ["does not name", "flicker-0.5"]),
    "other games": (evaluated_with(games=5), ERROR, ["not comparable", "different games", "5", "drqn"]),
    "other exploration": (evaluated_with(epsilon=0.05), ERROR, ["not comparable", "different epsilon", "0.05"]),
    "drawn actions": (evaluated_with(deterministic=False), ERROR, ["not comparable", "different deterministic", "False"]),
    "other games' seeds": (with_other_first_seed, ERROR, ["not comparable", "different first_seed", "7"]),
    "another budget than planned": (
        planned_otherwise(steps=10_000_000),
        ERROR,
        ["not as planned: steps was to be 10,000,000, and is 100,000", "drqn/normal/seed-0"],
    ),
    "another condition than planned": (
        planned_otherwise(condition="flicker-0.5"),
        ERROR,
        ["condition was to be flicker-0.5, and is normal", "drqn/normal/seed-0"],
    ),
    "another seed than planned": (planned_otherwise(seed=7), ERROR, ["seed was to be 7, and is 0", "drqn/normal/seed-0"]),
    "other conditions of evaluation than planned": (
        planned_otherwise(evaluated=["normal", "flicker-0.5"]),
        ERROR,
        ["evaluated conditions was to be flicker-0.5, normal, and is normal", "drqn/normal/seed-0"],
    ),
    "fewer games than planned": (
        planned_otherwise({"games": 1000}),
        ERROR,
        ["evaluation's games was to be 1,000, and is 4", "drqn/normal/seed-0"],
    ),
    "more exploration than planned": (planned_otherwise({"epsilon": 0.05}), ERROR, ["epsilon was to be 0.05, and is 0.0"]),
    "drawn actions were planned": (planned_otherwise({"deterministic": False}), ERROR, ["was to be False, and is True"]),
    "games of other seeds were planned": (planned_otherwise({"first_seed": 5}), ERROR, ["first_seed was to be 5, and is 1,0"]),
    "another task of the same name": (with_other_env_kwargs, ERROR, ["different env_kwargs", '{"difficulty": 3} in', "dqn"]),
    "random actions in another task": (play_at_random_in_another_task, ERROR, ["different env_kwargs", "random/untrained"]),
    "trained here and elsewhere under one name": (
        mix_trained_and_not_trained,
        ERROR,
        ["one name for different agents", "trained on CartPole-v1 in", "drqn/untrained/seed-1"],
    ),
    "two algorithms of one name": (under_one_name, ERROR, ["one name for different algorithms", "drqn in", "is dqn in"]),
}


@pytest.mark.parametrize(("write", "kind", "words"), FAULTS.values(), ids=FAULTS.keys())
def test_every_fault_is_named_with_its_folder(
    tmp_path: Path, write: Callable[[Path], None], kind: str, words: list[str]
) -> None:
    root = tmp_path / "results"
    write(root)
    texts = [finding.text for finding in findings_of(root) if finding.kind == kind]
    assert any(all(word in text for word in words) for text in texts), texts


def with_another_version(root: Path) -> None:
    make(root, DQN)
    make(root, DRQN, versions={"torch": "2.9.0"})


def with_another_commit(root: Path) -> None:
    make(root, DQN)
    make(root, DRQN, git={"commit": "f" * 40})


def with_uncommitted_changes(root: Path) -> None:
    make(root, DQN)
    make(root, DRQN, git={"dirty": True})


def with_another_learning_rate(root: Path) -> None:
    make(root, DRQN)
    make(root, DRQN._replace(seed=1), config={"learning_rate": 0.1})


def test_a_budget_that_the_suites_steps_have_replaced_is_no_other_hyperparameter(tmp_path: Path) -> None:
    for seed in (0, 1):
        make(tmp_path, DRQN._replace(seed=seed), config={"n_timesteps": 1e6 + seed})
    assert findings_of(tmp_path) == []


def with_further_conditions(root: Path) -> None:
    make(root, DQN)
    make(root, DRQN, evaluated=("normal", "flicker-0.5"))


def with_another_wrapper(root: Path) -> None:
    make(root, DQN, config={"env_wrapper": "a.AtariWrapper"})
    make(root, DRQN, config={"env_wrapper": [{"a.AtariWrapper": {"frame_skip": 1}}]})


def play_at_random_without_wrappers(root: Path) -> None:
    make(root, DQN, config={"env_wrapper": "a.AtariWrapper"})
    make(root, Made("random", condition=None, steps=0))


def trained_elsewhere(root: Path) -> None:
    make(root, DQN)
    make(root, Made("visitor", condition=None, steps=7), algo="drqn", trained_env="CartPole-v1")


def trained_nobody_knows_where(root: Path) -> None:
    make(root, DQN)
    make(root, Made("visitor", condition=None, steps=7), algo="drqn")


def gone_on_with_elsewhere(root: Path) -> None:
    make(root, DQN)
    result = make(root, DRQN)
    state = {name: result.facts[name] for name in ("versions", "git", "machine")}
    other = {**state, "versions": {**state["versions"], "torch": "2.9.0"}, "machine": {**state["machine"], "load": 3.0}}
    make(root, DRQN, changes=[other])


def without_a_curve(root: Path) -> None:
    make(root, DRQN, curve=True)
    make(root, DRQN._replace(seed=1))


NOTES: dict[str, tuple[Callable[[Path], None], list[str]]] = {
    "another version": (with_another_version, ["different versions of torch", "2.9.0 in results/", "drqn"]),
    "another commit": (with_another_commit, ["different git commits", "ffffffffff in", "drqn"]),
    "changes that were not committed": (with_uncommitted_changes, ["not committed", "drqn/normal/seed-0"]),
    "other hyperparameters": (with_another_learning_rate, ["different hyperparameters", "learning_rate", "drqn"]),
    "other preprocessing": (with_another_wrapper, ["different env_wrapper", 'a.AtariWrapper({"frame_skip": 1}) in', "drqn"]),
    "random actions without it": (play_at_random_without_wrappers, ["different env_wrapper", "none in", "random/untrained"]),
    "an agent of another environment": (trained_elsewhere, ["visitor in", "not trained here", "trained on CartPole-v1"]),
    "an agent of unknown origin": (trained_nobody_knows_where, ["visitor in", "what it was trained on is not known"]),
    "a job gone on with elsewhere": (gone_on_with_elsewhere, ["libraries changed while", "under way", "drqn/normal/seed-0"]),
    "a seed without a curve": (without_a_curve, ["no learning curve", "drqn/normal/seed-1"]),
    "other conditions": (with_further_conditions, ["different conditions", "flicker-0.5, normal", "drqn"]),
}


@pytest.mark.parametrize(("write", "words"), NOTES.values(), ids=NOTES.keys())
def test_what_is_worth_knowing_is_a_note_that_names_no_place_of_this_machine(
    tmp_path: Path, write: Callable[[Path], None], words: list[str]
) -> None:
    root = tmp_path / "results"
    write(root)
    (finding,) = findings_of(root)
    assert finding.kind == NOTE
    assert all(word in finding.text for word in words), finding.text
    assert str(tmp_path) not in finding.text


def test_a_model_that_ends_with_a_whole_rollout_has_the_same_budget(tmp_path: Path) -> None:
    make(tmp_path, DQN, suite=None)
    make(tmp_path, DRQN._replace(agent="ppo", steps=114_688), suite=None, config={"n_steps": 2048, "n_envs": 8})
    assert findings_of(tmp_path) == []
    make(tmp_path, DRQN._replace(steps=120_000), suite=None)
    (finding,) = findings_of(tmp_path)
    assert "mixed budgets" in finding.text


LENGTHS = {
    "to the end of a game": ([1, "episode"], 123_456, True),
    "decisions": ([16, "step"], 100_120, True),
    "too many of these": ([16, "step"], 100_200, False),
}


@pytest.mark.parametrize(("train_freq", "steps", "is_alike"), LENGTHS.values(), ids=LENGTHS.keys())
def test_training_may_end_where_its_experience_does(
    tmp_path: Path, train_freq: list[object], steps: int, is_alike: bool
) -> None:
    make(tmp_path, DQN, suite=None)
    make(tmp_path, DRQN._replace(steps=steps), suite=None, config={"train_freq": train_freq, "n_envs": 8})
    assert ("mixed budgets" in "".join(finding.text for finding in findings_of(tmp_path))) is not is_alike


def test_agents_that_were_not_trained_here_have_no_budget_here(tmp_path: Path) -> None:
    trained_elsewhere(tmp_path)
    assert [finding.kind for finding in findings_of(tmp_path)] == [NOTE]
    # Whatever condition its facts name, its training was not in this environment
    make(tmp_path, Made("guest", condition="normal", steps=9), trained_env="CartPole-v1")
    assert [finding.kind for finding in findings_of(tmp_path)] == [NOTE, NOTE]


def test_a_result_that_was_moved_is_still_compared_with_its_plan(tmp_path: Path) -> None:
    make(tmp_path / "moved", DRQN)
    write_plan(tmp_path, DRQN, steps=5)
    (finding,) = findings_of(tmp_path)
    assert "steps was to be 5" in finding.text


def test_results_beside_a_plan_are_compared_among_themselves(tmp_path: Path) -> None:
    make(tmp_path / "suite", DRQN)
    write_plan(tmp_path / "suite", DRQN)
    make(tmp_path / "own", Made("mine", seed=5))
    assert findings_of(tmp_path) == []
    make(tmp_path / "own", Made("yours", seed=None))
    texts = [finding.text for finding in findings_of(tmp_path)]
    assert len(texts) == 2
    assert "missing seeds None of mine" in texts[0]
    assert "missing seeds 5 of yours" in texts[1]


def test_two_good_agents_are_found_nothing_against(tmp_path: Path) -> None:
    two_agents(tmp_path)
    make(tmp_path, Made("random", condition=None, steps=0))
    assert findings_of(tmp_path) == []


def test_all_edited_results_are_named_at_once(tmp_path: Path) -> None:
    edit_two_results(tmp_path)
    texts = [finding.text for finding in findings_of(tmp_path)]
    assert len([text for text in texts if "edited" in text]) == 2


def test_a_folder_given_twice_is_read_once(tmp_path: Path) -> None:
    two_agents(tmp_path)
    results, findings = load([tmp_path, tmp_path / DRQN.folder, tmp_path / "." / PONG])
    assert (len(results), findings) == (2, [])


def test_a_forged_result_of_the_right_form_would_be_read(tmp_path: Path) -> None:
    # The other tests' forgeries are told apart by the checks, then, and not by their checksums
    make(tmp_path, DRQN)
    forge(tmp_path / DRQN.folder, lambda contents: None)
    assert findings_of(tmp_path) == []


def test_made_up_games_have_consecutive_seeds() -> None:
    assert episodes_of(lambda condition, game: 1.0, ["normal"], 3)["seed"].tolist() == [FIRST_SEED + game for game in range(3)]


def test_the_report_is_a_subcommand() -> None:
    assert SUBCOMMANDS["report"][1] == "eval.report.cli"
