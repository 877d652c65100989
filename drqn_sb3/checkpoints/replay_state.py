"""What a replay buffer is made of beside its slots, and checks that it goes on as the one that was written."""

from typing import Any

import numpy as np

from drqn_sb3.buffers import SequenceReplayBuffer
from drqn_sb3.checkpoints.files import DamagedFileError
from drqn_sb3.frame_stack import FrameStackReplayBuffer
from drqn_sb3.windows import SequentialWindows

FORMAT = 1
JournaledBuffer = SequenceReplayBuffer | FrameStackReplayBuffer


def checked(buffer: Any) -> JournaledBuffer:
    """
    Make sure that a buffer stores its experience in slots.

    :param buffer: the buffer
    :return: the buffer
    :raises TypeError: if it does not, naming those that do
    """
    if not isinstance(buffer, JournaledBuffer):
        raise TypeError(
            f"the replay buffer must be a SequenceReplayBuffer or a FrameStackReplayBuffer, got {type(buffer).__name__}: for "
            "SB3's algorithms give replay_buffer_class=FrameStackReplayBuffer and replay_buffer_kwargs=dict(n_stack=...), the "
            "number of frames in an observation; its samples are the same as ReplayBuffer's"
        )
    return buffer


def settings_of(buffer: JournaledBuffer) -> dict[str, Any]:
    """
    Collect the arguments that a buffer must share with the one that it goes on as.

    :param buffer: the buffer
    :return: plain data, by the argument's name
    """
    storage, actions = buffer.storage, buffer.action_space
    is_sequence = isinstance(buffer, SequenceReplayBuffer)
    spaces = [[key, *shape, dtype.str] for key, (shape, dtype) in storage.observation_shapes.items()]
    settings: dict[str, Any] = {
        "replay_buffer_class": "SequenceReplayBuffer" if is_sequence else "FrameStackReplayBuffer",
        "n_envs": int(storage.n_envs),
        "buffer_size": int(storage.capacity * storage.n_envs),
        "observation_space": spaces,
        "action_space": [int(actions.start), int(actions.n)],  # type: ignore[attr-defined]
        "n_steps": int(buffer.n_steps),
    }
    if isinstance(buffer, SequenceReplayBuffer):
        settings |= {"sequence_length": int(buffer.sequence_length), "burn_in": int(buffer.burn_in)}
        return {**settings, "replay": "sequential" if isinstance(buffer.sampler, SequentialWindows) else "random"}
    settings |= {"n_stack": int(buffer.n_stack), "gamma": float(buffer.gamma)}
    settings |= {"channels_order": "first" if buffer.channels_first else "last"}
    return {**settings, "handle_timeout_termination": bool(buffer.handle_timeout_termination)}


def check_settings(buffer: JournaledBuffer, description: Any) -> None:
    """
    Make sure that a description is of a buffer made with the same arguments.

    :param buffer: the buffer
    :param description: the description
    :raises ValueError: naming every argument that differs, and both values
    """
    if field(description, "format", int) != FORMAT:
        raise ValueError(
            f"the replay buffer's format must be {FORMAT}, got {description['format']}: written by another version"
        )
    then, now = field(description, "settings", dict), settings_of(buffer)
    if then.get("replay_buffer_class") == now["replay_buffer_class"] and set(then) != set(now):
        raise ValueError(f"the replay buffer's settings must be {', '.join(now)}, got {', '.join(map(str, then))}")
    differing = [name for name in now if then.get(name) != now[name]]
    # Another class has other arguments
    differing = differing[:1] if "replay_buffer_class" in differing else differing
    if differing:
        both = (f"{name} is {in_words(now[name])} now and was {in_words(then.get(name))}" for name in differing)
        raise ValueError(f"{', '.join(both)} when the replay buffer was written: continue with the same arguments")


def in_words(value: Any) -> str:
    """
    Print an argument.

    :param value: what it is
    :return: the same as text
    """
    return f"{value:,}" if type(value) is int else f"{value}"


def drawing_state(buffer: JournaledBuffer) -> dict[str, Any]:
    """
    Collect what the next samples, and the next step's place, depend on beside the slots.

    :param buffer: the buffer
    :return: plain data
    """
    if isinstance(buffer, FrameStackReplayBuffer):
        # Draws come from NumPy's global generator
        return {"last_frames": None if buffer._last_frames is None else buffer._last_frames.copy()}
    state: dict[str, Any] = {"rng": buffer.sampler.rng.bit_generator.state}
    if isinstance(buffer.sampler, SequentialWindows):
        state |= {name: getattr(buffer.sampler, name).copy() for name in ("envs", "indices", "is_last")}
    return state


def restore_drawing(buffer: JournaledBuffer, state: dict[str, Any], n_written: np.ndarray) -> None:
    """
    Put back what :func:`drawing_state` has collected.

    :param buffer: the buffer
    :param state: what was collected
    :param n_written: of every environment how many slots there have been, ``(n_envs,)``
    :raises ValueError: naming what is wrong with it
    """
    if isinstance(buffer, FrameStackReplayBuffer):
        frames = state.get("last_frames")
        shape = (buffer.n_envs, buffer.n_stack, *buffer.frame_shape)
        if n_written.any() or frames is not None:
            check_array("last_frames", frames, shape, buffer.storage.observation_shapes[""][1])
        buffer._last_frames = None if frames is None else frames.copy()
        return
    if isinstance(buffer.sampler, SequentialWindows):
        n_rows = len(state["envs"]) if isinstance(state.get("envs"), np.ndarray) and state["envs"].ndim else 0
        kinds = {"envs": np.int64, "indices": np.int64, "is_last": np.bool_}
        arrays = [check_array(name, state.get(name), (n_rows,), np.dtype(kind)) for name, kind in kinds.items()]
        envs, indices, _ = arrays
        if not ((envs >= 0) & (envs < buffer.n_envs)).all() or not ((indices >= 0) & (indices < n_written[envs])).all():
            raise ValueError("envs and indices of sequential windows must be of slots that were written, got others")
        buffer.sampler.envs, buffer.sampler.indices, buffer.sampler.is_last = (array.copy() for array in arrays)
    try:
        buffer.sampler.rng.bit_generator.state = state["rng"]
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        raise ValueError(f"rng must be the state of the sampler's generator, got {state.get('rng')!r:.200}") from error


def check_actions(buffer: JournaledBuffer, actions: np.ndarray, file: str) -> None:
    """
    Make sure that actions can be taken: a Q-network has no value for others.

    :param buffer: whose they are
    :param actions: the actions; 0 where none was taken
    :param file: where they come from
    :raises DamagedFileError: if one is outside the action space
    """
    first, n_actions = settings_of(buffer)["action_space"]
    is_possible = (actions == 0) | ((actions >= first) & (actions < first + n_actions))
    if not is_possible.all():
        raise DamagedFileError(
            f"{file} holds no slots of this replay buffer: actions must be from {first} to {first + n_actions - 1}, got "
            f"{actions[~is_possible][0]}"
        )


def field(description: Any, name: str, kind: type) -> Any:
    """
    Get a part of a description.

    :param description: what :meth:`ReplayJournal.append` returned
    :param name: the part's name
    :param kind: its type
    :return: the part
    :raises ValueError: if it is not there or of another type
    """
    value = description.get(name) if isinstance(description, dict) else None
    if type(value) is not kind:
        raise ValueError(f"the replay buffer's {name} must be of type {kind.__name__}, got {value!r:.200}")
    return value


def check_array(name: str, array: Any, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """
    Make sure that something is an array of a shape and dtype.

    :param name: what it is
    :param array: what should be an array
    :param shape: its shape
    :param dtype: its dtype
    :return: the array
    :raises ValueError: if it is something else
    """
    if not isinstance(array, np.ndarray) or array.shape != shape or array.dtype != dtype:
        got = f"{array.shape} {array.dtype}" if isinstance(array, np.ndarray) else f"{array!r:.200}"
        raise ValueError(f"{name} must be an array of {shape} {dtype}, got {got}")
    return array
