"""Published results: what the README shows stands in them, and they name no path."""

import argparse
import csv
import json
import re
from pathlib import Path

import pytest

from eval.report import cli
from eval.results import find_results, read_result
from eval.run.plan import check_begun, make_plan
from eval.soak.cli import Sample, describe, summarize
from eval.suite import find_suite, read_suite
from eval.throughput.report import render

ROOT = Path(__file__).parents[2]
PUBLISHED = sorted((ROOT / "eval" / "throughput" / "results").iterdir())
SUITES = sorted(path.parent for path in (ROOT / "eval" / "results").glob("*/suite.json"))


@pytest.mark.parametrize("folder", PUBLISHED, ids=lambda folder: folder.name)
def test_the_table_is_that_of_the_raw_numbers(folder: Path) -> None:
    results = json.loads((folder / "results.json").read_text())
    assert (folder / "table.txt").read_text() == render(results)
    assert (folder / "throughput.png").read_bytes().startswith(b"\x89PNG")
    assert not re.search(r'"/|\.venv', json.dumps(results)), "a path of the machine that it ran on"


def test_the_soak_in_the_readme_is_that_of_the_raw_samples() -> None:
    folder = ROOT / "eval" / "soak" / "results" / "amd_epyc_2_cores"
    with open(folder / "samples.csv") as file:
        rows = list(csv.reader(file))[1:]
    samples = [Sample(float(row[0]), int(row[1]), float(row[2]), float(row[3]), int(row[4]), int(row[5])) for row in rows]
    published = json.loads((folder / "results.json").read_text())
    results = summarize(samples, published["warm_up_steps"], published["exit_status"])
    assert {name: published[name] for name in results} == results
    assert (folder / "summary.txt").read_text() == describe(results) + "\n"
    assert f"```\n{describe(results)}\n```" in (ROOT / "README.md").read_text()


def test_every_line_of_the_readmes_results_stands_in_the_table() -> None:
    readme = (ROOT / "README.md").read_text()
    (block,) = re.findall(r"```\n(Learner updates\n.*?)```", readme, flags=re.DOTALL)
    (path,) = re.findall(r"\((eval/throughput/results/\w+/table.txt)\)", readme)
    table = (ROOT / path).read_text().splitlines()
    lines = [line for line in block.splitlines() if line]
    assert len(lines) > 15
    assert [line for line in lines if line not in table] == []


@pytest.mark.parametrize("folder", SUITES, ids=lambda folder: folder.name)
def test_a_suites_report_is_that_of_its_results(folder: Path, tmp_path: Path) -> None:
    """Texts and tables, that is: pictures are of the same numbers, but their bytes are the plotting library's."""
    parser = argparse.ArgumentParser()
    cli.add_arguments(parser)
    assert cli.main(parser.parse_args([str(folder), "--out", str(tmp_path / "report"), "--incomplete"])) == 0
    published = folder / "report"
    texts = [path.relative_to(published) for path in published.rglob("*") if path.suffix in (".md", ".csv")]
    assert len(texts) > 5
    for text in texts:
        assert (tmp_path / "report" / text).read_text() == (published / text).read_text(), text
    written, kept = (
        {path.relative_to(root) for path in root.rglob("*") if path.is_file()} for root in (tmp_path / "report", published)
    )
    assert written == kept


@pytest.mark.parametrize("folder", SUITES, ids=lambda folder: folder.name)
def test_a_suites_results_are_whole_and_name_no_path(folder: Path) -> None:
    for path in find_results([folder]):
        facts = read_result(path).facts
        assert not re.search(r'[" ]/', json.dumps(facts)), path
        assert not facts["git"]["dirty"], path


@pytest.mark.parametrize("folder", SUITES, ids=lambda folder: folder.name)
def test_a_suite_can_go_on_where_its_published_results_end(folder: Path) -> None:
    """With the settings that the suite and the hyperparameters have now, that is: it is what would train the agents anew."""
    check_begun(make_plan(read_suite(find_suite(folder.name)), folder))


# Every table of scores in docs/results.md, in its order: the row of the README, the suite, what its report calls it
TABLES = (
    ("Pong, half of the screens dark", "pong", "PongNoFrameskip-v4, trained and evaluated on flicker-0.5"),
    ("Pong", "pong", "PongNoFrameskip-v4, trained and evaluated on normal"),
    ("SlimeVolley from positions", "slimevolley-state", "SlimeVolley-v0, trained and evaluated on hide_velocity"),
    (
        "SlimeVolley from positions, half of them dark",
        "slimevolley-state-flicker",
        "SlimeVolley-v0, trained and evaluated on hide_velocity+flicker-0.5",
    ),
    ("SlimeVolley from pixels", "slimevolley", "SlimeVolleyNoFrameskip-v0, trained and evaluated on normal"),
    (
        "SlimeVolley from pixels, half of them dark",
        "slimevolley-flicker",
        "SlimeVolleyNoFrameskip-v0, trained and evaluated on flicker-0.5",
    ),
    ("Recall-v0: a cue, 6 observations later", "small-tasks", "Recall-v0, trained and evaluated on normal"),
    ("Recall20-v0: 21 later", "small-tasks", "Recall20-v0, trained and evaluated on normal"),
    ("Recall50-v0: 51 later", "small-tasks", "Recall50-v0, trained and evaluated on normal"),
    ("CartPoleNoVel-v1: no velocities", "small-tasks", "CartPoleNoVel-v1, trained and evaluated on normal"),
    (
        "CartPole-v1, half of the observations dark",
        "small-tasks",
        "CartPole-v1, trained and evaluated on flicker-0.5",
    ),
)


def test_every_table_of_the_results_page_is_a_report_s() -> None:
    page = (ROOT / "docs" / "results.md").read_text()
    tables = re.findall(r"\n\| Agent .*?\n\| ---.*?\n(.*?)\n\n", page, flags=re.DOTALL)
    for rows, (_, suite, caption) in zip(tables, TABLES, strict=True):
        assert f"{rows}\n" == _reported_rows(suite, caption)


def test_every_score_of_the_readme_is_a_report_s() -> None:
    """And every agent that a report has is there, in the column of its name."""
    readme = (ROOT / "README.md").read_text()
    ((head, rows),) = re.findall(r"\n\| Task (\|.*)\n\| ---.*\n((?:\|.*\n)+)", readme)
    agents = ["drqn", "dqn-1", "dqn-4", "dqn-10", "ppo_lstm", "random"]
    assert _cells(head) == ["DRQN", "DQN, 1 frame", "DQN, 4 frames", "DQN, 10 frames", "RecurrentPPO", "random"]
    for row, (task, suite, caption) in zip(rows.splitlines(), TABLES, strict=True):
        reported = [_cells(line) for line in _reported_rows(suite, caption).splitlines()]
        scores = {agent: f"{mean} ({n})" for agent, n, _, _, mean, *_ in reported}
        assert set(scores) <= set(agents)
        assert _cells(row) == [task, *(scores.get(agent, "-") for agent in agents)]


@pytest.mark.parametrize("page", ["README.md", "docs/results.md"])
def test_every_file_that_a_page_shows_or_names_exists(page: str) -> None:
    text = (ROOT / page).read_text()
    links = [link for link in re.findall(r"\]\(([^)#]+)[^)]*\)", text) if not link.startswith("http")]
    assert len(links) > 10
    for link in links:
        assert ((ROOT / page).parent / link).exists(), link


def _reported_rows(suite: str, caption: str) -> str:
    report = (ROOT / "eval" / "results" / suite / "report" / "report.md").read_text()
    (rows,) = re.findall(rf"^Final scores in {re.escape(caption)} .*\n\n.*\n.*\n((?:\|.*\n)+)", report, flags=re.MULTILINE)
    assert len(rows.splitlines()) >= 2
    return str(rows)


def _cells(row: str) -> list[str]:
    return [cell.strip() for cell in row.strip().strip("|").split("|")]
