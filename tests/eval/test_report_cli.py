"""``python -m eval report``, from folders of results to a folder with a page."""

import argparse
import json
import os
import re
import subprocess
import sys
from html import unescape
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from made_results import PONG, SWEEP, Made, film, make, rich
from test_report_page import read

from eval.report import cli

ROOT = Path(__file__).parents[2]


def report(*words: object) -> int:
    parser = argparse.ArgumentParser()
    cli.add_arguments(parser)
    return cli.main(parser.parse_args([*map(str, words), "--reps", "100"]))


def results(root: Path, **changes: Any) -> Path:
    video = film(root.parent / "film.gif")
    for seed in range(2):
        make(root, Made("drqn", seed=seed), 10.0 + seed, SWEEP, curve=True, video=video)
        make(root, Made("dqn", seed=seed), 2.0 + seed, SWEEP, curve=True, **changes)
    return root


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of two agents, written once for all tests that only read it."""
    root = tmp_path_factory.mktemp("report")
    assert report(results(root / "results"), "--out", root / "out") == 0
    return root / "out"


def test_without_a_folder_the_report_lies_in_the_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made = results(tmp_path / "results")
    assert report(made) == 0
    assert (made / "report" / "index.html").is_file()
    assert report(made) == 0, "it is replaced, and is no result itself"
    assert report(made, made) == 0, "each result counts once"
    assert (tmp_path / "report" / "index.html").is_file()


def test_the_page_fetches_nothing(written: Path) -> None:
    text = (written / "index.html").read_text()
    reader = read(text)
    tags = {tag for tag, _ in reader.tags}
    assert not tags & {"script", "link", "iframe", "object", "video", "source", "base"}
    for _, attributes in reader.tags:
        for name in ("src", "href", "srcset", "poster", "data"):
            assert str(attributes.get(name, "#")).startswith(("#", "data:")), attributes
    (style,) = re.findall(r"<style>(.*?)</style>", text, flags=re.DOTALL)
    assert "url(" not in style
    assert "@import" not in style
    assert '<meta name="viewport" content="width=device-width' in text


def test_pictures_have_descriptions_and_are_inlined_once_each(written: Path) -> None:
    reader = read((written / "index.html").read_text())
    images = [attributes for tag, attributes in reader.tags if tag == "img"]
    assert all(image["alt"] for image in images)
    assert len({image["src"] for image in images}) == len(images)
    assert len(images) == len(list((written / "figures").glob("*.png"))) + len(list((written / "videos").iterdir()))


def test_every_figure_is_there_as_png_and_svg_and_every_link_of_the_markdown_leads_somewhere(written: Path) -> None:
    stems = {path.stem for path in (written / "figures").glob("*.png")}
    assert stems
    assert {path.name for path in (written / "figures").iterdir()} == {
        f"{stem}.{kind}" for stem in stems for kind in ("png", "svg")
    }
    links = re.findall(r"\]\(([^)]+)\)", (written / "report.md").read_text())
    assert len(links) > 20
    assert [link for link in links if not (written / link).is_file()] == []


def test_both_pages_show_the_same_tables(written: Path) -> None:
    html, markdown = (written / "index.html").read_text(), (written / "report.md").read_text()
    rows = re.findall(r"<tr>(.*?)</tr>", html, flags=re.DOTALL)
    cells = [[unescape(cell) for cell in re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row, flags=re.DOTALL)] for row in rows]
    lines = [line for line in markdown.splitlines() if line.startswith("| ") and not line.startswith("| ---")]
    shown = [[re.sub(r"\\(.)", r"\1", cell) for cell in re.split(r"(?<!\\) \| ", line[2:-2])] for line in lines]
    assert len(cells) > 40
    assert cells == shown


def test_every_csv_can_be_read_and_names_no_place_of_this_machine(written: Path) -> None:
    files = sorted((written / "tables").iterdir())
    assert "summary.csv" in [path.name for path in files]
    assert all(len(pd.read_csv(path)) for path in files)
    for path in [*files, written / "index.html", written / "report.md"]:
        assert str(written.parent) not in path.read_text(), path.name


def test_the_same_results_and_seed_give_the_same_bytes(tmp_path: Path) -> None:
    # Hashes of texts differ between the processes, and so does the order of sets
    root = results(tmp_path / "results", git={"dirty": True})
    pages = []
    for seed in ("1", "2"):
        out = tmp_path / f"out-{seed}"
        command = [sys.executable, "-m", "eval", "report", str(root), "--out", str(out), "--reps", "100"]
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True)
        pages.append({path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*") if path.is_file()})
    assert len(pages[0]) > 20
    assert [name for name in pages[0] if pages[0][name] != pages[1].get(name)] == []
    assert set(pages[0]) == set(pages[1])


def test_another_seed_gives_other_intervals_and_the_same_scores(tmp_path: Path) -> None:
    root = tmp_path / "results"
    for seed, score in enumerate((1.0, 5.0, 2.0, 9.0)):
        make(root, Made(seed=seed), score)
    tables = []
    for seed in (0, 1):
        assert report(root, "--out", tmp_path / str(seed), "--seed", seed) == 0
        tables.append(pd.read_csv(tmp_path / str(seed) / "tables" / "scores-pongnoframeskip-v4-normal.csv"))
    assert tables[0]["mean"].equals(tables[1]["mean"])
    assert not tables[0]["mean_low"].equals(tables[1]["mean_low"])


def test_a_fault_ends_it_and_nothing_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make(tmp_path / "results", Made("drqn"))
    make(tmp_path / "results", Made("dqn", steps=5))
    path = tmp_path / "results" / Made("drqn").folder / "episodes.csv"
    path.write_text(path.read_text() + "normal,4,1000004,1.0,10,0,0\n")
    make(tmp_path / "results", Made("ppo"))
    assert report(tmp_path / "results", "--out", tmp_path / "out", "--incomplete") == 1
    assert not (tmp_path / "out").exists()
    errors = capsys.readouterr().err
    assert "has been edited" in errors
    assert "mixed budgets" in errors
    assert "No report was written: 2 of these are errors." in errors


def test_a_missing_seed_ends_it_unless_it_is_accepted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make(tmp_path / "results", Made("drqn"))
    make(tmp_path / "results", Made("dqn"))
    make(tmp_path / "results", Made("dqn", seed=1))
    words = [tmp_path / "results", "--out", tmp_path / "out"]
    assert report(*words) == 1
    assert not (tmp_path / "out").exists()
    assert "error: missing seeds 1 of drqn" in (errors := capsys.readouterr().err)
    assert "add --incomplete" in errors
    assert report(*words, "--incomplete") == 0
    for name in ("index.html", "report.md"):
        page = (tmp_path / "out" / name).read_text()
        assert page.index("Incomplete: these results are missing") < page.index(
            "What does memory buy, and when?</h2>" if name == "index.html" else "## What does"
        )
        assert f"missing seeds 1 of drqn in {PONG}" in page


def test_a_suites_description_stands_on_the_page(tmp_path: Path) -> None:
    make(tmp_path / "results", Made())
    job = {**Made()._asdict(), "folder": Made().folder.as_posix()}
    plan = {"name": "made-up", "description": "To see what <b>comes</b> of it.", "jobs": [job], "evaluation": {}}
    (tmp_path / "results" / "suite.json").write_text(json.dumps(plan))
    assert report(tmp_path / "results", "--out", tmp_path / "out") == 0
    assert "To see what <b>comes</b> of it." in read((tmp_path / "out" / "index.html").read_text()).texts


def test_a_plan_that_cannot_be_read_can_be_accepted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make(tmp_path / "results", Made())
    (tmp_path / "results" / "suite.json").write_text("{")
    assert report(tmp_path / "results", "--out", tmp_path / "out") == 1
    assert "error: suite.json can't be read" in capsys.readouterr().err
    assert report(tmp_path / "results", "--out", tmp_path / "out", "--incomplete") == 0


def test_the_folder_one_stands_in_can_be_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path / "results", Made(), git={"dirty": True})
    monkeypatch.chdir(tmp_path / "results")
    assert report(".", "--out", "../here") == 0
    monkeypatch.chdir(tmp_path)
    assert report(tmp_path / "results", "--out", "there") == 0
    for name in ("index.html", "report.md"):
        assert (tmp_path / "here" / name).read_bytes() == (tmp_path / "there" / name).read_bytes()


NOWHERE = {
    "no such folder": ("missing", "is not there"),
    "a folder without results": ("empty", "holds no result"),
    "a file": ("file", "is a file"),
}


@pytest.mark.parametrize(("name", "words"), NOWHERE.values(), ids=NOWHERE.keys())
def test_where_there_are_no_results_that_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, words: str
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    assert report(tmp_path / name, "--out", tmp_path / "out") == 1
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_folder_of_something_else_is_not_written_to(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make(tmp_path / "results", Made())
    assert report(tmp_path / "results", "--out", tmp_path) == 1
    assert "--out must be a new or empty folder" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["results"]


def test_notes_are_printed_and_stand_on_the_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make(tmp_path / "results", Made(), git={"dirty": True})
    assert report(tmp_path / "results", "--out", tmp_path / "out") == 0
    assert "note: the code had changes that were not committed" in capsys.readouterr().out
    assert "the code had changes that were not committed" in (tmp_path / "out" / "index.html").read_text()


def test_names_of_agents_are_no_markup(tmp_path: Path) -> None:
    name = "<b>$x_1$|*`\\"
    result = make(tmp_path / "results", Made("drqn"), 2.0, SWEEP, agent=name, curve=True, config={"x": "</code><script>"})
    make(tmp_path / "results", Made("dqn"), 1.0, SWEEP)
    assert result.agent == name
    assert report(tmp_path / "results", "--out", tmp_path / "out") == 0
    reader = read((tmp_path / "out" / "index.html").read_text())
    assert not {"b", "script"} & {tag for tag, _ in reader.tags}
    assert any(name in text for text in reader.texts)
    assert "<b>" not in (tmp_path / "out" / "report.md").read_text().replace("\\<b\\>", "").replace(f"<summary>{name}", "")


@pytest.mark.parametrize("words", [["--seed", "-1"], ["--seed", "x"], ["--reps", "10"]], ids=" ".join)
def test_options_out_of_bounds_are_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    cli.add_arguments(parser)
    with pytest.raises(SystemExit):
        parser.parse_args(["results", *words])
    assert f"argument {words[0]}" in capsys.readouterr().err


@pytest.mark.slow
def test_the_rich_page_is_written(tmp_path: Path) -> None:
    rich(tmp_path / "results")
    assert report(tmp_path / "results", "--out", tmp_path / "out") == 0
    read((tmp_path / "out" / "index.html").read_text())
