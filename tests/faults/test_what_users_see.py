"""
The README's table of faults: every row is produced here, for real, and what it quotes is what is said.

In the README an ellipsis stands for what differs from case to case.
"""

import json
import re
import shutil
import signal
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faulty_env as faulty
import pytest
import torch as th
from resumable_runs import NARROW, SMALL, recall
from stable_baselines3 import DQN
from stable_baselines3.common.torch_layers import FlattenExtractor
from stable_baselines3.common.vec_env import VecEnv

from drqn_sb3 import DRQN, RunCheckpointCallback
from drqn_sb3.checkpoints import archive
from drqn_sb3.checkpoints.store import CheckpointStore, list_checkpoints

README = Path(__file__).parents[2] / "README.md"


def rows() -> dict[str, str]:
    """The table's first two columns: what happens, what one reads then."""
    section = README.read_text().split("\n## Reliability\n")[1].split("\n## ")[0]
    section = section[section.index("| what happens |") :]
    cells = [line.strip("|").split(" | ") for line in section.splitlines() if line.startswith("| ")]
    return {fault.strip(): said.strip() for fault, said, *_ in cells[1:]}


def learn(env: VecEnv, folder: Path | None = None, total: int = 300, **kwargs: Any) -> DRQN:
    model = DRQN("MlpLstmPolicy", env, **{**SMALL, "policy_kwargs": NARROW, **kwargs})
    callback = None if folder is None else RunCheckpointCallback(folder, save_freq=60, verbose=0, resume=True)
    try:
        return model.learn(total, callback=callback)
    finally:
        if callback is not None:
            callback.close()
        env.close()


def raised(kind: type[BaseException], do: Callable[[], Any]) -> str:
    with pytest.raises(kind) as error:
        do()
    # The kind itself, not one that is a kind of it
    return f"{error.type.__name__}: {error.value}"


def warned(do: Callable[[], Any]) -> str:
    with pytest.warns(UserWarning) as warnings:
        do()
    return "\n".join(f"UserWarning: {warning.message}" for warning in warnings)


# --- environments ---


def a_worker_dies(tmp_path: Path) -> str:
    return raised(RuntimeError, lambda: learn(faulty.apart(faulty.kill)))


def a_worker_raises(tmp_path: Path) -> str:
    return raised(RuntimeError, lambda: learn(faulty.apart(faulty.fail)))


def a_worker_hangs(tmp_path: Path) -> str:
    return raised(TimeoutError, lambda: learn(faulty.apart(faulty.hang), step_timeout=2.0))


def nan_in_a_reward(tmp_path: Path) -> str:
    return raised(FloatingPointError, lambda: learn(faulty.alone(faulty.nan_reward)))


def nan_in_an_observation(tmp_path: Path) -> str:
    return raised(FloatingPointError, lambda: learn(faulty.alone(faulty.nan_observation)))


def an_observation_out_of_bounds(tmp_path: Path) -> str:
    return warned(lambda: learn(faulty.alone(faulty.far_observation)))


def an_observation_that_its_type_cannot_hold(tmp_path: Path) -> str:
    env = faulty.alone(faulty.oversized_pixels, "SlimeVolleyNoFrameskip-v0")
    return raised(ValueError, lambda: learn(env))


# --- learning ---


def nan_in_the_loss(tmp_path: Path) -> str:
    return raised(FloatingPointError, lambda: learn(recall(), learning_rate=1e38, total=1000))


class Exhausting(FlattenExtractor):
    """Runs out of the GPU's memory, as PyTorch tells of it."""

    def forward(self, observations: th.Tensor) -> th.Tensor:
        raise th.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")


def out_of_memory(tmp_path: Path) -> str:
    kwargs = {**NARROW, "features_extractor_class": Exhausting}
    return raised(th.OutOfMemoryError, lambda: learn(recall(), policy_kwargs=kwargs))


def told_to_stop(tmp_path: Path) -> str:
    return raised(SystemExit, lambda: learn(faulty.alone(faulty.sigterm), tmp_path))


# --- checkpoints ---


def damage_newest(folder: Path, edit: Callable[[bytes], bytes]) -> None:
    path = list_checkpoints(folder)[-1]
    path.write_bytes(edit(path.read_bytes()))


def a_truncated_checkpoint(tmp_path: Path) -> str:
    learn(recall(), tmp_path)
    damage_newest(tmp_path, lambda content: content[:-1000])
    return warned(lambda: learn(recall(), tmp_path, 320))


def an_edited_checkpoint(tmp_path: Path) -> str:
    learn(recall(), tmp_path)
    damage_newest(tmp_path, lambda content: content.replace(b'"_n_updates": ', b'"_n_updates":1', 1))
    return warned(lambda: learn(recall(), tmp_path, 320))


def no_whole_checkpoint(tmp_path: Path) -> str:
    learn(recall(), tmp_path)
    for path in list_checkpoints(tmp_path):
        path.write_bytes(b"")
    with pytest.warns(UserWarning, match="Passing over"):
        return raised(ValueError, lambda: learn(recall(), tmp_path, 320))


def a_checkpoint_of_another_format(tmp_path: Path) -> str:
    archive.FORMAT += 1
    try:
        learn(recall(), tmp_path)
    finally:
        archive.FORMAT -= 1
    return raised(ValueError, lambda: learn(recall(), tmp_path, 320))


def a_checkpoint_of_other_versions(tmp_path: Path) -> str:
    original, archive.__version__ = archive.__version__, "0.0.7"
    try:
        learn(recall(), tmp_path)
    finally:
        archive.__version__ = original
    return warned(lambda: learn(recall(), tmp_path, 320))


def a_checkpoint_of_another_configuration(tmp_path: Path) -> str:
    learn(recall(), tmp_path)
    return raised(ValueError, lambda: learn(recall(), tmp_path, 320, policy_kwargs={"hidden_size": 9}))


def two_processes_one_folder(tmp_path: Path) -> str:
    store = CheckpointStore(tmp_path, keep=1)
    try:
        return raised(ValueError, lambda: learn(recall(), tmp_path))
    finally:
        store.close()


def a_nearly_full_disk(tmp_path: Path) -> str:
    """Nearly full for checkpoints of that size; tests/checkpoints/test_store.py fills a disk."""
    store = CheckpointStore(tmp_path, keep=1)
    with open(tmp_path / "checkpoint_000000000001.zip", "wb") as large:
        large.truncate(shutil.disk_usage(tmp_path).free // 2)  # it has holes, and takes no space
    try:
        return warned(lambda: store.write(2, {}, None))
    finally:
        store.close()


def a_full_disk(tmp_path: Path) -> str:
    resource = pytest.importorskip("resource", reason="Windows has no such limits")
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, limits[1]))
    try:
        return warned(lambda: learn(recall(), tmp_path))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


# --- models ---


def a_model_of_a_newer_version(tmp_path: Path) -> str:
    learn(recall()).save(tmp_path / "model.zip")
    with zipfile.ZipFile(tmp_path / "model.zip") as model:
        members = {name: model.read(name) for name in model.namelist()}
    data = {**json.loads(members["data"]), "drqn_sb3_version": "99.0"}
    with zipfile.ZipFile(tmp_path / "model.zip", "w") as model:
        for name, content in {**members, "data": json.dumps(data).encode()}.items():
            model.writestr(name, content)
    return warned(lambda: DRQN.load(tmp_path / "model.zip"))


def a_model_of_another_algorithm(tmp_path: Path) -> str:
    DQN("MlpPolicy", recall()).save(tmp_path / "model.zip")
    return raised(ValueError, lambda: DRQN.load(tmp_path / "model.zip"))


def a_truncated_model(tmp_path: Path) -> str:
    learn(recall()).save(tmp_path / "model.zip")
    content = (tmp_path / "model.zip").read_bytes()
    (tmp_path / "model.zip").write_bytes(content[: len(content) // 2])
    return raised(ValueError, lambda: DRQN.load(tmp_path / "model.zip"))


def a_checkpoint_loaded_as_a_model(tmp_path: Path) -> str:
    learn(recall(), tmp_path)
    return raised(ValueError, lambda: DRQN.load(list_checkpoints(tmp_path)[-1]))


FAULTS: dict[str, Callable[[Path], str]] = {
    "a worker process dies": a_worker_dies,
    "an environment raises in a worker process": a_worker_raises,
    "a worker process hangs": a_worker_hangs,
    "NaN or infinity in a reward": nan_in_a_reward,
    "NaN or infinity in an observation": nan_in_an_observation,
    "an observation beyond its space's bounds": an_observation_out_of_bounds,
    "an observation that its space's type can't hold": an_observation_that_its_type_cannot_hold,
    "NaN or infinity in the loss": nan_in_the_loss,
    "out of memory": out_of_memory,
    "SIGTERM": told_to_stop,
    "a truncated checkpoint": a_truncated_checkpoint,
    "an edited checkpoint": an_edited_checkpoint,
    "no checkpoint is whole": no_whole_checkpoint,
    "a checkpoint of another format": a_checkpoint_of_another_format,
    "a checkpoint written with other versions": a_checkpoint_of_other_versions,
    "a checkpoint of another configuration": a_checkpoint_of_another_configuration,
    "two processes, one folder": two_processes_one_folder,
    "a disk that is nearly full": a_nearly_full_disk,
    "a full disk": a_full_disk,
    "a model of a newer version": a_model_of_a_newer_version,
    "a model of another algorithm": a_model_of_another_algorithm,
    "a damaged model": a_truncated_model,
    "a checkpoint loaded as a model": a_checkpoint_loaded_as_a_model,
}


def test_every_row_is_produced_here_and_every_fault_has_a_row() -> None:
    assert list(rows()) == list(FAULTS)


@pytest.mark.parametrize("fault", FAULTS)
def test_users_see_what_the_readme_says(fault: str, tmp_path: Path) -> None:
    said = FAULTS[fault](tmp_path)
    quoted = rows()[fault].strip("`")
    assert re.search(re.escape(quoted).replace("…", ".*"), said, re.DOTALL), said
