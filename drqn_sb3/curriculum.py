"""Training that begins with what is easy: flickering observations of which, at first, all are shown."""

import warnings

from stable_baselines3.common.callbacks import BaseCallback

from drqn_sb3.wrappers import check_prob

_METHOD = "ease_flicker"
_N_STAGES = 200  # finer changes of a probability are not worth a message to every environment


class FlickerCurriculum(BaseCallback):
    """
    Have the observations of flickering environments shown more often at first, and then less and less often.

    The probability that an observation is shown begins at ``initial_prob``, comes linearly to that of each environment's
    :class:`~drqn_sb3.wrappers.FlickerObservation` (its ``observe_prob``) over a share of the budget, and stays there. Where
    not every environment flickers, nothing is done but to warn of it. It is for any algorithm; environments that a callback
    evaluates on are left alone. When training ends, however early, ``observe_prob`` holds again. The very first observation,
    which is drawn before, is shown as often as ``observe_prob`` has it. Of what is logged, ``rollout/observe_prob`` is the
    present probability, a mean over environments.

    In a zoo config::

        callback:
          - drqn_sb3.FlickerCurriculum:
              fraction: 0.5

    :param fraction: share of the budget after which observations are shown as seldom as they are to be, above 0, at most 1
    :param initial_prob: probability that an observation is shown at the start, from 0 to 1
    :param verbose: as SB3's callbacks have it
    :raises TypeError: if an argument is not a number
    :raises ValueError: if an argument is out of its bounds
    """

    def __init__(self, fraction: float = 0.5, initial_prob: float = 1.0, verbose: int = 0) -> None:
        check_prob("fraction", fraction)
        check_prob("initial_prob", initial_prob)
        if fraction == 0:
            raise ValueError(f"fraction must be above 0, got {fraction}")
        super().__init__(verbose)
        self.fraction = float(fraction)
        self.initial_prob = float(initial_prob)
        self._stage = -1
        self._shown: list[float] | None = None  # probabilities, by environment; None where not all flicker

    def _on_training_start(self) -> None:
        self._stage, self._shown = -1, [] if self.training_env.has_attr(_METHOD) else None
        if self._shown is None:
            warnings.warn("FlickerCurriculum does nothing here: not every environment has a FlickerObservation", stacklevel=2)
        self._ease()

    def _on_step(self) -> bool:
        self._ease()
        return True

    def _on_training_end(self) -> None:
        if self._shown is not None:
            self.training_env.env_method(_METHOD, self.initial_prob, 1.0)

    def _ease(self) -> None:
        """Tell the environments how far the curriculum is, when it has come to another stage."""
        if self._shown is None:
            return
        # A function of the steps alone, so that a run that is resumed goes on as it would have
        done = self.num_timesteps / max(self.fraction * self.model._total_timesteps, 1)
        stage = min(int(done * _N_STAGES), _N_STAGES)
        if stage != self._stage:
            self._stage = stage
            self._shown = self.training_env.env_method(_METHOD, self.initial_prob, stage / _N_STAGES)
        self.logger.record("rollout/observe_prob", sum(self._shown) / len(self._shown))
