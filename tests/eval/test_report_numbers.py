"""The report's numbers, where the answer is known."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from made_results import PONG, SLIME, SWEEP, Made, make, rich

from eval.report.build import build
from eval.report.comparison import pairs_of
from eval.report.data import Collection, condition_key, frame_stack, has_memory, trained_on
from eval.report.estimates import Options
from eval.report.page import Bullets, Code, Fold, Heading, Page, Paragraph, Picture, Table, Video
from eval.report.published import counts_points, game_of, is_atari, other_scores, paper_scores, reference_scores
from eval.report.words import describe, interval, listed, number, percent, plural, signed
from eval.results import find_results, read_result

OPTIONS = Options(seed=0, reps=100)


def collect(root: Path) -> Collection:
    return Collection([read_result(folder) for folder in find_results([root])])


def page_of(root: Path) -> Page:
    return build(collect(root), [], OPTIONS)


def table_of(page: Page, name: str) -> pd.DataFrame:
    (found,) = [block for block in page.walk() if isinstance(block, Table) and block.name == name]
    return found.data


def texts_of(page: Page) -> str:
    parts: list[str] = []
    for block in page.walk():
        if isinstance(block, Heading | Paragraph):
            parts.append(block.text)
        elif isinstance(block, Bullets):
            parts += block.items
        elif isinstance(block, Picture):
            parts.append(block.note)
    return "\n".join(parts)


def names_of(page: Page, kind: type) -> list[str]:
    return [block.name for block in page.walk() if isinstance(block, kind) and isinstance(block, Table | Picture | Video)]


def headings_of(page: Page, level: int = 2) -> list[str]:
    return [block.text for block in page.walk() if isinstance(block, Heading) and block.level == level]


def test_a_constant_agent_has_its_score_and_an_interval_of_no_width(tmp_path: Path) -> None:
    for seed in range(4):
        make(tmp_path, Made(seed=seed), 3.0)
    (row,) = table_of(page_of(tmp_path), "scores-pongnoframeskip-v4-normal").to_dict("records")
    assert [row[name] for name in ("iqm", "iqm_low", "iqm_high", "mean", "mean_low", "mean_high")] == [3.0] * 6
    assert (row["n_runs"], row["std_over_runs"]) == (4, 0.0)


def test_two_agents_of_known_difference(tmp_path: Path) -> None:
    for seed in range(4):
        make(tmp_path, Made("drqn", seed=seed), 10.0 + seed)
        make(tmp_path, Made("dqn", seed=seed), 2.0 + seed)
    page = page_of(tmp_path)
    (row,) = table_of(page, "summary").to_dict("records")
    assert (row["recurrent"], row["other"], row["verdict"], row["best"]) == ("drqn", "dqn", "helps", "drqn")
    assert (row["gain"], row["probability"], row["n_runs"]) == (8.0, 1.0, 4)
    # Two means of four with standard deviation sqrt(5/3): the standard error is sqrt(5/6); Student's quantile, 6 degrees
    assert row["gain_high"] - 8 == pytest.approx(2.446912 * np.sqrt(5 / 6), rel=1e-6)
    scores = table_of(page, "scores-pongnoframeskip-v4-normal").set_index("agent")
    assert scores["mean"].to_dict() == {"drqn": 11.5, "dqn": 3.5}
    assert scores["iqm"].to_dict() == {"drqn": 11.5, "dqn": 3.5}
    human = table_of(page, "human-normalised").set_index("agent")["human_normalised"]
    assert human["drqn"] == pytest.approx((11.5 + 20.7) / (14.6 + 20.7))
    assert "Memory helps in PongNoFrameskip-v4, normal: drqn scores 8.00 more than dqn" in texts_of(page)


def test_a_runs_score_is_the_mean_of_its_games(tmp_path: Path) -> None:
    make(tmp_path, Made(), lambda condition, game: float(game), games=5)
    (row,) = collect(tmp_path).scores.to_dict("records")
    assert (row["score"], row["games"], row["length"]) == (2.0, 5, 1000.0)


def test_the_share_kept_is_measured_from_random_actions(tmp_path: Path) -> None:
    levels = {"normal": 10.0, "flicker-0.5": -5.0, "flicker-0": -20.0}
    for seed in range(2):
        make(tmp_path, Made(seed=seed), lambda condition, game: levels[condition], list(levels))
    make(tmp_path, Made("random", condition=None, steps=0), -20.0, list(levels))
    page = page_of(tmp_path)
    table = table_of(page, "sweep-flicker-pongnoframeskip-v4-normal").set_index(["agent", "level"])
    assert table.xs("drqn")["share"].to_dict() == {0.0: 0.0, 0.5: 0.5, 1.0: 1.0}
    assert table.xs("drqn")["estimate"].to_dict() == {0.0: -20.0, 0.5: -5.0, 1.0: 10.0}
    assert table.xs("random")["share"].isna().all()
    assert "(score + 20.00) / (normal score + 20.00)" in texts_of(page)
    assert "drqn keeps 50% (" in texts_of(page)


def test_runs_that_all_keep_half_keep_half_for_certain(tmp_path: Path) -> None:
    for seed in range(3):
        full = 10.0 * (seed + 1)

        def play(condition: str, game: int, full: float = full) -> float:
            return full if condition == "normal" else full / 2

        make(tmp_path, Made(env="CartPole-v1", seed=seed), play, SWEEP[:3])
    table = table_of(page_of(tmp_path), "sweep-flicker-cartpole-v1-normal").set_index("level")
    for name in ("share", "share_low", "share_high"):
        assert table[name].to_dict() == {0.5: 0.5, 0.75: 0.5, 1.0: 1.0}


def test_without_a_random_agent_the_published_one_stands_in(tmp_path: Path) -> None:
    make(tmp_path, Made(), lambda condition, game: 14.6 if condition == "normal" else -20.7, ["normal", "flicker-0.5"])
    page = page_of(tmp_path)
    table = table_of(page, "sweep-flicker-pongnoframeskip-v4-normal").set_index("level")
    assert table["share"].to_dict() == {0.5: 0.0, 1.0: 1.0}
    assert "random actions as published: Wang et al. 2016" in texts_of(page)


def test_where_no_random_score_is_known_that_is_said(tmp_path: Path) -> None:
    make(tmp_path, Made(env="CartPole-v1"), lambda condition, game: 500.0 if condition == "normal" else 100.0, SWEEP[:2])
    page = page_of(tmp_path)
    assert table_of(page, "sweep-flicker-cartpole-v1-normal").set_index("level")["share"].to_dict() == {0.75: 0.2, 1.0: 1.0}
    assert "no score of random actions is known, so 0 stands in its place" in texts_of(page)


def test_an_agent_that_has_not_learned_keeps_no_share(tmp_path: Path) -> None:
    make(tmp_path, Made(seed=0), -21.0, SWEEP)
    make(tmp_path, Made(seed=1), 5.0, SWEEP)
    page = page_of(tmp_path)
    assert table_of(page, "sweep-flicker-pongnoframeskip-v4-normal")["share"].isna().all()
    assert "No share of drqn" in texts_of(page)
    assert "share-flicker-pongnoframeskip-v4-normal" not in names_of(page, Picture)


def test_other_conditions_stand_in_a_table_with_the_sweeps_left_out(tmp_path: Path) -> None:
    conditions = ["normal", "noise-0.1", "hide_velocity", "hide_velocity+flicker-0.5", "flicker-0.5"]
    make(tmp_path, Made(), lambda condition, game: float(len(condition)), conditions)
    page = page_of(tmp_path)
    others = table_of(page, "other-conditions-pongnoframeskip-v4-normal").set_index("evaluated")["estimate"]
    assert others.to_dict() == {"hide_velocity": 13.0, "hide_velocity+flicker-0.5": 25.0}
    make(tmp_path, Made("random", condition=None, steps=0), -20.0, [*conditions, "freeze-0.5"])
    assert set(table_of(page_of(tmp_path), "other-conditions-pongnoframeskip-v4-normal")["evaluated"]) == set(others.index)
    assert {"sweep-noise-pongnoframeskip-v4-normal", "sweep-flicker-pongnoframeskip-v4-normal"} <= set(names_of(page, Picture))


def test_points_and_rallies(tmp_path: Path) -> None:
    make(tmp_path, Made(), 11.0)  # 21 points won by the made-up rule (32 of at most 21), 10 lost, in 1,000 decisions
    make(tmp_path, Made("dqn"), -21.0)
    table = table_of(page_of(tmp_path), "points-pongnoframeskip-v4").set_index("agent")
    assert table["won_per_game"].to_dict() == {"drqn": 21.0, "dqn": 0.0}
    assert table["lost_per_game"].to_dict() == {"drqn": 10.0, "dqn": 21.0}
    assert table["rally"].to_dict() == pytest.approx({"drqn": 1000 / 31, "dqn": 1000 / 21})
    assert "a last rally that the end of the game interrupts counts" in texts_of(page_of(tmp_path))


def test_the_papers_numbers_and_the_reproductions_stand_beside_ours(tmp_path: Path) -> None:
    for condition in ("normal", "flicker-0.5"):
        for seed in range(2):
            make(tmp_path, Made(condition=condition, seed=seed), 4.0 + 2 * seed, [condition])
    page = page_of(tmp_path)
    flicker = table_of(page, "published-flicker-0.5")
    ours, paper = flicker[flicker["source"] == "these results"], flicker[flicker["source"].str.contains("1507.06527")]
    assert ours[["mean", "std", "n_runs"]].values.tolist() == [[5.0, pytest.approx(np.sqrt(2)), 2]]
    assert dict(zip(paper["agent"], paper["mean"], strict=True)) == {"drqn": 12.1, "dqn": -9.9}
    best = flicker[flicker["steps"] == "best"]
    assert best["mean"].tolist() == [5.1]
    assert "nnabla" in best["source"].item()
    normal = table_of(page, "published-normal")
    assert not normal["source"].str.contains("1507.06527").any()  # Pong is in the paper's second table alone
    assert 19.8 in normal["mean"].tolist()


def test_several_environments_are_put_together_by_normalised_scores(tmp_path: Path) -> None:
    for seed in range(2):
        make(tmp_path, Made(seed=seed), 14.6)
        make(tmp_path, Made(env=SLIME, seed=seed), -4.866)
        make(tmp_path, Made(env="CartPole-v1", seed=seed), 500.0)
        make(tmp_path, Made("dqn", seed=seed), 0.0)
    page = page_of(tmp_path)
    (row,) = table_of(page, "all-environments-normal").to_dict("records")
    assert (row["agent"], row["n_runs"], row["n_tasks"]) == ("drqn", 2, 2)
    assert row["mean"] == pytest.approx(0.5)  # 1 in Pong, as good as a person; 0 in SlimeVolley, no better than random
    assert "measure them against or nobody was trained so: CartPole-v1" in texts_of(page)
    assert "were not run in all of these environments: dqn" in texts_of(page)


def test_seeds_that_are_not_in_every_environment_are_named(tmp_path: Path) -> None:
    for seed in range(3):
        make(tmp_path, Made(seed=seed), 14.6)
        make(tmp_path, Made("dqn", seed=seed), 14.6)
        if seed != 1:
            make(tmp_path, Made(env=SLIME, seed=seed), 0.0)
        make(tmp_path, Made("dqn", env=SLIME, seed=seed), 0.0)
    page = page_of(tmp_path)
    assert table_of(page, "all-environments-normal").set_index("agent")["n_runs"].to_dict() == {"dqn": 3, "drqn": 2}
    assert "Left out, as not in all of these environments: seeds 1 of drqn." in texts_of(page)


def test_pairs_that_are_not_drawn_are_counted_and_stand_in_the_table(tmp_path: Path) -> None:
    for name in range(5):
        make(tmp_path, Made(f"drqn-{name}"), float(name), algo="drqn")
        make(tmp_path, Made(f"dqn-{name}"), float(name))
    page = page_of(tmp_path)
    assert len(table_of(page, "improvement-pongnoframeskip-v4-normal")) == 25
    (picture,) = [block for block in page.walk() if isinstance(block, Picture) and block.name.startswith("improvement")]
    assert len(picture.figure.axes[0].get_yticklabels()) == 12
    assert "12 of 25 pairs are drawn, those of the best agents; the table has all." in picture.note


def test_one_environment_has_profiles_of_its_own(tmp_path: Path) -> None:
    make(tmp_path, Made(), 1.0)
    make(tmp_path, Made("dqn"), 2.0)
    page = page_of(tmp_path)
    assert "profiles-pongnoframeskip-v4-normal" in names_of(page, Picture)
    assert "improvement-pongnoframeskip-v4-normal" in names_of(page, Picture)


def test_a_single_run_has_no_interval(tmp_path: Path) -> None:
    make(tmp_path, Made(), 3.0)
    make(tmp_path, Made("dqn"), 1.0)
    page = page_of(tmp_path)
    (block,) = [
        block for block in page.walk() if isinstance(block, Table) and block.name == "scores-pongnoframeskip-v4-normal"
    ]
    assert [row[:5] for row in block.rows] == [("drqn", "1", "3.00", "-", "3.00"), ("dqn", "1", "1.00", "-", "1.00")]
    assert "Too few runs to tell in PongNoFrameskip-v4, normal: drqn scores 2.00 more than dqn, and" in texts_of(page)


def test_random_actions_alone_make_a_page(tmp_path: Path) -> None:
    make(tmp_path, Made("random", condition=None, seed=None, steps=0), -20.0)
    page = page_of(tmp_path)
    assert "These results do not tell" in texts_of(page)
    assert "Evaluated on normal" in headings_of(page, 3)
    assert "There are no learning curves" in texts_of(page)


def test_learning_curves_are_means_over_runs(tmp_path: Path) -> None:
    for seed, score in enumerate((4.0, 8.0)):
        make(tmp_path, Made(seed=seed), score, curve=True)
    data = table_of(page_of(tmp_path), "learning-curves-pongnoframeskip-v4-normal")
    assert data["steps"].tolist() == [25_000, 50_000, 75_000, 100_000]
    assert data["estimate"].tolist() == [1.5, 3.0, 4.5, 6.0]
    text = texts_of(page_of(tmp_path))
    assert "2 games at each point, played by the zoo's own evaluation, with seeds of the training run" in text
    assert "the final scores are of other games" in text


def test_configs_commands_and_commits_are_on_the_page(tmp_path: Path) -> None:
    make(tmp_path, Made(), config={"learning_rate": 0.000321})
    page = page_of(tmp_path)
    code = "\n".join(block.text for block in page.walk() if isinstance(block, Code))
    assert '"learning_rate": 0.000321' in code
    assert "-m eval.run.job PongNoFrameskip-v4/drqn/normal/seed-0" in code
    assert "0123456789abcdef0123456789abcdef01234567" in table_of(page, "provenance")["value"].tolist()
    facts = table_of(page, "provenance").set_index("what")["value"]
    assert facts["machine"] == "A Processor, 2 cores, 7.8 GB of memory, Linux"
    assert facts["device"] == "A GPU"
    assert table_of(page, "times")["train_seconds"].tolist() == [3600.0]
    assert any(isinstance(block, Fold) and block.title == f"drqn in {PONG}" for block in page.walk())


def test_what_a_job_was_gone_on_with_stands_beside_what_it_was_begun_with(tmp_path: Path) -> None:
    begun = make(tmp_path, Made())
    other = {name: begun.facts[name] for name in ("versions", "git")} | {"machine": {"device": "Another GPU"}}
    make(tmp_path, Made(), changes=[other])
    facts = table_of(page_of(tmp_path), "provenance").set_index("what")["value"]
    assert facts["device"] == "A GPU; Another GPU"


def test_the_rich_page_holds_every_part(tmp_path: Path) -> None:
    rich(tmp_path / "results", seeds=2, games=2)
    page = page_of(tmp_path / "results")
    together = "All environments together"
    sections = ["What was run", together, PONG, SLIME, "Beside published scores", "Where this comes from"]
    assert headings_of(page) == ["What does memory buy, and when?", *sections]
    assert len(names_of(page, Video)) == 8  # three agents and random actions, in two environments
    assert set(table_of(page, "summary")["condition"]) == {"normal", "flicker-0.5"}


MEMORY: dict[str, tuple[dict[str, Any], bool | None, int]] = {
    "drqn": ({"algo": "drqn", "config": {"policy": "CnnLstmPolicy", "frame_stack": 1}}, True, 1),
    "a stack": ({"algo": "dqn", "config": {"policy": "CnnPolicy", "frame_stack": 10}}, False, 10),
    "RecurrentPPO": ({"algo": "ppo_lstm", "config": {"frame_stack": 1}}, True, 1),
    "an algorithm of an LSTM policy": ({"algo": "mine", "config": {"policy": "MlpLstmPolicy", "frame_stack": 1}}, True, 1),
    "a plug-in": ({"algo": "package.module:Agent", "config": {"frame_stack": 1}}, None, 1),
}


@pytest.mark.parametrize(("changes", "memory", "stack"), MEMORY.values(), ids=MEMORY.keys())
def test_what_an_agent_can_remember_with(tmp_path: Path, changes: dict[str, Any], memory: bool | None, stack: int) -> None:
    result = make(tmp_path, Made("dqn"), **{**changes, "config": {"policy": "", **changes["config"]}})
    assert has_memory(result) is memory
    assert frame_stack(result) == stack
    assert trained_on(result) == "normal"


def test_pairs_are_of_memory_and_none_where_there_are_both() -> None:
    memory = {"a": True, "b": False, "c": False, "d": None}
    assert pairs_of(["c", "a", "b", "d"], memory) == [("a", "c"), ("a", "b")]
    assert pairs_of(["c", "b"], memory) == [("c", "b")]
    assert len(pairs_of([str(n) for n in range(10)], {})) == 45


def test_conditions_are_sorted_from_much_seen_to_little() -> None:
    texts = ["flicker-0.25", "hide_velocity+flicker-0.5", "noise-0.1", "flicker-0.75", "normal"]
    assert sorted(texts, key=condition_key) == [
        "normal",
        "flicker-0.75",
        "flicker-0.25",
        "noise-0.1",
        "hide_velocity+flicker-0.5",
    ]


NUMBERS = {
    "small": (number(0.126), "0.13"),
    "no negative zero": (number(-0.001), "0.00"),
    "a hundred": (number(-123.456), "-123.5"),
    "just below a hundred": (number(99.996), "100.0"),
    "thousands": (number(16926.5), "16,926"),
    "no number": (number(float("nan")), "-"),
    "a gain": (signed(1.5), "+1.50"),
    "a loss": (signed(-1.5), "-1.50"),
    "percent": (percent(0.456), "46%"),
    "an interval": (interval(-1, 1, 2), "-1.00 to 1.00"),
    "no interval": (interval(-1, 1, 1), "-"),
    "one": (plural(1, "run"), "1 run"),
    "many": (plural(2000, "run"), "2,000 runs"),
    "a list": (listed(["a", "b", "c"]), "a, b and c"),
    "a condition": (
        describe("hide_velocity+noise-0.1"),
        "velocities are hidden; Gaussian noise of standard deviation 0.1 is added",
    ),
}


@pytest.mark.parametrize(("shown", "expected"), NUMBERS.values(), ids=NUMBERS.keys())
def test_numbers_and_words(shown: str, expected: str) -> None:
    assert shown == expected


GAMES = {
    "NoFrameskip": ("PongNoFrameskip-v4", "Pong", True, True),
    "ALE": ("ALE/MsPacman-v5", "MsPacman", True, False),
    "SlimeVolley of pixels": (SLIME, "SlimeVolley", False, True),
    "SlimeVolley of state": ("SlimeVolley-v0", "SlimeVolley", False, True),
    "another": ("CartPoleNoVel-v1", "CartPoleNoVel", False, False),
}


@pytest.mark.parametrize(("env", "game", "atari", "points"), GAMES.values(), ids=GAMES.keys())
def test_games_of_environments(env: str, game: str, atari: bool, points: bool) -> None:
    assert (game_of(env), is_atari(env), counts_points(env)) == (game, atari, points)


def test_the_papers_ten_games_have_reference_scores_and_sources() -> None:
    paper = {"Asteroids", "BeamRider", "Bowling", "Centipede", "ChopperCommand", "DoubleDunk", "Frostbite", "IceHockey"}
    paper |= {"MsPacman", "Pong"}
    assert {game for game, entry in reference_scores().items() if entry.reference_is == "human"} == paper
    assert all(entry.source and entry.random < entry.reference for entry in reference_scores().values())
    for game in paper:
        assert set(paper_scores(f"{game}NoFrameskip-v4", "flicker-0.5")["agent"]) == {"drqn", "dqn"}
        assert len(paper_scores(f"{game}NoFrameskip-v4", "normal")) == (0 if game == "Pong" else 2)


def test_published_scores_of_slimevolley_tell_its_tasks_apart() -> None:
    assert "cma_es" in set(other_scores("SlimeVolley-v0", "normal")["agent"])
    assert set(other_scores(SLIME, "normal")["agent"]) == {"ppo", "rainbow", "a2c", "acktr", "acer", "dqn"}
    assert other_scores(SLIME, "flicker-0.5").empty


def test_importing_the_report_loads_no_learning_library() -> None:
    names = "{'torch', 'stable_baselines3', 'sb3_contrib', 'gymnasium', 'drqn_sb3'}"
    code = f"import sys, eval.report.cli; print(sorted({names} & set(sys.modules)))"
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True
    )
    assert run.stdout == "[]\n"
