"""The benchmark's published results: what the README shows stands in them, and they name no path."""

import csv
import json
import re
from pathlib import Path

import pytest

from eval.soak.cli import Sample, describe, summarize
from eval.throughput.report import render

ROOT = Path(__file__).parents[2]
PUBLISHED = sorted((ROOT / "eval" / "throughput" / "results").iterdir())


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
