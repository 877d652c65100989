"""The workers that run in this environment, and the peers' in theirs where they are built, at tiny sizes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eval.throughput.contestants import Contestant
from eval.throughput.experience import Experience, experience_of, make_experience, stack_frames
from eval.throughput.flops import n_parameters
from eval.throughput.pool import ROOT, Worker, interpreters
from eval.throughput.protocol import Task, Work
from eval.throughput.workers import drqn, envs, learn, memory, models, peak, profiling, recurrent_ppo, stock_dqn

# 36x36 frames, LSTM 24, 3 actions, 4 windows of 5 steps, 2 environments, a buffer of 400 frames, episodes of 20 steps
WORK = Work("updates", "cpu", 1, 0, 0.01, 36, 24, 3, 4, 5, 2, 400, 20, {})
SIZE = n_parameters(36, 24, 3)


def work(measurement: str, **options: Any) -> Work:
    return WORK._replace(measurement=measurement, options=options)


# --- experience ---


def test_the_same_seed_makes_the_same_experience() -> None:
    one, same, other = (make_experience(30, 2, 36, 3, 10, seed) for seed in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(one, same, strict=True))
    assert not np.array_equal(one.frames, other.frames)


def test_episodes_are_about_as_long_as_told() -> None:
    dones = make_experience(4000, 2, 36, 3, 20, 0).dones
    for env in range(2):
        lengths = np.diff(np.flatnonzero(dones[:, env]), prepend=-1)
        assert lengths.min() == 10 and lengths.max() == 30 and lengths.mean() == pytest.approx(20, abs=1)


def test_an_episode_starts_after_the_last_has_ended() -> None:
    experience = make_experience(100, 3, 36, 3, 10, 0)
    assert experience.episode_starts[0].all()
    assert np.array_equal(experience.episode_starts[1:], experience.dones[:-1])


def test_a_stack_holds_the_frames_up_to_its_own() -> None:
    frames = np.arange(5 * 2 * 4, dtype=np.uint8).reshape(5, 2, 1, 2, 2)
    stacks = stack_frames(frames, 3)
    assert stacks.shape == (5, 2, 3, 2, 2)
    assert np.array_equal(stacks[4], frames[2:5].squeeze(2).swapaxes(0, 1))
    assert np.array_equal(stacks[0], np.repeat(frames[0], 3, axis=1))


class RecordingBuffer:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.added: list[tuple[np.ndarray, ...]] = []

    def add(self, *arrays: Any) -> None:
        self.added.append(arrays[:5])


def test_a_buffer_is_told_stacks_that_begin_with_their_episode() -> None:
    frames = np.arange(1, 7, dtype=np.uint8).reshape(6, 1, 1, 1, 1)
    flat = np.zeros((5, 1))
    experience = Experience(frames, flat.astype(int), flat, np.array([[False], [False], [True], [False], [False]]))
    buffer = RecordingBuffer()
    assert models.fill(buffer, experience, 3) == 5
    told = [(obs.ravel().tolist(), next_obs.ravel().tolist()) for obs, next_obs, *_ in buffer.added]
    assert told == [
        ([0, 0, 1], [0, 1, 2]),
        ([0, 1, 2], [1, 2, 3]),
        ([1, 2, 3], [2, 3, 4]),
        ([0, 0, 4], [0, 4, 5]),
        ([0, 4, 5], [4, 5, 6]),
    ]


# --- networks ---

NETWORKS: dict[str, tuple[Callable[[Work], Task], dict[str, Any], int | None, int]] = {
    "drqn": (drqn.build, {}, SIZE, 20),
    "drqn, float32": (drqn.build, {"precision": "float32"}, SIZE, 20),
    "drqn, bfloat16": (drqn.build, {"precision": "bfloat16"}, SIZE, 20),
    "plain drqn": (drqn.build, {"plain": True}, SIZE, 20),
    "stock dqn": (stock_dqn.build, {}, None, 4),
    # The value has a head of its own
    "recurrent ppo": (recurrent_ppo.build, {}, SIZE + 24 + 1, 20),
}


@pytest.mark.parametrize(("build", "options", "n_expected", "n_frames"), NETWORKS.values(), ids=NETWORKS.keys())
def test_updates_are_of_the_size_that_is_told(
    build: Callable[[Work], Task], options: dict[str, Any], n_expected: int | None, n_frames: int
) -> None:
    task = build(work("updates", **options))
    assert task.run is not None and task.run(3) == 3
    assert task.info["parameters"] == n_expected or n_expected is None
    assert task.info["frames_per_update"] == n_frames
    assert task.info["precision"] == options.get("precision", "float32")


@pytest.mark.parametrize(("build", "options"), [entry[:2] for entry in NETWORKS.values()], ids=NETWORKS.keys())
def test_acting_counts_the_actions_of_all_environments(build: Callable[[Work], Task], options: dict[str, Any]) -> None:
    task = build(work("acting", **options))
    assert task.run is not None and task.run(70) == 140


def test_a_rollout_holds_one_reset() -> None:
    model = recurrent_ppo.make_model(WORK, 4)
    recurrent_ppo.fill_rollout(model, experience_of(WORK, 5, 4))
    assert model.rollout_buffer.full and model.rollout_buffer.episode_starts.sum() == 1


def test_the_peak_counts_floating_point_operations() -> None:
    task = peak.build(work("peak", precision="float32", size=32))
    assert task.run is not None and task.run(3) == 3 * 2 * 32**3


# --- the profile ---

NETWORK = profiling.Network(n_features=3136, hidden_size=512)
OPERATIONS = {
    "gathering": (("aten::index_select", [[9, 7056], [320]], [profiling.GATHER]), "gather"),
    "a convolution": (("aten::mkldnn_convolution", [[320, 1, 84, 84], [32, 1, 8, 8]], ["aten::conv2d"]), "convolutions"),
    "a convolution's gradient": (("aten::convolution_backward", [[320, 64, 7, 7]], []), "convolutions"),
    "the input projection": (("aten::addmm", [[2048], [320, 3136], [3136, 2048]], ["aten::linear"]), "input projection"),
    "its weights' gradient": (("aten::mm", [[2048, 320], [320, 3136]], []), "input projection"),
    "a recurrent step": (("aten::addmm", [[32, 2048], [32, 512], [512, 2048]], []), "recurrent matmuls"),
    "the head": (("aten::addmm", [[6], [320, 512], [512, 6]], []), "other matmuls"),
    "a gate": (("aten::sigmoid_", [[32, 1536]], []), "pointwise"),
    "the optimiser": (("aten::mul_", [[2048, 3136]], ["aten::_foreach_mul_", "Optimizer.step#Adam.step"]), "optimiser"),
    "clipping": (("aten::linalg_vector_norm", [[2048, 3136]], []), "optimiser"),
    "a cast": (("aten::copy_", [[2048, 3136]], ["aten::to"]), "copies"),
    "a kernel of the GPU": (("void at::native::vectorized_elementwise_kernel", [], []), "pointwise"),
    "a gathering kernel": (("void at::native::vectorized_gather_kernel<16, long>", [], []), "gather"),
    "choosing a Q-value, which is not the replay's": (("aten::gather", [[10, 32, 6]], []), "pointwise"),
    "the optimiser's kernel": (("void at::native::multi_tensor_apply_kernel", [], []), "optimiser"),
    "what nobody knows": (("cudaLaunchKernel", [], []), "other"),
}


@pytest.mark.parametrize(("operation", "part"), OPERATIONS.values(), ids=OPERATIONS.keys())
def test_an_operation_is_part_of(operation: tuple[str, list[Any], list[str]], part: str) -> None:
    assert profiling.part_of(*operation, NETWORK) == part


@pytest.mark.parametrize("options", [{}, {"plain": True}], ids=["fast", "plain"])
def test_a_profile_accounts_for_all_of_the_time(options: dict[str, Any]) -> None:
    rows = drqn.build(work("updates", **options)).extras["profile"]()
    shares = {row["part"]: row["share"] for row in rows}
    assert list(shares) == list(profiling.PARTS) and sum(shares.values()) == pytest.approx(1)
    expected = ("gather", "convolutions", "input projection", "recurrent matmuls", "other matmuls", "pointwise", "optimiser")
    assert min(shares[part] for part in expected) > 0


# --- environments and learning ---


@pytest.mark.parametrize("env_id", ["SlimeVolleyNoFrameskip-v0", "PongNoFrameskip-v4"])
def test_stepping_counts_the_steps_of_all_environments(env_id: str) -> None:
    task = envs.build(work("envs", env_id=env_id, kind="dummy"))
    assert task.run is not None and task.run(5) == 10
    assert task.info["observation"] == [1, 84, 84]


def test_pong_has_a_native_environment_of_the_same_observations() -> None:
    task = envs.build(work("envs", env_id="PongNoFrameskip-v4", kind="native"))
    assert task.run is not None and task.run(5) == 10
    assert task.info["observation"] == [1, 84, 84]


SCHEDULES = {
    "as shipped": (8, 40, (5, 1)),
    "a GPU's 16": (16, 40, (5, 2)),
    "one": (1, 40, (40, 1)),
    "more environments than steps": (64, 16, (1, 4)),
    "nothing in common": (3, 40, (40, 3)),
}


@pytest.mark.parametrize(("n_envs", "steps", "expected"), SCHEDULES.values(), ids=SCHEDULES.keys())
def test_updates_per_agent_step_do_not_hang_on_the_number_of_environments(
    n_envs: int, steps: int, expected: tuple[int, int]
) -> None:
    train_freq, gradient_steps = learn.update_schedule(n_envs, steps)
    assert (train_freq, gradient_steps) == expected
    assert train_freq * n_envs / gradient_steps == steps


LEARNERS = {
    "drqn": ({"agent": "drqn", "steps_per_update": 40}, 40, "SequenceReplayBuffer"),
    "plain drqn": ({"agent": "drqn", "steps_per_update": 40, "plain": True}, 40, "SequenceReplayBuffer"),
    "stock dqn": ({"agent": "dqn"}, 16 / 6, "FrameStackReplayBuffer"),
}


@pytest.mark.parametrize(("options", "steps_per_update", "buffer"), LEARNERS.values(), ids=LEARNERS.keys())
def test_learning_counts_agent_steps(options: dict[str, Any], steps_per_update: float, buffer: str) -> None:
    told = work("learn", env_id="SlimeVolleyNoFrameskip-v0", kind="dummy", **options)
    task = learn.build(told._replace(n_envs=2, buffer_size=1200))
    assert task.run is not None
    assert task.info["steps_per_update"] == steps_per_update and task.info["replay_buffer"] == buffer
    period = task.info["train_freq"] * 2
    assert task.run(2) == 2 * period


# --- memory ---

FRAMES = {"SequenceReplayBuffer": (1, 1.1), "FrameStackReplayBuffer": (1, 1.15), "ReplayBuffer": (8, 8.2)}


@pytest.mark.parametrize(("buffer", "bounds"), FRAMES.items(), ids=FRAMES.keys())
def test_memory_is_that_of_the_frames_stored(buffer: str, bounds: tuple[float, float]) -> None:
    told = work("memory", buffer=buffer)._replace(buffer_size=4000, episode_length=200)
    taken = memory.build(told).extras["bytes"]()
    assert bounds[0] <= taken["traced"] / 36**2 <= bounds[1]
    assert 3800 < taken["steps"] <= 4000 and taken["device"] == 0


# --- peers ---


@pytest.mark.parametrize("measurement", ["updates", "acting"])
@pytest.mark.parametrize("peer", ["pfrl", "torchrl"])
def test_a_peer_does_equal_work(peer: str, measurement: str, tmp_path: Path) -> None:
    pythons = {name: ROOT / f".venv-{name}" / "bin" / "python" for name in ("pfrl", "torchrl")}
    if not pythons[peer].exists():
        pytest.skip(f"{peer} is not installed: make bench-peers")
    contestant = Contestant(peer, f"eval.throughput.peers.{peer}_drqn", peer)
    with Worker(contestant, interpreters(**pythons), 1, tmp_path / "log", 120) as worker:
        info = worker.build(work(measurement))
        taken = worker.measure(0.05)
    assert info["parameters"] == SIZE and info["frames_per_update"] == 20
    assert taken["count"] > 0
