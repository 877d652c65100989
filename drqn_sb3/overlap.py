"""Stepping environments and learning at the same time."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn


class WorkWhileStepping(VecEnvWrapper):
    """
    Does some work of one's own while the environments step.

    Environments in processes or threads of their own step meanwhile; those that do not step afterwards. What is done comes
    in the same order with either.

    :param venv: the environments
    :param work: called once a step, after the actions are sent and before what came of them is fetched
    :param check: called with what came of them, before anybody else sees it: observations, rewards, dones, infos
    """

    def __init__(
        self, venv: VecEnv, work: Callable[[], None], check: Callable[[Any, Any, Any, Any], None] | None = None
    ) -> None:
        super().__init__(venv)
        self.work = work
        self.check = check

    def reset(self) -> VecEnvObs:
        """Reset the environments."""
        return self.venv.reset()

    def step_wait(self) -> VecEnvStepReturn:
        """Work, wait for the environments, and check what comes."""
        try:
            self.work()
        except BaseException:
            # Else these results would be taken for those of the next call. What interrupted the work matters more than
            # whatever befalls the environments
            with suppress(Exception):
                self.venv.step_wait()
            raise
        results = self.venv.step_wait()
        if self.check is not None:
            self.check(*results)
        return results
