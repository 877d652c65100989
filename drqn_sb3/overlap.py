"""Stepping environments and learning at the same time."""

from collections.abc import Callable

from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn


class WorkWhileStepping(VecEnvWrapper):
    """
    Does some work of one's own while the environments step.

    Environments in processes or threads of their own step meanwhile; those that do not step afterwards. What is done comes
    in the same order with either.

    :param venv: the environments
    :param work: called once a step, after the actions are sent and before what came of them is fetched
    """

    def __init__(self, venv: VecEnv, work: Callable[[], None]) -> None:
        super().__init__(venv)
        self.work = work

    def reset(self) -> VecEnvObs:
        """Reset the environments."""
        return self.venv.reset()

    def step_wait(self) -> VecEnvStepReturn:
        """Work, then wait for the environments."""
        try:
            self.work()
        finally:
            # Even if the work was interrupted: else these results would be taken for those of the next call
            results = self.venv.step_wait()
        return results
