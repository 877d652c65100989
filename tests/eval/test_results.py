import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from eval.results import CURVE_COLUMNS, EPISODE_COLUMNS, FACTS, ResultError, _digest, find_results, read_result, write_result

ROWS = [
    ("normal", 0, 1_000_000, 0.1 + 0.2, 750, 3, 1),
    ("normal", 1, 1_000_001, -5.0, 12, 0, 5),
    ("flicker-0.5", 0, 1_000_000, 1e-17, 3, 1, 1),
]
EPISODES = pd.DataFrame(ROWS, columns=list(EPISODE_COLUMNS))
CURVE = pd.DataFrame([(1_000, 0, -4.5), (2_000, 0, 1 / 3)], columns=list(CURVE_COLUMNS))


def facts(**changes: Any) -> dict[str, Any]:
    found: dict[str, Any] = dict.fromkeys(FACTS)
    found |= {"env": "SlimeVolley-v0", "agent": "drqn", "algo": "drqn", "condition": "normal", "seed": 3, "steps": 2_000}
    return found | changes


def made(folder: Path) -> Path:
    folder.parent.mkdir(parents=True, exist_ok=True)
    film = folder.parent / "film.gif"
    film.write_bytes(b"GIF89a")
    write_result(folder, facts(), EPISODES, CURVE, film)
    return folder


def test_what_is_written_is_read_to_the_bit(tmp_path: Path) -> None:
    result = read_result(made(tmp_path / "result"))
    pd.testing.assert_frame_equal(result.episodes(), EPISODES, check_exact=True)
    curve = result.curve()
    assert curve is not None
    pd.testing.assert_frame_equal(curve, CURVE, check_exact=True)
    assert result.facts == facts()
    assert (result.env, result.agent, result.algo, result.condition) == ("SlimeVolley-v0", "drqn", "drqn", "normal")
    assert (result.seed, result.steps, result.suite) == (3, 2_000, None)
    assert result.video is not None
    assert result.video.read_bytes() == b"GIF89a"


def test_curve_and_film_may_be_missing(tmp_path: Path) -> None:
    result = write_result(tmp_path, facts(), EPISODES)
    assert result.curve() is None
    assert result.video is None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["episodes.csv", "result.json"]


def test_the_same_result_is_the_same_bytes(tmp_path: Path) -> None:
    first, second = made(tmp_path / "first"), made(tmp_path / "second")
    for name in ("result.json", "episodes.csv", "curve.csv"):
        assert (first / name).read_bytes() == (second / name).read_bytes()


def edit(name: str, old: str, new: str) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        text = (folder / name).read_text()
        assert old in text
        (folder / name).write_text(text.replace(old, new))

    return change


def without(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).unlink()


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "a score edited by hand": (edit("episodes.csv", "-5.0", "5.0"), "episodes.csv has been edited or damaged"),
    "a row removed": (edit("episodes.csv", "normal,1,1000001,-5.0,12,0,5\n", ""), "episodes.csv has been edited or damaged"),
    "a point of the curve edited": (edit("curve.csv", "-4.5", "4.5"), "curve.csv has been edited or damaged"),
    "a fact edited": (edit("result.json", '"steps": 2000', '"steps": 3000'), "result.json has been edited"),
    "a checksum edited": (edit("result.json", '"episodes.csv": "', '"episodes.csv": "0'), "result.json has been edited"),
    "another film": (lambda folder: edit("video.gif", "GIF", "gif")(folder), "video.gif has been edited or damaged"),
    "games missing": (without("episodes.csv"), "episodes.csv is missing"),
    "facts missing": (without("result.json"), "holds no result: result.json is missing"),
    "cut off": (lambda folder: (folder / "result.json").write_text('{"format": 1,'), "result.json is damaged"),
    "another format": (edit("result.json", '"format": 1', '"format": 2'), "must be a result of format 1, got 2"),
    "no result at all": (lambda folder: (folder / "result.json").write_text("[]"), "must be a result of format 1, got a list"),
}


@pytest.mark.parametrize(("damage", "words"), DAMAGES.values(), ids=DAMAGES.keys())
def test_damage_is_named(damage: Callable[[Path], object], words: str, tmp_path: Path) -> None:
    folder = made(tmp_path / "result")
    damage(folder)
    with pytest.raises(ResultError, match=words) as caught:
        read_result(folder)
    assert str(folder) in str(caught.value)


@pytest.mark.parametrize("files", [None, {}, {"../../secret": "0"}, ["episodes.csv"]])
def test_a_result_lists_its_own_files_only(files: object, tmp_path: Path) -> None:
    folder = made(tmp_path / "result")
    document = json.loads((folder / "result.json").read_text())
    del document["sha256"]
    document["files"] = files
    document["sha256"] = _digest(document)
    (folder / "result.json").write_text(json.dumps(document))
    with pytest.raises(ResultError, match=r"must list episodes.csv, and may list curve.csv and video.gif, got"):
        read_result(folder)


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "a fact too few": ({"facts": {"env": "x"}}, "facts must be env, agent, .* got env"),
    "a score that is none": ({"episodes": EPISODES.assign(score=float("nan"))}, "scores must be finite, got .*nan"),
    "a column too few": ({"episodes": EPISODES.drop(columns="seed")}, "must have the columns condition, .* got condition"),
    "no game": ({"episodes": EPISODES[:0]}, "must have a row at least, got none"),
    "an endless curve": ({"curve": CURVE.assign(score=float("inf"))}, "scores must be finite, got .*inf"),
}


@pytest.mark.parametrize(("changes", "words"), BAD.values(), ids=BAD.keys())
def test_bad_results_are_not_written(changes: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=words):
        good: dict[str, Any] = {"facts": facts(), "episodes": EPISODES}
        write_result(tmp_path / "result", **(good | changes))
    assert not (tmp_path / "result").exists()


def test_a_result_that_is_written_again_is_unfinished_meanwhile(tmp_path: Path) -> None:
    folder = made(tmp_path / "result")
    write_result(folder, facts(steps=3_000), EPISODES[:1])
    assert read_result(folder).steps == 3_000
    assert json.loads((folder / "result.json").read_text())["files"].keys() == {"episodes.csv"}


def test_results_are_found_wherever_they_lie(tmp_path: Path) -> None:
    for name in ("b", "a/x", "a/y"):
        made(tmp_path / name)
    assert find_results([tmp_path]) == [tmp_path / "a/x", tmp_path / "a/y", tmp_path / "b"]
    assert find_results([tmp_path / "b", tmp_path]) == find_results([tmp_path]), "each once"
    (tmp_path / "empty").mkdir()
    for path, words in ((tmp_path / "empty", "holds no result"), (tmp_path / "none", "which is not there")):
        with pytest.raises(ResultError, match=words):
            find_results([path])
    with pytest.raises(ResultError, match=r"which is a file"):
        find_results([tmp_path / "b" / "result.json"])
