"""When checkpoints are written, what is refused, and what a user sees."""

import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from resumable_runs import (
    NARROW,
    SMALL,
    KillAt,
    KilledError,
    cartpole,
    drqn,
    raise_killed,
    recall,
    slimevolley_state,
    stock_dqn,
)
from sb3_contrib import ARS
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.callbacks import (
    BaseCallback,
    CallbackList,
    EvalCallback,
    EveryNTimesteps,
    ProgressBarCallback,
)
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnv, VecNormalize

from drqn_sb3 import DRQN, RunCheckpointCallback
from drqn_sb3.checkpoints import ResumableEnv, archive
from drqn_sb3.checkpoints.store import CheckpointStore, list_checkpoints, steps_of

ROOT = Path(__file__).parents[2]


def make(**kwargs: Any) -> DRQN:
    return drqn(recall, **kwargs)


def learn(folder: Path, total: int = 200, model: Any = None, others: Any = (), **kwargs: Any) -> Any:
    model = make() if model is None else model
    callback = RunCheckpointCallback(folder, **{"save_freq": 60, "verbose": 0, **kwargs})
    try:
        return model.learn(total, callback=[callback, *others])
    finally:
        callback.close()


def steps_in(folder: Path) -> list[int]:
    return [steps_of(path) for path in list_checkpoints(folder)]


# --- when ---


class Steps(BaseCallback):
    """Note which checkpoints there are, at every step."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder, self.seen = folder, set[int]()

    def _on_step(self) -> bool:
        self.seen.update(steps_in(self.folder))
        return True


def test_checkpoints_are_written_at_every_multiple_and_at_the_end(tmp_path: Path) -> None:
    """Three environments and rollouts of two steps: the first rollout that begins at a multiple of 60 or beyond."""
    steps = Steps(tmp_path)
    learn(tmp_path, 200, others=[steps])
    assert steps.seen == {60, 120, 180}
    assert steps_in(tmp_path) == [180, 204]


@pytest.mark.parametrize("keep", [1, 3])
def test_as_many_are_kept_as_asked_for(tmp_path: Path, keep: int) -> None:
    learn(tmp_path, 300, keep=keep)
    assert len(steps_in(tmp_path)) == keep


def test_a_finished_run_is_not_run_again(tmp_path: Path) -> None:
    model = learn(tmp_path)
    again = learn(tmp_path, resume=True)
    assert again.num_timesteps == 204 and again._n_updates == model._n_updates
    for one, other in zip(model.policy.parameters(), again.policy.parameters(), strict=True):
        assert th.equal(one, other)


def test_a_larger_budget_goes_on_from_the_end(tmp_path: Path) -> None:
    learn(tmp_path, 200)
    model = learn(tmp_path, 300, resume=True)
    assert model.num_timesteps == 300
    assert steps_in(tmp_path)[-1] == 300


def test_resuming_where_there_is_nothing_begins(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    learn(tmp_path, resume=True, verbose=1)
    assert "There is no checkpoint to resume from: the run begins" in capsys.readouterr().out


def test_what_is_done_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    learn(tmp_path, verbose=1)
    learn(tmp_path, 300, resume=True, verbose=1)
    out = capsys.readouterr().out
    assert f"Checkpoint at step 60: {tmp_path}/checkpoint_000000000060.zip (" in out
    assert f"Resumed from {tmp_path}/checkpoint_000000000204.zip, at step 204 of 300" in out


def test_an_older_checkpoint_can_be_named(tmp_path: Path) -> None:
    learn(tmp_path)
    model = make()
    callback = RunCheckpointCallback(save_freq=60, resume=tmp_path / "checkpoint_000000000180.zip", verbose=0)
    model.learn(190, callback=callback)
    assert callback.folder == tmp_path and callback.resumed_from == tmp_path / "checkpoint_000000000180.zip"
    # The one from before, of more steps, belongs to another past now
    assert steps_in(tmp_path) == [180, 192]


def test_a_past_that_was_left_is_gone_before_anything_else_happens(tmp_path: Path) -> None:
    learn(tmp_path)
    with pytest.raises(KilledError):
        learn(tmp_path, others=[KillAt(183, raise_killed)], resume=tmp_path / "checkpoint_000000000180.zip")
    assert steps_in(tmp_path) == [180]


class StopAt(BaseCallback):
    """Stops learning, as SB3's own callbacks do."""

    def __init__(self, n_steps: int) -> None:
        super().__init__()
        self.n_steps = n_steps

    def _on_step(self) -> bool:
        return self.model.num_timesteps < self.n_steps


@pytest.mark.parametrize(("n_steps", "expected"), [(100, [60]), (201, [120, 180]), (204, [120, 180])])
def test_a_callback_that_stops_learning_leaves_the_last_checkpoint(tmp_path: Path, n_steps: int, expected: list[int]) -> None:
    """The last step was not stored then, be the budget spent or not."""
    learn(tmp_path, others=[StopAt(n_steps)])
    assert steps_in(tmp_path) == expected


def test_learning_goes_on_in_the_same_process(tmp_path: Path) -> None:
    model, callback = make(), RunCheckpointCallback(tmp_path, save_freq=60, verbose=0)
    model.learn(100, callback=callback)
    model.learn(100, callback=callback, reset_num_timesteps=False)
    assert steps_in(tmp_path) == [180, 204]
    assert callback.resumed_from is None


def test_the_live_model_is_not_taken_back(tmp_path: Path) -> None:
    model, callback = make(), RunCheckpointCallback(tmp_path, save_freq=60, verbose=0, resume=True)
    model.learn(100, callback=[callback, StopAt(111)])
    model.learn(100, callback=callback, reset_num_timesteps=False)
    assert model.num_timesteps >= 200


def test_a_budget_is_that_of_the_whole_run(tmp_path: Path) -> None:
    learn(tmp_path)
    callback = RunCheckpointCallback(tmp_path, resume=True, verbose=0)
    with pytest.raises(ValueError, match="reset_num_timesteps must be True where a run is resumed"):
        make().learn(100, callback=callback, reset_num_timesteps=False)


def test_an_error_lets_go_of_folder_and_signal(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    model, callback = make(), RunCheckpointCallback(tmp_path, save_freq=60, verbose=0)
    with pytest.raises(KilledError):
        model.learn(200, callback=[callback, KillAt(100, raise_killed)])
    assert signal.getsignal(signal.SIGTERM) is before
    CheckpointStore(tmp_path, keep=1).close()
    assert steps_in(tmp_path) == [60]


def test_callbacks_that_may_come_and_go_cost_nothing(tmp_path: Path) -> None:
    def run(folder: Path, *totals: int) -> EvalCallback:
        for total in totals:
            evaluation = EvalCallback(recall(), eval_freq=20, verbose=0)
            others = [evaluation, ProgressBarCallback()] if total == totals[-1] else [evaluation]
            learn(folder, total, others=others, resume=True)
        return evaluation

    expected, found = run(tmp_path / "once", 300), run(tmp_path / "twice", 200, 300)
    assert found.n_calls == expected.n_calls == 100
    assert (found.best_mean_reward, found.last_mean_reward) == (expected.best_mean_reward, expected.last_mean_reward)


# --- without the replay buffer ---


class Updates(BaseCallback):
    """Note after how many steps there had been how many updates, at the end of every rollout."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[int, int] = {}

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        self.seen[self.model.num_timesteps] = self.model._n_updates


def test_a_checkpoint_without_the_replay_buffer_is_a_file_that_goes_anywhere(tmp_path: Path) -> None:
    """Killed amid a run, where the last rollout's update is still to be made, from experience that is not there any more."""
    with pytest.raises(KilledError):
        learn(tmp_path / "here", others=[KillAt(150, raise_killed)], save_replay_buffer=False)
    checkpoints = list_checkpoints(tmp_path / "here")
    assert sorted((tmp_path / "here").iterdir()) == checkpoints and len(checkpoints) == 2
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / checkpoints[-1].name).write_bytes(checkpoints[-1].read_bytes())
    model = make()
    with pytest.warns(UserWarning, match="written without the replay buffer, updates begin again after 40 steps"):
        learn(tmp_path / "there", 120, model, resume=True, save_replay_buffer=False)
    state, _ = archive.read_archive(checkpoints[-1])
    for name, weights in state["run"]["parameters"]["policy"].items():
        assert th.equal(model.policy.state_dict()[name], weights)
    again = learn(tmp_path / "there", 300, resume=True, save_replay_buffer=False)
    assert again.num_timesteps == 300 and again._n_updates > model._n_updates


@pytest.mark.filterwarnings("ignore:.*replay buffer")
def test_without_the_replay_buffer_a_run_fills_that_before_it_learns(tmp_path: Path) -> None:
    """Rollouts are of six steps, and the first to end after 204 + 40 is that at 246: its update is made in the next one."""
    model = learn(tmp_path, save_replay_buffer=False)
    updates = Updates()
    again = learn(tmp_path, 300, resume=True, save_replay_buffer=False, others=[updates])
    until, after = model._n_updates, {steps: n for steps, n in updates.seen.items() if steps > 246}
    assert {n for steps, n in updates.seen.items() if steps <= 246} == {until}
    assert list(after.values()) == list(range(until + 1, until + 1 + len(after)))
    assert again._n_updates == until + (300 - 240) // 6
    # Afterwards a run begins as any other, after its 40 steps
    again.learn(60)
    assert again._n_updates == until + 10 + 4


@pytest.mark.filterwarnings("ignore:.*replay buffer")
def test_resumed_once_more_it_still_fills_the_replay_buffer_first(tmp_path: Path) -> None:
    model = learn(tmp_path, save_replay_buffer=False)
    with pytest.raises(KilledError):
        learn(tmp_path, 300, resume=True, save_freq=6, others=[KillAt(220, raise_killed)])
    updates = Updates()
    learn(tmp_path, 300, resume=True, others=[updates])
    assert min(updates.seen) > 210
    assert {n for steps, n in updates.seen.items() if steps <= 246} == {model._n_updates}


@pytest.mark.filterwarnings("ignore:.*replay buffer")
def test_without_the_replay_buffer_episodes_begin_anew_and_statistics_do_not(tmp_path: Path) -> None:
    model, again = drqn(slimevolley_state), drqn(slimevolley_state)
    learn(tmp_path, 200, model, save_replay_buffer=False)
    began_with = first_observations(model)
    normalize = model.get_vec_normalize_env()
    learn(tmp_path, 204, again, resume=True, save_replay_buffer=False)
    resumed = again.get_vec_normalize_env()
    assert isinstance(normalize, VecNormalize) and isinstance(resumed, VecNormalize)
    assert isinstance(normalize.obs_rms, RunningMeanStd) and isinstance(resumed.obs_rms, RunningMeanStd)
    # Two environments: their first observations, and two steps, are new
    assert resumed.obs_rms.count == normalize.obs_rms.count + 2 * 3
    assert not np.array_equal(first_observations(again), began_with), "not the games that the run began with"


def first_observations(model: DRQN) -> np.ndarray:
    assert model.replay_buffer is not None
    storage = model.replay_buffer.storage
    return np.asarray(storage.observations[""][storage.rows(np.arange(2), np.zeros(2, dtype=np.int64))])


def test_files_of_a_replay_buffer_that_is_not_kept_any_more_are_removed(tmp_path: Path) -> None:
    learn(tmp_path)
    assert list(tmp_path.rglob("replay_*.npz"))
    learn(tmp_path, 400, resume=True, save_replay_buffer=False)
    assert len(steps_in(tmp_path)) == 2 and not list(tmp_path.rglob("replay_*.npz"))


def test_an_on_policy_algorithm_has_no_replay_buffer_to_leave_out(tmp_path: Path) -> None:
    def make_ppo() -> PPO:
        return PPO("MlpPolicy", cartpole(), n_steps=32, batch_size=32, n_epochs=1, seed=0, device="cpu")

    expected = learn(tmp_path / "once", 256, make_ppo(), save_freq=64)
    learn(tmp_path / "twice", 128, make_ppo(), save_freq=64, save_replay_buffer=False)
    found = learn(tmp_path / "twice", 256, make_ppo(), save_freq=64, save_replay_buffer=False, resume=True)
    for one, other in zip(expected.policy.parameters(), found.policy.parameters(), strict=True):
        assert th.equal(one, other)


# --- what is refused ---


ARGUMENTS: dict[str, tuple[dict[str, Any], str]] = {
    "save_freq, zero": ({"save_freq": 0}, "save_freq must be .*1.*got 0"),
    "save_freq, a fraction": ({"save_freq": 0.5}, "save_freq must be .*got 0.5"),
    "keep, zero": ({"keep": 0}, "keep must be .*1.*got 0"),
    "save_replay_buffer, a number": ({"save_replay_buffer": 0}, "save_replay_buffer must be True or False, got 0"),
    "resume, nothing": ({"resume": None}, "resume must be True, False or the path of a checkpoint, got None"),
}


@pytest.mark.parametrize(("kwargs", "words"), ARGUMENTS.values(), ids=ARGUMENTS.keys())
def test_bad_arguments_are_refused(tmp_path: Path, kwargs: dict[str, Any], words: str) -> None:
    with pytest.raises((ValueError, TypeError), match=words):
        RunCheckpointCallback(tmp_path, **kwargs)


def test_a_folder_is_needed() -> None:
    with pytest.raises(ValueError, match="folder must be given, got None"):
        make().learn(10, callback=RunCheckpointCallback())


def test_the_folder_of_another_run_is_not_written_over(tmp_path: Path) -> None:
    learn(tmp_path)
    with pytest.raises(ValueError, match=r"folder must hold no checkpoints if resume is False.*resume=True"):
        learn(tmp_path)
    assert steps_in(tmp_path) == [180, 204]


def test_what_is_no_checkpoint_cannot_be_resumed(tmp_path: Path) -> None:
    make().save(tmp_path / "model.zip")
    with pytest.raises(ValueError, match=r"resume must be True, False or the path of a checkpoint, got .*model.zip"):
        learn(tmp_path, resume=tmp_path / "model.zip")


def test_a_checkpoint_of_another_folder_cannot_be_resumed(tmp_path: Path) -> None:
    learn(tmp_path / "one")
    with pytest.raises(ValueError, match=r"resume must be a checkpoint in folder .*two"):
        learn(tmp_path / "two", resume=list_checkpoints(tmp_path / "one")[0])


def test_a_buffer_that_cannot_be_written_piece_by_piece_is_refused(tmp_path: Path) -> None:
    model = DQN("MlpPolicy", cartpole(), buffer_size=100)
    with pytest.raises(TypeError, match=r"replay_buffer_class must be .*FrameStackReplayBuffer.*got ReplayBuffer"):
        model.learn(10, callback=RunCheckpointCallback(tmp_path))


def test_a_stock_dqn_needs_its_replay_buffer(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="save_replay_buffer must be True for DQN, got False"):
        learn(tmp_path, model=stock_dqn(), save_replay_buffer=False)


def test_random_search_cannot_be_resumed(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="model must be an off-policy or on-policy algorithm, got ARS"):
        ARS("LinearPolicy", "CartPole-v1").learn(10, callback=RunCheckpointCallback(tmp_path))


def test_noise_that_no_checkpoint_sees_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="use_sde must be False, got True"):
        PPO("MlpPolicy", "Pendulum-v1", use_sde=True).learn(10, callback=RunCheckpointCallback(tmp_path))


def test_within_another_callback_it_would_be_told_of_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="must be one of learn's own callbacks, got one within"):
        make().learn(10, callback=EveryNTimesteps(10, RunCheckpointCallback(tmp_path)))


OTHERS: dict[str, tuple[dict[str, Any], str]] = {
    "network": ({"policy_kwargs": {"hidden_size": 9}}, r"same network: .*bias_hh is \(36,\) in the model and \(32,\) in the"),
    "capacity": ({"buffer_size": 500}, "buffer_size"),
    "windows": ({"sequence_length": 5}, "sequence_length"),
}


@pytest.mark.parametrize(("kwargs", "words"), OTHERS.values(), ids=OTHERS.keys())
def test_a_checkpoint_of_another_configuration_is_refused(tmp_path: Path, kwargs: dict[str, Any], words: str) -> None:
    learn(tmp_path)
    with pytest.raises(ValueError, match=words):
        learn(tmp_path, 300, make(**kwargs), resume=True)


def test_a_checkpoint_of_other_environments_is_refused(tmp_path: Path) -> None:
    learn(tmp_path)
    model = DRQN("MlpLstmPolicy", make_vec_env("Recall-v0", 2), **{**SMALL, "policy_kwargs": NARROW})
    with pytest.raises(ValueError, match="n_envs must be 3, as when the checkpoint was written, got 2"):
        learn(tmp_path, 300, model, resume=True)


def test_a_checkpoint_of_another_algorithm_is_refused(tmp_path: Path) -> None:
    learn(tmp_path)

    class OtherDRQN(DRQN):
        """Another algorithm."""

    other = OtherDRQN("MlpLstmPolicy", recall(), **{**SMALL, "policy_kwargs": NARROW})
    with pytest.raises(ValueError, match="the checkpoint must be of OtherDRQN, got one of DRQN"):
        learn(tmp_path, 300, other, resume=True)


# --- what is said ---


def test_other_settings_are_told_of_and_hold(tmp_path: Path) -> None:
    learn(tmp_path)
    with pytest.warns(UserWarning, match=r"not exactly: learning_rate was 0.001 and is 0.002 now"):
        model = learn(tmp_path, 300, make(learning_rate=2e-3, gamma=0.99), resume=True)
    assert model.policy.optimizer.param_groups[0]["lr"] == 2e-3


def test_the_optimisers_options_are_those_of_now(tmp_path: Path) -> None:
    learn(tmp_path)
    with pytest.warns(UserWarning, match=r"policy_kwargs was .* and is .*'eps': 0.001"):
        model = learn(tmp_path, 300, make(policy_kwargs={**NARROW, "optimizer_kwargs": {"eps": 1e-3}}), resume=True)
    assert model.policy.optimizer.param_groups[0]["eps"] == 1e-3
    # Its state is that of then
    assert next(iter(model.policy.optimizer.state.values()))["step"] == model._n_updates


def test_a_budget_that_schedules_depend_on_is_told_of(tmp_path: Path) -> None:
    learn(tmp_path, model=make(exploration_steps=None))
    with pytest.warns(UserWarning, match=r"not exactly: total_timesteps was 200 and is 300 now"):
        learn(tmp_path, 300, make(exploration_steps=None), resume=True)


def test_other_environments_to_evaluate_in_begin_anew(tmp_path: Path) -> None:
    learn(tmp_path, others=[EvalCallback(recall(), eval_freq=20, verbose=0)])
    one = make_vec_env("Recall-v0", 1)
    with pytest.warns(UserWarning, match=r"EvalCallback's environments begin anew: the state is of 3 environments, got 1"):
        learn(tmp_path, 300, others=[EvalCallback(one, eval_freq=20, verbose=0)], resume=True)


def test_a_file_names_nothing_that_would_be_set(tmp_path: Path) -> None:
    """A stranger's checkpoint, its sums right, sets neither methods nor paths."""
    learn(tmp_path, others=[EvalCallback(recall(), eval_freq=20, verbose=0)])
    (path,) = list_checkpoints(tmp_path)[-1:]
    state, _ = archive.read_archive(path)
    state["run"]["counters"] |= {"tensorboard_log": "/elsewhere", "train": 3}
    for callback in state["run"]["callbacks"]:
        callback["attributes"] |= {"best_model_save_path": "/elsewhere", "log_path": "/elsewhere", "_on_step": 3}
    archive.write_archive(path, state, archive.read_summary(path))
    evaluation = EvalCallback(recall(), eval_freq=20, verbose=0)
    model = learn(tmp_path, 300, others=[evaluation], resume=True)
    assert model.tensorboard_log is None and callable(model.train)
    assert evaluation.best_model_save_path is None and evaluation.log_path is None and callable(evaluation._on_step)


def test_other_versions_are_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "__version__", "0.0.7")
    learn(tmp_path)
    monkeypatch.undo()
    with pytest.warns(UserWarning, match=r"written with other versions: drqn_sb3 0.0.7 \(now"):
        learn(tmp_path, 300, resume=True)


class Opaque(gym.Wrapper):
    """An environment that keeps something that is not plain data."""

    def __init__(self, env: gym.Env) -> None:
        super().__init__(env)
        self.secret = iter(range(10))


def opaque() -> VecEnv:
    return DummyVecEnv([lambda: Opaque(gym.make("CartPole-v1"))])


def test_environments_whose_state_cannot_be_had_begin_new_episodes(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match=r"When resumed, the run's environments will begin new episodes: .*secret"):
        learn(tmp_path, 100, drqn(opaque))
    with pytest.warns(UserWarning, match=r"not exactly: the environments begin new episodes: .*secret"):
        model = learn(tmp_path, 103, drqn(opaque), resume=True)
    assert model.replay_buffer is not None
    storage = model.replay_buffer.storage
    # The episode that ran at step 100 was cut off there, as a time limit would have: slot 100 or so is final
    assert storage.is_open.all()
    finals = np.flatnonzero(storage.final[: storage.n_written[0]])
    starts = np.flatnonzero(storage.episode_starts[: storage.n_written[0]])
    assert list(finals + 1) == list(starts[1:])
    assert storage.truncated[finals[-1] - 1] or storage.terminated[finals[-1] - 1]


def test_a_network_that_has_diverged_does_not_replace_a_sound_one(tmp_path: Path) -> None:
    class Poison(BaseCallback):
        def _on_step(self) -> bool:
            if self.model.num_timesteps == 90:
                with th.no_grad():
                    next(self.model.policy.parameters()).fill_(float("nan"))
            return True

    # No update comes between the poison and the checkpoint
    with pytest.raises(FloatingPointError):
        learn(tmp_path, 200, make(learning_starts=1000), others=[Poison()])
    assert steps_in(tmp_path) == [60]


def test_nor_does_a_stock_network(tmp_path: Path) -> None:
    class Poison(BaseCallback):
        def _on_step(self) -> bool:
            if self.model.num_timesteps >= 90:
                with th.no_grad():
                    next(self.model.policy.parameters()).fill_(float("nan"))
            return True

    with pytest.raises(FloatingPointError, match=r"q_net.* is not finite"):
        learn(tmp_path, 200, stock_dqn(), others=[Poison()])
    assert steps_in(tmp_path) == [60]


# --- a disk that takes no more ---


def test_a_checkpoint_that_cannot_be_written_does_not_end_the_run(tmp_path: Path) -> None:
    """Files may not grow beyond 200 KB from some step on: a real limit of the system's, in a process of its own."""
    pytest.importorskip("resource", reason="Windows has no such limits")
    code = """
import resource, signal, sys, warnings
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_callback import BaseCallback, drqn, learn, recall, steps_in
class Limit(BaseCallback):
    def _on_step(self):
        n_bytes = 2_000 if 100 <= self.model.num_timesteps < 150 else -1
        resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, -1))
        return True
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    model = learn(Path(sys.argv[1]), 200, others=[Limit()])
print(model.num_timesteps, steps_in(Path(sys.argv[1])))
print(*(warning.message for warning in caught))
"""
    run = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path), str(Path(__file__).parent)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    first, message = run.stdout.splitlines()
    assert first == "204 [180, 204]"
    assert "No checkpoint could be written at step 120: [Errno 27] File too large. The run goes on, and tries again" in message
    assert "in 60 steps; until then it can be resumed from step 60" in message
    assert not list(tmp_path.rglob("*unfinished"))


class Unanswering(gym.Wrapper):
    """Hangs when it is asked for its state."""

    def __init__(self, env: gym.Env) -> None:
        super().__init__(env)
        self.secret, self.n_steps = iter(()), 0

    def step(self, action: Any) -> Any:
        self.n_steps += 1
        return self.env.step(action)

    def get_state(self) -> int:
        time.sleep(600 if self.n_steps > 10 else 0)
        return self.n_steps

    def set_state(self, state: int) -> None:
        self.n_steps = state


def make_unanswering() -> gym.Env:
    return ResumableEnv(Unanswering(gym.make("CartPole-v1")))


def test_an_environment_that_hangs_is_not_taken_for_a_full_disk(tmp_path: Path) -> None:
    env = SubprocVecEnv([make_unanswering])
    with pytest.raises(TimeoutError, match=r"1 of 1 environments did not answer for 1\.0 seconds"):
        learn(tmp_path, 100, drqn(lambda: env, step_timeout=1.0))


# --- SIGTERM ---

TERMINATED = """
import os, signal, sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from drqn_sb3.checkpoints import callback
from test_callback import BaseCallback, learn
callback.PATIENCE_SECONDS = 0.2
class Terminate(BaseCallback):
    def _on_step(self):
        if self.model.num_timesteps == 81:
            for _ in range(int(sys.argv[3])):
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(float(sys.argv[4]))
        return True
try:
    learn(Path(sys.argv[1]), others=[Terminate()], verbose=1)
finally:
    print("finally")
"""


def terminated(folder: Path, times: int, pause: float = 0.0) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", TERMINATED, str(folder), str(Path(__file__).parent), str(times), str(pause)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("times", [1, 3])
def test_told_to_stop_a_run_makes_a_last_checkpoint_and_leaves_in_order(times: int, tmp_path: Path) -> None:
    run = terminated(tmp_path, times)
    assert run.returncode == 143, run.stderr
    # Amid the rollout that began at 78 steps
    assert steps_in(tmp_path) == [60, 84]
    *_, told, last = run.stdout.splitlines()
    assert told == f"Told to stop (SIGTERM): the run can be resumed from step 84 in {tmp_path}"
    assert last == "finally"
    expected, resumed = learn(tmp_path / "undisturbed"), learn(tmp_path, resume=True)
    for one, other in zip(expected.policy.parameters(), resumed.policy.parameters(), strict=True):
        assert th.equal(one, other)


def test_told_again_later_it_obeys_at_once(tmp_path: Path) -> None:
    run = terminated(tmp_path, 2, pause=0.4)
    assert run.returncode == -signal.SIGTERM
    assert "finally" not in run.stdout
    assert steps_in(tmp_path) == [60]


def test_afterwards_sigterm_is_what_it_was(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    learn(tmp_path)
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_run_in_a_thread_leaves_signals_alone(tmp_path: Path) -> None:
    import threading

    thread = threading.Thread(target=learn, args=(tmp_path,))
    thread.start()
    thread.join()
    assert steps_in(tmp_path) == [180, 204]


def test_no_warning_comes_of_an_exact_resumption(tmp_path: Path) -> None:
    learn(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        learn(tmp_path, 300, resume=True)


def test_the_callbacks_of_callbacks_are_found() -> None:
    from drqn_sb3.checkpoints.run_state import walk_callbacks

    inner = ProgressBarCallback()
    evaluation = EvalCallback(recall(), callback_after_eval=inner)
    root = CallbackList([evaluation])
    assert list(walk_callbacks(root)) == [root, evaluation, inner]
