"""The benchmark's published results: what the README shows stands in them, and they name no path."""

import json
import re
from pathlib import Path

import pytest

from eval.throughput.report import render

ROOT = Path(__file__).parents[2]
PUBLISHED = sorted((ROOT / "eval" / "throughput" / "results").iterdir())


@pytest.mark.parametrize("folder", PUBLISHED, ids=lambda folder: folder.name)
def test_the_table_is_that_of_the_raw_numbers(folder: Path) -> None:
    results = json.loads((folder / "results.json").read_text())
    assert (folder / "table.txt").read_text() == render(results)
    assert (folder / "throughput.png").read_bytes().startswith(b"\x89PNG")
    assert not re.search(r'"/|\.venv', json.dumps(results)), "a path of the machine that it ran on"


def test_every_line_of_the_readmes_results_stands_in_the_table() -> None:
    readme = (ROOT / "README.md").read_text()
    (block,) = re.findall(r"```\n(Learner updates\n.*?)```", readme, flags=re.DOTALL)
    (path,) = re.findall(r"\((eval/throughput/results/\w+/table.txt)\)", readme)
    table = (ROOT / path).read_text().splitlines()
    lines = [line for line in block.splitlines() if line]
    assert len(lines) > 15
    assert [line for line in lines if line not in table] == []
