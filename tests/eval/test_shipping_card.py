import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from made_results import PONG, SLIME, Made, make

from eval.shipping.card import (
    CARD,
    expected_interval,
    has_matches,
    identity,
    make_card,
    numbers_in,
    read_card,
    shipped_agents,
    split_name,
    write_card,
)
from eval.shipping.page import TITLE, card_page, overview_page

DRQN = Made()
PLACE = Path("agents", "drqn", f"{PONG}_2")


def a_card(tmp_path: Path, made: Made = DRQN, evaluated: tuple[str, ...] = ("normal", "flicker-0.5"), **changes: Any) -> Any:
    def play(condition: str, game: int) -> float:
        return [-3.0, 0.0, 4.0, 5.0][game % 4] - (condition != "normal")

    result = make(tmp_path / "results", made, play, evaluated, 8, **changes)
    return make_card(result, "DRQN", [], {f"{PONG}.zip": "ab12", f"{PONG}/config.yml": "cd34"}, 123_456)


def test_the_interval_holds_the_means_of_95_percent_of_fresh_games() -> None:
    generator = np.random.default_rng(0)
    games, fresh, inside = 12, 30, 0
    for _ in range(2_000):
        scores = generator.normal(3.0, 2.0, games)
        low, high = expected_interval(float(scores.mean()), float(scores.std(ddof=1)), games, fresh)
        inside += low <= generator.normal(3.0, 2.0, fresh).mean() <= high
    assert inside / 2_000 == pytest.approx(0.95, abs=0.015)  # three standard errors


def test_the_interval_is_students() -> None:
    low, high = expected_interval(1.0, 2.0, 10, 10)
    assert (low, high) == pytest.approx((1 - 2.262157 * 2 * math.sqrt(0.2), 1 + 2.262157 * 2 * math.sqrt(0.2)))


@pytest.mark.parametrize(("games", "fresh"), [(1, 5), (5, 0)])
def test_too_few_games_have_no_interval(games: int, fresh: int) -> None:
    with pytest.raises(ValueError, match="games must be 2 at least"):
        expected_interval(0.0, 1.0, games, fresh)


def test_a_card_has_the_games_figures(tmp_path: Path) -> None:
    card = a_card(tmp_path)
    score = card["scores"]["normal"]
    assert (score["games"], score["mean"]) == (8, 1.5)
    assert score["std"] == pytest.approx(np.std([-3, 0, 4, 5] * 2, ddof=1))
    assert (score["won"], score["drawn"], score["lost"]) == (0.5, 0.25, 0.25)
    assert (score["low"], score["high"]) == expected_interval(1.5, score["std"], 8, 8)
    assert list(card["scores"]) == ["normal", "flicker-0.5"]
    assert identity(card) == ("made-up", PONG, "drqn", "drqn", "normal", 0)


def test_a_card_says_of_the_training_what_is_of_use_to_others_and_no_more(tmp_path: Path) -> None:
    watched = {"policy": "CnnLstmPolicy", "curve": {"points": 20}, "resume": True, "n_timesteps": 7, "n_envs": 8}
    card = a_card(tmp_path, config=watched)
    assert set(card["training"]) == {"seconds", "config", "versions", "machine", "model_sha256"}
    assert set(card["training"]["machine"]) == {"cpu", "cores", "device", "python"}
    assert set(card["training"]["config"]) == {"policy", "n_envs"}
    assert card["git"] == {"commit": "0123456789abcdef0123456789abcdef01234567", "dirty": False}


MATCHES: dict[str, tuple[str, dict[str, Any], bool]] = {
    "Pong": (PONG, {}, True),
    "Pong, as ALE names it": ("ALE/Pong-v5", {"env_kwargs": {"frameskip": 1}}, True),
    "Fishing Derby": ("FishingDerbyNoFrameskip-v4", {}, True),
    "SlimeVolley": ("SlimeVolley-v0", {"env_kwargs": None}, True),
    "SlimeVolley from pixels": (SLIME, {}, True),
    "SlimeVolley with a bonus": ("SlimeVolleySurvivalNoFrameskip-v0", {}, False),
    "SlimeVolley that is given a bonus": ("SlimeVolley-v0", {"env_kwargs": {"survival_bonus": True}}, False),
    "a game that takes points away": ("SkiingNoFrameskip-v4", {}, False),
    "a lander that crashes": ("LunarLander-v3", {}, False),
    "a name that begins alike": ("PongOfMine-v0", {}, False),
}


@pytest.mark.parametrize(("env", "config", "expected"), MATCHES.values(), ids=MATCHES.keys())
def test_only_known_matches_are_won_and_lost(env: str, config: dict[str, Any], expected: bool) -> None:
    assert has_matches(env, config) is expected


def test_games_that_are_no_matches_are_neither_won_nor_lost(tmp_path: Path) -> None:
    made = make(tmp_path, Made(env="LunarLander-v3"), -21.0, ("normal",), 4)
    assert made.episodes()["lost"].sum() > 0
    card = make_card(made, "DRQN", [], {}, 1)
    assert [card["scores"]["normal"][name] for name in ("won", "drawn", "lost")] == [None] * 3
    assert "Won" not in card_page(card, PLACE)


def test_a_page_says_what_the_card_says(tmp_path: Path) -> None:
    page = card_page(a_card(tmp_path), PLACE)
    _, front, text = page.split("---\n", 2)
    matter = yaml.safe_load(front)
    assert matter["library_name"] == "stable-baselines3"
    assert matter["model-index"][0]["results"][0]["metrics"][0]["value"] == "1.50 +/- 3.42"
    assert "Its mean score over 8 games there is **1.50**" in text
    assert "won 50% of them, drew 25% and lost 25%" in text
    assert f"python -m rl_zoo3.enjoy --algo drqn --env {PONG} -f agents --exp-id 2 --deterministic -n 5000\n" in text
    assert f"eval evaluate agents/drqn/{PONG}_2 --games 8 --seed 2000000 --conditions normal flicker-0.5\n" in text
    assert f"python -m eval run made-up.yml --only {PONG}/drqn/normal/seed-0\n" in text
    assert "needs the file of the suite made-up, which is not part of eval/suites" in text
    assert "100,000 agent steps in 1.0 hours" in text
    assert "in the suite `made-up` at commit `0123456789ab`. Python" in text
    assert "it is approximate, and too narrow where few games differ from the others" in text
    assert "load only what you trust" in text and "tell of damage, not of origin" in text
    assert "`enjoy` shows episodes" not in text
    assert "policy: CnnLstmPolicy" in text
    assert "`ab12`" in text and "123,456 bytes" in text


PAGES: dict[str, tuple[dict[str, Any], str]] = {
    "drawn actions": ({"evaluation": {"deterministic": False}}, "drawing its actions"),
    "drawn actions, the command": ({"evaluation": {"deterministic": False}}, "flicker-0.5 --stochastic\n"),
    "drawn actions, watched": ({"evaluation": {"deterministic": False}}, "--exp-id 2 --stochastic -n 5000\n"),
    "seeds as high as those of fresh games": ({"evaluation": {"first_seed": 2_000_000}}, "--games 8 --seed 3000000 "),
    "a suite that is there": (
        {"suite": "smoke"},
        "# train it anew, with the suite as it was at commit 0123456789ab\n"
        f"python -m eval run smoke --only {PONG}/drqn/normal/seed-0\n",
    ),
    "lives": (
        {"config": {"env_wrapper": [{"a.AtariWrapper": {"clip_reward": False}}]}},
        "`enjoy` shows episodes as the agent",
    ),
    "lives, native": ({"config": {"vec_env_wrapper": "drqn_sb3.envs.native_atari"}}, "`enjoy` shows episodes as the agent"),
    "changes of the code": ({"git": {"dirty": True}}, "`0123456789ab` with changes that were not committed. Python"),
    "no checkout": ({"git": None}, "in the suite `made-up`. Python"),
    "random actions": ({"evaluation": {"epsilon": 0.01}}, "--epsilon 0.01\n"),
    "a stack": ({"config": {"frame_stack": 4}}, "It is given the last 4 observations at a time."),
    "weights to begin with": (
        {"config": {"callback": [{"drqn_sb3.WarmStart": {"path": "agents/a/b.zip"}}]}},
        " It began with the weights of `agents/a/b.zip`, whose own steps are not counted. Its mean score",
    ),
    "a GPU": ({"machine": {"device": "A GPU"}}, "on A GPU, seed 0"),
    "minutes": ({"seconds": {"train": 90.0}}, "in 1.5 minutes"),
}


@pytest.mark.parametrize(("changes", "words"), PAGES.values(), ids=PAGES.keys())
def test_a_page_tells_what_is_special(changes: dict[str, Any], words: str, tmp_path: Path) -> None:
    assert words in card_page(a_card(tmp_path, **changes), PLACE)


def test_lives_that_do_not_end_episodes_are_not_told_of(tmp_path: Path) -> None:
    whole = {"env_wrapper": [{"a.AtariWrapper": {"terminal_on_life_loss": False}}]}
    assert "`enjoy` shows episodes" not in card_page(a_card(tmp_path, config=whole), PLACE)


def test_a_page_of_held_actions_tells_the_evaluation_so(tmp_path: Path) -> None:
    card = a_card(tmp_path, Made(condition="repeat-2"), ("repeat-2", "normal"))
    assert "--trained-on repeat-2\n" in card_page(card, PLACE)


def test_a_page_says_that_games_that_end_alike_tell_little(tmp_path: Path) -> None:
    alike = make_card(make(tmp_path, Made(), 1.0, ("normal",), 4), "DRQN", [], {}, 1)
    assert "All games under `normal` ended with the same score" in card_page(alike, PLACE)
    assert "ended with the same score" not in card_page(a_card(tmp_path), PLACE)


def test_further_packages_are_part_of_the_commands(tmp_path: Path) -> None:
    card = {**a_card(tmp_path), "gym_packages": ["a.package"]}
    assert card_page(card, PLACE).count("--gym-packages a.package") == 2


def test_a_card_is_read_back_and_its_figures_are_not_rounded(tmp_path: Path) -> None:
    card = a_card(tmp_path)
    write_card(tmp_path, card)
    assert read_card(tmp_path) == card


BAD_CARDS = {
    "missing": (None, "holds no shipped agent"),
    "damaged": ("{", "damaged"),
    "another format": (json.dumps({"format": 7}), "must be a card of format 1"),
    "incomplete": (json.dumps({"format": 1}), "must be a card of format 1"),
}


@pytest.mark.parametrize(("content", "message"), BAD_CARDS.values(), ids=BAD_CARDS.keys())
def test_a_bad_card_is_refused(content: str | None, message: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / CARD).write_text(content)
    with pytest.raises(ValueError, match=message):
        read_card(tmp_path)


def test_the_table_has_a_row_per_agent_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    card = a_card(tmp_path)
    for name in ("Pong_10", "Pong_2", "Lander_1"):
        (tmp_path / "agents" / "drqn" / name).mkdir(parents=True)
        write_card(tmp_path / "agents" / "drqn" / name, card)
    (tmp_path / "agents" / ".left-behind" / "0").mkdir(parents=True)
    write_card(tmp_path / "agents" / ".left-behind" / "0", card)
    agents = shipped_agents(tmp_path / "agents")
    assert [folder.name for folder in agents] == ["Lander_1", "Pong_2", "Pong_10"]
    page = overview_page(agents)
    assert page.startswith(f"{TITLE}\n") and "load only what you trust" in page
    rows = [line for line in page.splitlines() if line.startswith("| [")]
    assert len(rows) == 3
    assert rows[2].startswith(f"| [drqn 10](drqn/Pong_10/README.md) | made-up | {PONG} | `normal` | 0 | 100,000 | 8 | 1.50 |")


NAMES = {"CartPole-v1_3": ("CartPole-v1", 3), "a_b_12": ("a_b", 12), "CartPole-v1": ("CartPole-v1", 0), "a_x": ("a_x", 0)}


@pytest.mark.parametrize(("name", "parts"), NAMES.items())
def test_a_folders_name_is_taken_apart(name: str, parts: tuple[str, int]) -> None:
    assert split_name(name) == parts


def test_only_an_environments_own_folders_are_counted() -> None:
    assert numbers_in(["a_1", "a_12", "a_b_7", "a", "b_3", "a_x"], "a") == {1, 12}
