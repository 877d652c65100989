"""
Conditions of observation: ways of seeing less, as texts that a suite, a command line and a table can hold.

A condition is ``"normal"``, or parts joined with ``+``, each a kind and, behind a hyphen, its level:
``"flicker-0.5"``, ``"hide_velocity+flicker-0.5"``. Parts that change nothing (``flicker-1``) are left out, and their order is
always that of :data:`KINDS`, so that two texts that mean the same are the same. Imports nothing that is heavy.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

NORMAL = "normal"


class Kind(NamedTuple):
    """
    One way of seeing less.

    :param wrapper: its wrapper's class, as a zoo config names it
    :param argument: the wrapper's argument that takes the level; None for a kind that has no level
    :param neutral: the level that changes nothing
    :param highest: bound of the level; the lowest is 0, or 1 for whole numbers
    :param is_whole: whether the level is a whole number
    :param means: what the level says, for help and errors
    """

    wrapper: str
    argument: str | None
    neutral: float
    highest: float
    is_whole: bool
    means: str

    def check(self, name: str, level: float) -> float:
        """
        :param name: the kind's
        :param level: of a condition
        :return: the level
        :raises ValueError: if it is out of bounds
        """
        lowest = 1 if self.is_whole else 0
        if not lowest <= level <= self.highest or not math.isfinite(level) or (self.is_whole and level != int(level)):
            bounds = f"from {lowest} to {self.highest:g}" if math.isfinite(self.highest) else f"of at least {lowest}"
            raise ValueError(
                f"{name} must have {'a whole number' if self.is_whole else 'a number'} {bounds} ({self.means}), got {level:g}"
            )
        return level


# Innermost wrapper first: what is held or hidden is then what noise, freezing and flicker act on
KINDS = {
    "repeat": Kind(
        "rl_zoo3.wrappers.FrameSkip", "skip", 1, math.inf, True, "each action is held for as many steps of the environment"
    ),
    "hide_velocity": Kind("drqn_sb3.wrappers.HideVelocity", None, 0, 1, False, "velocities are zeros"),
    "noise": Kind("drqn_sb3.wrappers.NoisyObservation", "noise_std", 0, math.inf, False, "the noise's standard deviation"),
    "freeze": Kind(
        "drqn_sb3.wrappers.FrozenObservation", "freeze_prob", 0, 1, False, "the probability that the last observation stays"
    ),
    "flicker": Kind(
        "drqn_sb3.wrappers.FlickerObservation", "observe_prob", 1, 1, False, "the probability that an observation is shown"
    ),
}

WRAPPERS = frozenset(kind.wrapper.rsplit(".", 1)[1] for kind in KINDS.values()) - {"FrameSkip"}
"""
Names of the classes that make a condition and nothing else. The zoo's FrameSkip is not one of them: most often it belongs to
the task.
"""

OUTERMOST = frozenset({"LastAction"})
"""Names of the classes that no condition goes around: their part of an observation is never hidden."""

_RESHAPING = frozenset({"FlattenObservation"})  # which goes behind those, so that networks of vectors can have them


def class_name(entry: Any) -> str:
    """
    :param entry: of a zoo config's ``env_wrapper`` or ``callback``, such as ``a.B`` or ``{a.B: {c: 1}}``
    :return: name of its class, ``B``
    """
    return str(next(iter(entry)) if isinstance(entry, dict) else entry).rsplit(".", 1)[-1]


def as_list(setting: Any) -> list[Any]:
    """
    :param setting: a zoo config's ``env_wrapper`` or ``callback``: nothing, one, or a list
    :return: a list of them
    """
    return list(setting) if isinstance(setting, list) else [] if setting is None else [setting]


def split_wrappers(env_wrapper: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    """
    :param env_wrapper: of a zoo config, a list
    :return: those of the task (and of a condition), and the :data:`OUTERMOST` ones behind them, flattened or not
    """
    names = [class_name(entry) for entry in env_wrapper]
    n_task = len(names)
    while n_task and names[n_task - 1] in OUTERMOST | _RESHAPING:
        n_task -= 1
    while n_task < len(names) and names[n_task] in _RESHAPING:
        n_task += 1
    return list(env_wrapper[:n_task]), list(env_wrapper[n_task:])


class Part(NamedTuple):
    """One part of a condition: its kind, and its level, None for a kind that has none."""

    kind: str
    level: float | None

    def __str__(self) -> str:
        return self.kind if self.level is None else f"{self.kind}-{self.level:.12g}"


@dataclass(frozen=True)
class Condition:
    """
    What an agent gets to see, see the module.

    :param parts: those that change something, in the order of :data:`KINDS`; :meth:`parse` makes them
    """

    parts: tuple[Part, ...] = ()

    @classmethod
    def parse(cls, text: str) -> "Condition":
        """
        :param text: of a condition
        :return: the condition
        :raises TypeError: if it is no text
        :raises ValueError: if it names something unknown or twice, or a level out of bounds
        """
        if not isinstance(text, str):
            raise TypeError(f"a condition must be a text such as 'normal' or 'flicker-0.5', got {text!r}")
        if text.strip() == NORMAL:
            return cls()
        found: dict[str, Part] = {}
        for part in map(_parse_part, text.split("+")):
            if part.kind in found:
                raise ValueError(f"a condition must name each kind once, got {part.kind} twice in {text!r}")
            found[part.kind] = part
        return cls(tuple(found[kind] for kind in KINDS if kind in found and _changes(found[kind])))

    def __str__(self) -> str:
        return "+".join(map(str, self.parts)) or NORMAL

    def level(self, kind: str) -> float | None:
        """
        :param kind: one of :data:`KINDS`
        :return: its level here, the neutral one where it is no part; None for a kind without level that is one
        """
        return next((part.level for part in self.parts if part.kind == kind), KINDS[kind].neutral)

    def replace(self, kind: str, level: float) -> "Condition":
        """
        :param kind: one of :data:`KINDS` that has a level
        :param level: its new level
        :return: the condition with that level in place of the present one
        :raises ValueError: if the level is out of bounds, or the kind has none
        """
        if KINDS[kind].argument is None:
            raise ValueError(f"kind must be one that has a level, got {kind!r}")
        level = KINDS[kind].check(kind, level)
        others = [str(part) for part in self.parts if part.kind != kind]
        return Condition.parse("+".join([*others, str(Part(kind, level))]))

    def env_wrappers(self) -> list[dict[str, dict[str, Any]]]:
        """
        :return: the wrappers, innermost first, as a zoo config's ``env_wrapper`` lists them; :meth:`around` knows their place
        """
        return [{KINDS[part.kind].wrapper: _arguments(part)} for part in self.parts]

    def around(self, env_wrapper: Sequence[Any]) -> list[Any]:
        """
        Put the condition's wrappers in their place: around the task's, beneath those at the end that tell an agent what it
        knows by itself.

        :param env_wrapper: of a zoo config, a list, without a condition's
        :return: the same with the condition's
        :raises ValueError: if one of the :data:`OUTERMOST` ones stands further in, where the condition would hide its part
        """
        of_task, of_agent = split_wrappers(env_wrapper)
        inner = OUTERMOST.intersection(map(class_name, of_task))
        if self.parts and inner:
            behind = [class_name(entry) for entry in of_task]
            raise ValueError(
                f"env_wrapper must end in {', '.join(inner)} where something is hidden ({self}), flattened or not: "
                f"got {', '.join(behind)}"
            )
        return [*of_task, *self.env_wrappers(), *of_agent]


def describe_kinds() -> str:
    """
    :return: every kind with what its level means, a line each
    """
    lines = [
        f"{name}{'' if kind.argument is None else '-N' if kind.is_whole else '-X'}: {kind.means}"
        for name, kind in KINDS.items()
    ]
    return "\n".join([f"{NORMAL}: everything is seen", *lines])


def _parse_part(text: str) -> Part:
    name, hyphen, level = text.strip().partition("-")
    kind = KINDS.get(name)
    if kind is None:
        raise ValueError(f"a condition must be {NORMAL!r}, or of {', '.join(KINDS)}, joined with '+', got {text!r}")
    if kind.argument is None:
        if hyphen:
            raise ValueError(f"{name} must stand without a level, got {text!r}")
        return Part(name, None)
    try:
        number = float(level)
    except ValueError:
        raise ValueError(f"{name} must have a level behind a hyphen ({kind.means}), got {text!r}") from None
    return Part(name, kind.check(name, number))


def _changes(part: Part) -> bool:
    return part.level is None or part.level != KINDS[part.kind].neutral


def _arguments(part: Part) -> dict[str, Any]:
    kind = KINDS[part.kind]
    if kind.argument is None or part.level is None:
        return {}
    return {kind.argument: int(part.level) if kind.is_whole else part.level}
