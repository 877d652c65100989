"""What of the Ray executor needs no Ray; tests/clusters has the real one."""

import argparse
import sys
from pathlib import Path

import pytest

from eval.run.ray_cluster import RayOptions, add_ray_arguments, make_ray_executor, ray_options


def parse(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_ray_arguments(parser)
    return parser.parse_args(words)


@pytest.fixture(autouse=True)
def no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


def test_options_are_what_the_command_line_says() -> None:
    assert ray_options(parse()) == RayOptions()
    words = "--ray-address auto --ray-cpus 4 --ray-gpus 0.5 --ray-retries -1"
    assert ray_options(parse(*words.split())) == RayOptions("auto", 4, 0.5, -1)


def test_the_address_of_the_environment_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    assert ray_options(parse()).address == "head:6379"
    assert ray_options(parse("--ray-address", "auto")).address == "auto"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--ray-cpus", "0"], "cpus must be at least 1, got 0"),
        (["--ray-gpus", "-1"], "gpus must be at least 0, got -1.0"),
        (["--ray-retries", "-2"], "retries must be at least -1, got -2"),
    ],
)
def test_options_out_of_their_bounds_are_named(words: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        make_ray_executor(parse(*words), tmp_path)


def test_a_machine_without_ray_is_told_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(RuntimeError, match=r"needs Ray: pip install '\.\[ray\]'"):
        make_ray_executor(parse(), tmp_path)
