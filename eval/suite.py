"""
A suite: an experiment as data. Which agents are trained on which environments, under which conditions, and how they are
compared.

::

    name: example
    description: What it is to show.
    gym_packages: [my_module]          # modules that register further environments; none by default
    environments:                      # ids, each with its budget in agent steps
      CartPoleNoVel-v1: {steps: 100_000}
      PongNoFrameskip-v4: {steps: 1_000_000, env_kwargs: {}, conditions: [flicker-0.5]}
    agents:
      drqn: {algo: drqn}               # any algorithm of the zoo, with its shipped hyperparameters
      dqn:
        algo: dqn
        hyperparams: {frame_stack: 4}  # changes to them, on every environment
        per_env: {CartPoleNoVel-v1: {learning_rate: 0.001}}
      paper:
        algo: drqn
        conf_file: presets/paper_drqn.yml      # of this project, or beside the suite's file
        grid:                                  # one agent per combination: paper-small, paper-large
          - {small: {buffer_size: 10_000}, large: {buffer_size: 100_000}}
      # Not trained: an object with `predict`, or what makes one of the observation space, the action space and a seed. It
      # plays in the environments of drqn.
      random: {plug_in: eval.evaluation.agents.RandomAgent, like: drqn}
    conditions: [normal, flicker-0.5]  # of training, where an environment has none of its own
    seeds: [0, 1, 2]
    curve: {points: 20, games: 5}      # evaluations during training
    evaluation:                        # of the final agent
      games: 100
      first_seed: 1_000_000
      sweep: {flicker: [1.0, 0.75, 0.5, 0.25, 0.0]}   # each level in place of the training condition's
      conditions: [hide_velocity]      # further ones
    definitions: {}                    # a place for YAML's anchors

Imports nothing that is heavy.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from eval.conditions import KINDS, NORMAL, Condition

SUITES = Path(__file__).parent / "suites"
UNTRAINED = "untrained"
"""Stands for the training condition in the folders of agents that are not trained."""
LOWEST_FIRST_SEED = 100_000
"""Seeds of evaluated games begin here at least, far above those that training uses."""


class SuiteError(ValueError):
    """A suite's file does not say what is to be done."""


@dataclass(frozen=True)
class Evaluation:
    """
    How the final agents are evaluated.

    :param games: whole games per condition
    :param first_seed: of the first game; each has the next
    :param n_envs: environments at once
    :param deterministic: whether an agent takes its best action, rather than to draw one
    :param epsilon: probability of a random action in its place
    :param conditions: texts of conditions
    :param sweep: kind of condition -> its levels, each of which is put in the training condition's place
    :param film_steps: decisions that are filmed, 0 for none
    """

    games: int = 100
    first_seed: int = 1_000_000
    n_envs: int = 8
    deterministic: bool = True
    epsilon: float = 0.0
    conditions: tuple[str, ...] = ()
    sweep: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    film_steps: int = 150

    def conditions_for(self, trained: Sequence[str]) -> list[str]:
        """
        :param trained: texts of training conditions: of one, or of all that an agent without training stands beside
        :return: texts of the conditions to evaluate in, the training condition first
        """
        found = [Condition.parse(text) for text in trained]
        for condition in list(found):
            found += [condition.replace(kind, level) for kind, levels in self.sweep.items() for level in levels]
        return list(dict.fromkeys(map(str, [*found, *map(Condition.parse, self.conditions)])))


@dataclass(frozen=True)
class Agent:
    """
    A contestant.

    :param name: its own, of which a folder is named
    :param algo: the zoo's name of its algorithm; None for a plug-in
    :param plug_in: dotted path of what makes it, for one that is not trained
    :param conf_file: the hyperparameters' file; None for the shipped ones
    :param hyperparams: changes to them
    :param per_env: further changes, by environment
    :param like: of a plug-in: the agent whose environments (frame skip, actions, pictures) it plays in
    """

    name: str
    algo: str | None
    plug_in: str | None
    like: str | None
    conf_file: Path | None
    hyperparams: Mapping[str, Any]
    per_env: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Job:
    """
    What one process does: train an agent (unless it is a plug-in), evaluate it, write a result.

    :param env: environment's id
    :param agent: who
    :param condition: text of the training condition; None for a plug-in
    :param seed: of training, or of the plug-in
    :param steps: budget in agent steps, 0 for a plug-in
    :param env_kwargs: of the environment
    :param evaluated: texts of the conditions of its evaluation
    """

    env: str
    agent: Agent
    condition: str | None
    seed: int
    steps: int
    env_kwargs: Mapping[str, Any]
    evaluated: tuple[str, ...]

    @property
    def folder(self) -> Path:
        """Where its result lies, within the suite's."""
        return Path(folder_of(self.env)) / self.agent.name / (self.condition or UNTRAINED) / f"seed-{self.seed}"


@dataclass(frozen=True)
class Suite:
    """
    See the module.

    :param name: of which its results' folder is named
    :param description: what it is to show
    :param environments: id -> ``steps``, ``env_kwargs`` and, if it has its own, ``conditions``
    :param agents: who is compared
    :param conditions: texts of training conditions
    :param seeds: of training
    :param points: evaluations during training, 0 for none
    :param curve_games: games in each of these
    :param evaluation: of the final agents
    :param gym_packages: modules that register further environments
    """

    name: str
    description: str
    environments: Mapping[str, Mapping[str, Any]]
    agents: tuple[Agent, ...]
    conditions: tuple[str, ...]
    seeds: tuple[int, ...]
    points: int
    curve_games: int
    evaluation: Evaluation
    gym_packages: tuple[str, ...] = ()

    def jobs(self) -> list[Job]:
        """
        :return: all that is to be done; seeds vary slowest, so that something can be compared early on
        """
        return [job for seed in self.seeds for job in self._jobs_of(seed)]

    def _jobs_of(self, seed: int) -> Iterator[Job]:
        for (env, settings), agent in itertools.product(self.environments.items(), self.agents):
            conditions = settings.get("conditions", self.conditions)
            trained = [*conditions] if agent.plug_in is None else [None]
            for condition in trained:
                evaluated = self.evaluation.conditions_for(conditions if condition is None else [condition])
                steps = settings["steps"] if condition is not None else 0
                yield Job(env, agent, condition, seed, steps, settings.get("env_kwargs", {}), tuple(evaluated))


def folder_of(env: str) -> str:
    """
    :param env: an environment's id
    :return: the name of its folder
    """
    return env.replace("/", "_")


def find_suite(name: str) -> Path:
    """
    :param name: path of a suite's file, or the name of one that is shipped
    :return: the file
    :raises SuiteError: if there is no such file
    """
    for path in (Path(name), SUITES / f"{name}.yml"):
        if path.is_file():
            return path
    shipped = sorted(path.stem for path in SUITES.glob("*.yml"))
    raise SuiteError(f"a suite must be a file, or one of {', '.join(shipped)}, got {name}")


def read_suite(path: Path) -> Suite:
    """
    :param path: of the file
    :return: the suite
    :raises SuiteError: naming the file, what is wrong in it, and what was expected
    """
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
        return _suite(document, path.parent)
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, TypeError) as error:
        raise SuiteError(f"{path}: {error}") from error


def _suite(document: Any, folder: Path) -> Suite:
    entries = _mapping("a suite", document, required=("name", "environments", "agents", "seeds"), optional=_OPTIONAL)
    curve = _mapping("curve", entries.get("curve", {}), optional=("points", "games"))
    environments = _mapping("environments", entries["environments"])
    agents = [
        agent
        for name, entry in _mapping("agents", entries["agents"]).items()
        for agent in _agents(name, entry, list(environments), folder)
    ]
    names = [agent.name for agent in agents]
    if not agents or not environments:
        raise ValueError(f"a suite must have an environment and an agent at least, got {len(environments)} and {len(agents)}")
    if len(set(names)) < len(names):
        raise ValueError(f"agents must have different names, got {', '.join(names)}")
    for what, folders in (("agents", names), ("environments", [folder_of(env) for env in environments])):
        if len({folder.casefold() for folder in folders}) < len(folders):
            raise ValueError(
                f"{what} must differ in more than upper and lower case, as folders are named of them, got {folders}"
            )
    trained = [agent.name for agent in agents if agent.algo is not None]
    unlike = [agent.like for agent in agents if agent.like is not None and agent.like not in trained]
    if unlike:
        raise ValueError(f"like must name an agent that is trained, {', '.join(trained)}, got {', '.join(map(str, unlike))}")
    return Suite(
        name=_name("name", entries["name"]),
        description=str(entries.get("description", "")).strip(),
        environments={env: _environment(env, entry) for env, entry in environments.items()},
        agents=tuple(agents),
        conditions=_training_conditions("conditions", entries.get("conditions", [NORMAL])),
        seeds=_seeds(entries["seeds"]),
        points=_integer("curve.points", curve.get("points", 20), 0),
        curve_games=_integer("curve.games", curve.get("games", 5), 1),
        evaluation=_evaluation(entries.get("evaluation", {})),
        gym_packages=tuple(map(str, _list("gym_packages", entries.get("gym_packages", [])))),
    )


_TRAINED_ONLY = ("conf_file", "hyperparams", "per_env", "grid")
_OPTIONAL = ("description", "conditions", "curve", "evaluation", "gym_packages", "definitions")


def _environment(env: str, entry: Any) -> dict[str, Any]:
    where = f"environments.{env}"
    settings = _mapping(where, entry, required=("steps",), optional=("env_kwargs", "conditions"))
    own = {}
    if "conditions" in settings:
        own["conditions"] = _training_conditions(f"{where}.conditions", settings["conditions"])
    steps = _integer(f"{where}.steps", settings["steps"], 1)
    return {"steps": steps, "env_kwargs": _mapping("env_kwargs", settings.get("env_kwargs", {})), **own}


def _agents(name: str, entry: Any, environments: list[str], folder: Path) -> Iterator[Agent]:
    """Make the agents of one entry: one, or those of its grid."""
    where = f"agents.{_name('an agent', name)}"
    settings = _mapping(where, entry, optional=("algo", "plug_in", "like", "conf_file", "hyperparams", "per_env", "grid"))
    algo, plug_in = settings.get("algo"), settings.get("plug_in")
    if (algo is None) == (plug_in is None):
        raise ValueError(f"{where} must have either algo or plug_in, got {'neither' if algo is None else 'both'}")
    others = sorted(set(settings) - ({"algo", *_TRAINED_ONLY} if plug_in is None else {"plug_in", "like"}))
    if others:
        raise ValueError(f"{where} may not have {', '.join(others)} beside {'algo' if plug_in is None else 'plug_in'}")
    per_env = _mapping(f"{where}.per_env", settings.get("per_env", {}), optional=environments)
    common = _mapping(f"{where}.hyperparams", settings.get("hyperparams", {}))
    axes = [_mapping(f"{where}.grid", axis) for axis in _list(f"{where}.grid", settings.get("grid", []))]
    for combination in itertools.product(*(axis.items() for axis in axes)):
        changes = dict(common)
        for label, values in combination:
            changes |= _mapping(f"{where}.grid.{label}", values)
        yield Agent(
            name=_name(f"a label of {where}", "-".join([name, *(str(label) for label, _ in combination)])),
            algo=None if algo is None else str(algo),
            plug_in=None if plug_in is None else str(plug_in),
            like=settings.get("like"),
            conf_file=_conf_file(settings.get("conf_file"), folder),
            hyperparams=changes,
            per_env={env: _mapping(f"{where}.per_env.{env}", values) for env, values in per_env.items()},
        )


def _conf_file(name: Any, folder: Path) -> Path | None:
    if name is None:
        return None
    shipped = Path(__file__).resolve().parents[1] / "hyperparams"
    for path in (folder / str(name), shipped / str(name)):
        if path.is_file():
            return path
    raise ValueError(f"conf_file must be a file beside the suite's or in hyperparams/, got {name}")


def _evaluation(entry: Any) -> Evaluation:
    names = tuple(Evaluation.__dataclass_fields__)
    settings = _mapping("evaluation", entry, optional=names)
    sweep = _mapping("evaluation.sweep", settings.get("sweep", {}), optional=[kind for kind in KINDS if KINDS[kind].argument])
    for kind, levels in sweep.items():
        for level in _list(f"evaluation.sweep.{kind}", levels):
            KINDS[kind].check(f"evaluation.sweep.{kind}", _number(f"evaluation.sweep.{kind}", level))
    deterministic, epsilon = settings.get("deterministic", True), settings.get("epsilon", 0.0)
    if not isinstance(deterministic, bool):
        raise ValueError(f"evaluation.deterministic must be true or false, got {deterministic!r}")
    if not 0 <= _number("evaluation.epsilon", epsilon) <= 1:
        raise ValueError(f"evaluation.epsilon must be from 0 to 1, got {epsilon!r}")
    return Evaluation(
        games=_integer("evaluation.games", settings.get("games", 100), 1),
        first_seed=_integer("evaluation.first_seed", settings.get("first_seed", 1_000_000), LOWEST_FIRST_SEED),
        n_envs=_integer("evaluation.n_envs", settings.get("n_envs", 8), 1),
        deterministic=deterministic,
        epsilon=float(epsilon),
        conditions=_conditions("evaluation.conditions", settings.get("conditions", [])),
        sweep={kind: tuple(map(float, levels)) for kind, levels in sweep.items()},
        film_steps=_integer("evaluation.film_steps", settings.get("film_steps", 150), 0),
    )


def _seeds(entry: Any) -> tuple[int, ...]:
    seeds = tuple(_integer("seeds", seed, 0) for seed in _list("seeds", entry))
    if not seeds or len(set(seeds)) < len(seeds) or max(seeds) >= LOWEST_FIRST_SEED:
        raise ValueError(f"seeds must be different numbers below {LOWEST_FIRST_SEED:,}, one at least, got {entry!r}")
    return seeds


def _training_conditions(name: str, entry: Any) -> tuple[str, ...]:
    conditions = _conditions(name, entry)
    if not conditions:
        raise ValueError(f"{name} must have a condition to train in at least, got {entry!r}")
    return conditions


def _conditions(name: str, entry: Any) -> tuple[str, ...]:
    return tuple(dict.fromkeys(str(Condition.parse(text)) for text in _list(name, entry)))


def _mapping(name: str, entry: Any, required: Sequence[str] = (), optional: Sequence[str] | None = None) -> dict[str, Any]:
    if entry is None:
        entry = {}
    if not isinstance(entry, dict) or not all(isinstance(key, str) for key in entry):
        raise ValueError(f"{name} must be a mapping of names, got {entry!r}")
    missing = [key for key in required if key not in entry]
    if missing:
        raise ValueError(f"{name} must have {', '.join(missing)}, got {', '.join(entry) or 'nothing'}")
    if optional is not None or required:
        known = [*required, *(optional or ())]
        unknown = [key for key in entry if key not in known]
        if unknown:
            raise ValueError(f"{name} may have {', '.join(known)}, got {', '.join(unknown)}")
    return dict(entry)


def _list(name: str, entry: Any) -> list[Any]:
    if not isinstance(entry, list):
        raise ValueError(f"{name} must be a list, got {entry!r}")
    return entry


def _integer(name: str, value: Any, lowest: int) -> int:
    number = _number(name, value)
    if number != int(number) or number < lowest:
        raise ValueError(f"{name} must be a whole number of at least {lowest:,}, got {value!r}")
    return int(number)


def _number(name: str, value: Any) -> float:
    # YAML takes 1e6 for a text
    try:
        number = float("nan" if isinstance(value, bool) else value)
    except (TypeError, ValueError):
        number = float("nan")
    if not abs(number) < float("inf"):
        raise ValueError(f"{name} must be a number, got {value!r}")
    return number


def _name(what: str, value: Any) -> str:
    text = str(value)
    if not text or not all(letter.isalnum() or letter in "-_.=," for letter in text) or text.startswith("."):
        raise ValueError(f"{what} must be of letters, digits and -_.=, as a folder is named of it, got {value!r}")
    return text
