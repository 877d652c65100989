"""Runs in processes of their own, forked from one that has imported all it takes: what kills them hits learning alone."""

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

from resumable_runs import run


def fork_run(
    name: str, folder: Path, total: int, *, save_freq: int, kill_at: int | None = None, lifetime: float | None = None
) -> tuple[int, list[int], dict[str, str] | None]:
    """
    Begin a run, or go on with it, and kill it or not.

    :param name: of the run
    :param folder: of its checkpoints
    :param total: its number of environment steps
    :param save_freq: between checkpoints
    :param kill_at: environment step amid which it is killed
    :param lifetime: seconds after which it is killed
    :return: the exit status; the steps at which rollouts began; the fingerprint of what it ended as
    """
    result = folder.parent / f"{folder.name}.json"
    result.unlink(missing_ok=True)
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.close(read_end)
            kwargs: dict[str, Any] = {"kill_at": kill_at, "kill": lambda: os.kill(os.getpid(), signal.SIGKILL)}
            kwargs["tell"] = lambda n_steps: os.write(write_end, f"{n_steps}\n".encode())
            result.write_text(json.dumps(run(name, folder, total, save_freq=save_freq, **kwargs)[1]))
            status = 0
        finally:
            os._exit(status)
    os.close(write_end)
    if lifetime is not None:
        time.sleep(lifetime)
        os.kill(pid, signal.SIGKILL)
    # Until all have closed it: worker processes end when they find their parent gone
    with os.fdopen(read_end) as pipe:
        told = [int(line) for line in pipe.read().splitlines()]
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status), told, json.loads(result.read_text()) if result.exists() else None
