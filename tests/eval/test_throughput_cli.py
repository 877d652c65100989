"""``python -m eval throughput`` as it is called."""

import argparse
import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from eval.__main__ import main
from eval.throughput import cli
from eval.throughput.contestants import OURS, OWN, PARTS, measurements

ROOT = Path(__file__).parents[2]
TINY = shlex.split(
    "--image-size 36 --hidden-size 8 --n-actions 3 --batch-size 4 --sequence-length 5 --buffer-size 400 --episode-length 20 "
    "--n-envs 2 --peak-size 64 --threads 1 --device cpu --rounds 2 --seconds 0.02"
)
PLAIN = OWN[-1].name


class Ran(NamedTuple):
    """What a real run left behind."""

    results: dict[str, Any]
    printed: str
    out: Path
    status: int


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    out = tmp_path_factory.mktemp("results") / "here"
    missing = ["--python-pfrl", str(out / "no" / "python"), "--python-torchrl", str(out / "no" / "python")]
    which = ["--parts", "updates", "--only", "plain", "PFRL", "--out", str(out), "--profile"]
    command = [sys.executable, "-m", "eval", "throughput", *TINY, *which, *missing]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    return Ran(json.loads((out / "results.json").read_text()), run.stdout, out, run.returncode)


def test_a_run_measures_who_was_chosen(ran: Ran) -> None:
    assert ran.status == 0
    updates, peak = ran.results["measurements"]
    assert updates["name"] == "updates" and peak["name"] == "peak"
    assert list(updates["contestants"]) == [PLAIN, "PFRL DRQN"]
    for entry in (updates["contestants"][PLAIN], *peak["contestants"].values()):
        assert entry["status"] == "measured" and [round_["round"] for round_ in entry["rounds"]] == [0, 1]
        assert all(round_["count"] > 0 and round_["seconds"] > 0 for round_ in entry["rounds"])
    assert PLAIN in ran.printed


def test_a_run_reports_who_is_not_installed(ran: Ran) -> None:
    assert "PFRL DRQN: not installed: make bench-peers" in ran.printed
    assert ran.results["measurements"][0]["contestants"]["PFRL DRQN"]["rounds"] == []


def test_a_run_writes_down_what_it_was_and_where(ran: Ran) -> None:
    results = ran.results
    assert set(results) == {
        *("schema", "created", "command", "arguments", "device", "machine", "measurements", "bytes_per_step", "roofline"),
        "seconds",
    }
    assert results["schema"] == cli.SCHEMA and results["device"] == "cpu" and results["arguments"]["hidden_size"] == 8
    assert results["machine"]["cpu"] and results["machine"]["cores"] >= 1
    assert str(ran.out.parents[0]) not in json.dumps(results), "the results name no path of this machine"
    versions = results["measurements"][0]["contestants"][PLAIN]["info"]["versions"]
    assert {"drqn_sb3", "torch", "numpy"} <= set(versions)


def test_a_runs_command_asks_for_the_same_again(ran: Ran) -> None:
    python, *words = shlex.split(ran.results["command"])
    assert python == "python" and words[:3] == ["-m", "eval", "throughput"]
    again = cli.parse(words[3:])
    assert {name: vars(again)[name] for name in ran.results["arguments"]} == ran.results["arguments"]
    assert again.profile and again.only == ["plain", "PFRL"] and again.rounds == 2


def test_a_run_leaves_table_picture_and_logs(ran: Ran) -> None:
    assert (ran.out / "table.txt").read_text() in ran.printed
    assert (ran.out / "throughput.png").read_bytes().startswith(b"\x89PNG")
    assert len(list((ran.out / "logs").iterdir())) == 3


def test_a_run_has_a_profile_and_a_roofline(ran: Ran) -> None:
    extras = ran.results["measurements"][0]["contestants"][PLAIN]["extras"]
    assert {row["part"] for row in extras["profile"]} >= {"gather"} and extras["flops"] > 0
    assert [row["contestant"] for row in ran.results["roofline"]] == [PLAIN]
    assert all(row["share"] > 0 for row in ran.results["roofline"])


def parse(*arguments: str) -> argparse.Namespace:
    return cli.parse(arguments)


def test_everyone_is_in_every_measurement_of_networks() -> None:
    plan = cli.make_plan(parse(), "cpu")
    by_name = {measurement.name: measurement for measurement in measurements(plan, list(PARTS))}
    names = {name: [contestant.name for contestant in entry.contestants] for name, entry in by_name.items()}
    everyone = [OURS, f"{OURS}, float32", "plain DRQN, float32", "SB3 DQN", "RecurrentPPO", "PFRL DRQN", "TorchRL DRQN"]
    assert names["updates"] == names["acting"] == everyone
    assert names["learn SlimeVolleyNoFrameskip-v0"] == everyone[:4]
    assert names["envs SlimeVolleyNoFrameskip-v0"] == ["DummyVecEnv", "SubprocVecEnv"]
    assert names["envs PongNoFrameskip-v4"] == ["AtariVecEnv", "DummyVecEnv", "SubprocVecEnv"]
    assert all(entry.reference in names[name] for name, entry in by_name.items())


DEVICES = {"cpu": (8, "dummy"), "cuda": (16, "subproc")}


@pytest.mark.parametrize(("device", "expected"), DEVICES.items(), ids=DEVICES.keys())
def test_defaults_follow_the_device(device: str, expected: tuple[int, str]) -> None:
    plan = cli.make_plan(parse(), device)
    assert (plan.learn_envs, plan.learn_kind) == expected
    asked = cli.make_plan(parse("--learn-envs", "4", "--vec-env", "dummy"), device)
    assert (asked.learn_envs, asked.learn_kind) == (4, "dummy")


def test_atari_is_learned_natively() -> None:
    plan = cli.make_plan(parse("--env-ids", "PongNoFrameskip-v4"), "cpu")
    (measurement,) = measurements(plan, ["learn"])
    assert {contestant.options["kind"] for contestant in measurement.contestants} == {"native"}
    assert [contestant.options["agent"] for contestant in measurement.contestants] == ["drqn", "drqn", "drqn", "dqn"]


REFUSED = {
    "too small for the convolutions": (("--image-size", "35"), "--image-size must be 36 or more"),
    "too short for the peers": (("--episode-length", "19"), "--episode-length must be twice --sequence-length"),
}


@pytest.mark.parametrize(("arguments", "words"), REFUSED.values(), ids=REFUSED.keys())
def test_sizes_that_do_not_go_together_are_refused(arguments: tuple[str, ...], words: str) -> None:
    with pytest.raises(SystemExit, match=words):
        main(["throughput", *arguments])


@pytest.mark.parametrize("arguments", [("--rounds", "0"), ("--seconds", "0"), ("--seconds", "nan"), ("--parts", "fun")])
def test_nonsense_is_refused(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        main(["throughput", *arguments])
    assert raised.value.code == 2 and arguments[0] in capsys.readouterr().err


HELP = "import sys\nfrom eval.__main__ import main\ntry:\n    main({})\nexcept SystemExit:\n    print(*sys.modules)"


@pytest.mark.parametrize("arguments", [["--help"], ["throughput", "--help"]], ids=" ".join)
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    code = HELP.format(arguments)
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = set(run.stdout.splitlines()[-1].split())
    assert "throughput" in run.stdout
    assert not loaded & {"torch", "numpy", "matplotlib", "stable_baselines3", "gymnasium", "drqn_sb3", "tqdm"}
