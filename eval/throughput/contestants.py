"""Who is measured at what: the measurements as data. Imports neither PyTorch nor Stable-Baselines3."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

OURS = "drqn_sb3"
NATIVE = "AtariVecEnv"
HIGHLIGHTED = (OURS, NATIVE)
"""What a user of this project gets by default; pictures show it in colour."""
WORKERS, PEERS = "eval.throughput.workers", "eval.throughput.peers"


@dataclass(frozen=True)
class Contestant:
    """
    Someone to be measured.

    :param name: in tables and pictures
    :param module: of the worker
    :param interpreter: which Python runs it: ``"own"``, ``"pfrl"`` or ``"torchrl"``
    :param options: what only this worker knows
    """

    name: str
    module: str
    interpreter: str = "own"
    options: dict[str, Any] = field(default_factory=dict)


class Measurement(NamedTuple):
    """
    What contestants are compared at.

    :param name: of the measurement, in the results
    :param title: of its table
    :param unit: per second
    :param reference: the contestant that the others are compared with
    :param contestants: in the order of the table
    :param seconds: about how long a contestant is measured in a round
    :param n_envs: environments at once
    :param task: what the worker is told to measure
    """

    name: str
    title: str
    unit: str
    reference: str
    contestants: tuple[Contestant, ...]
    seconds: float
    n_envs: int
    task: str


class Plan(NamedTuple):
    """
    What decides about the measurements.

    :param seconds: about how long a contestant is measured in a round
    :param learn_seconds: the same, end to end
    :param n_envs: environments acted in at once, and stepped by themselves
    :param learn_envs: environments learned in
    :param learn_env_ids: games learned
    :param learn_kind: vector environment of games that have no native one
    :param steps_per_update: agent steps per update of the DRQN
    :param peak_size: of the matrices that measure the peak; ``None`` leaves it to the worker
    """

    seconds: float
    learn_seconds: float
    n_envs: int
    learn_envs: int
    learn_env_ids: tuple[str, ...]
    learn_kind: str
    steps_per_update: int
    peak_size: int | None


OWN = (
    Contestant(OURS, f"{WORKERS}.drqn"),
    Contestant(f"{OURS}, float32", f"{WORKERS}.drqn", options={"precision": "float32"}),
    Contestant("plain DRQN, float32", f"{WORKERS}.drqn", options={"plain": True}),
)
STOCK = Contestant("SB3 DQN", f"{WORKERS}.stock_dqn")
RIVALS = (
    STOCK,
    Contestant("RecurrentPPO", f"{WORKERS}.recurrent_ppo"),
    Contestant("PFRL DRQN", f"{PEERS}.pfrl_drqn", "pfrl"),
    Contestant("TorchRL DRQN", f"{PEERS}.torchrl_drqn", "torchrl"),
)


def network_measurements(plan: Plan) -> list[Measurement]:
    """
    :param plan: what to measure
    :return: updates, and acting
    """
    titles = {"updates": "Learner updates", "acting": f"Acting in {plan.n_envs} environments at once"}
    units = {"updates": "updates", "acting": "actions"}
    return [
        Measurement(task, titles[task], units[task], OURS, (*OWN, *RIVALS), plan.seconds, plan.n_envs, task)
        for task in ("updates", "acting")
    ]


def peak_measurements(plan: Plan) -> list[Measurement]:
    """
    :param plan: what to measure
    :return: what the machine can do at most
    """
    contestants = tuple(
        Contestant(precision, f"{WORKERS}.peak", options={"precision": precision, "size": plan.peak_size})
        for precision in ("bfloat16", "float32")
    )
    title = "Peak: a large matrix product"
    return [Measurement("peak", title, "FLOP", "float32", contestants, plan.seconds, plan.n_envs, "peak")]


def env_measurements(plan: Plan) -> list[Measurement]:
    """
    :param plan: what to measure
    :return: steps of environments by themselves
    """
    games = {
        "SlimeVolleyNoFrameskip-v0": ("DummyVecEnv", {"DummyVecEnv": "dummy", "SubprocVecEnv": "subproc"}),
        "PongNoFrameskip-v4": (
            NATIVE,
            {NATIVE: "native", "DummyVecEnv": "dummy", "SubprocVecEnv": "subproc"},
        ),
    }
    measurements = []
    for env_id, (reference, kinds) in games.items():
        contestants = tuple(
            Contestant(name, f"{WORKERS}.envs", options={"env_id": env_id, "kind": kind}) for name, kind in kinds.items()
        )
        title = f"Stepping {plan.n_envs} environments of {env_id}"
        arguments = contestants, plan.seconds, plan.n_envs, "envs"
        measurements.append(Measurement(f"envs {env_id}", title, "steps", reference, *arguments))
    return measurements


def learn_measurements(plan: Plan) -> list[Measurement]:
    """
    :param plan: what to measure
    :return: steps of agents that learn
    """
    measurements = []
    for env_id in plan.learn_env_ids:
        kind = plan.learn_kind if env_id.startswith("SlimeVolley") else "native"
        shared = {"env_id": env_id, "kind": kind, "steps_per_update": plan.steps_per_update}
        contestants = tuple(
            Contestant(entry.name, f"{WORKERS}.learn", options={**shared, "agent": agent, **entry.options})
            for entry, agent in (*((own, "drqn") for own in OWN), (STOCK, "dqn"))
        )
        title = f"Learning {env_id} end to end, {plan.learn_envs} environments ({kind})"
        arguments = contestants, plan.learn_seconds, plan.learn_envs, "learn"
        measurements.append(Measurement(f"learn {env_id}", title, "agent steps", OURS, *arguments))
    return measurements


def memory_contestants() -> tuple[Contestant, ...]:
    """
    :return: the replay buffers whose memory is measured
    """
    names = ("SequenceReplayBuffer", "FrameStackReplayBuffer", "ReplayBuffer")
    return tuple(Contestant(name, f"{WORKERS}.memory", options={"buffer": name}) for name in names)


PARTS: dict[str, Callable[[Plan], list[Measurement]]] = {
    "updates": lambda plan: [*network_measurements(plan)[:1], *peak_measurements(plan)],
    "acting": lambda plan: network_measurements(plan)[1:],
    "envs": env_measurements,
    "learn": learn_measurements,
}
"""Part of the benchmark -> its measurements; the part ``memory`` has no rounds."""


def measurements(plan: Plan, parts: Sequence[str], only: Sequence[str] = ()) -> list[Measurement]:
    """
    All measurements of the benchmark.

    :param plan: what to measure
    :param parts: keys of :data:`PARTS`
    :param only: words of which a contestant's name must hold one, if any are given
    :return: the measurements that have contestants
    """
    chosen = []
    for measurement in (measurement for part in parts if part in PARTS for measurement in PARTS[part](plan)):
        is_always_in = measurement.task == "peak"
        contestants = tuple(
            contestant
            for contestant in measurement.contestants
            if is_always_in or not only or any(word.lower() in contestant.name.lower() for word in only)
        )
        if contestants:
            chosen.append(measurement._replace(contestants=contestants))
    return chosen
