"""The model card of an agent, and the table of all that are shipped, as Markdown. Both are made from the cards' data alone."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from eval.conditions import Condition, class_name
from eval.report.words import describe, listed, number, percent
from eval.shipping.card import fresh_seed, split_name
from eval.suite import SUITES, folder_of

TITLE = "# Trained agents"
"""First line of the table of all agents."""
_TRUST = (
    "Models hold pickles, as all of Stable-Baselines3's do: load only what you trust, for loading one runs what is in it. The"
    " checksums tell of damage, not of origin."
)
_WATCHED_STEPS = 5_000
"""Of `enjoy`, whose own 1,000 may be over before a game is, with not a word printed."""
_ENDING_EARLY = ("AtariWrapper", "EpisodicLifeEnv", "native_atari")
"""In the names of wrappers that end an episode with a life, unless they are told otherwise."""


def card_page(card: dict[str, Any], place: Path) -> str:
    """
    :param card: the agent's card
    :param place: its folder, beginning with that of all agents
    :return: its ``README.md``
    """
    parts = [
        _front_matter(card),
        f"# {card['agent']} playing {card['env']}",
        _introduction(card),
        _scores(card),
        _use(card, place),
        _training(card),
        _files(card),
        _limits(card),
    ]
    return "\n\n".join(parts) + "\n"


def _front_matter(card: dict[str, Any]) -> str:
    """As Hugging Face's hub has it, and as the zoo writes it for it."""
    score = card["scores"][card["condition"]]
    metric = {"type": "mean_reward", "value": f"{score['mean']:.2f} +/- {score['std']:.2f}", "name": "mean_reward"}
    task = dict.fromkeys(("type", "name"), "reinforcement-learning")
    outcome = {"task": task, "dataset": {"name": card["env"], "type": card["env"]}, "metrics": [{**metric, "verified": False}]}
    content = {
        "library_name": "stable-baselines3",
        "tags": [card["env"], "deep-reinforcement-learning", "reinforcement-learning", "stable-baselines3"],
        "model-index": [{"name": card["algorithm"], "results": [outcome]}],
    }
    return f"---\n{yaml.safe_dump(content, sort_keys=False)}---"


def _introduction(card: dict[str, Any]) -> str:
    score = card["scores"][card["condition"]]
    n_stack = card["training"]["config"].get("frame_stack") or 1
    stack = f" It is given the last {n_stack} observations at a time." if n_stack > 1 else ""
    shares = ""
    if score["won"] is not None:
        shares = f" It won {percent(score['won'])} of them, drew {percent(score['drawn'])} and lost {percent(score['lost'])}."
    return (
        f"An agent of {card['algorithm']}, trained for {card['steps']:,} agent steps on `{card['env']}` under"
        f" `{card['condition']}`: {describe(card['condition'])}.{stack}{_beginning(card)} Its mean score over"
        f" {score['games']:,} games there is **{number(score['mean'])}**, with a standard deviation of"
        f" {number(score['std'])}.{shares}"
    )


def _beginning(card: dict[str, Any]) -> str:
    """Whose weights it began with, if that was not chance."""
    callbacks = card["training"]["config"].get("callback", [])
    begun = [callback for callback in callbacks if class_name(callback) == "WarmStart"]
    paths = [arguments["path"] for callback in begun for arguments in callback.values()]
    return "".join(f" It began with the weights of `{path}`, whose own steps are not counted." for path in paths)


def _scores(card: dict[str, Any]) -> str:
    has_shares = any(score["won"] is not None for score in card["scores"].values())
    head = ["Condition", "What it sees", "Games", "Mean score", "Standard deviation", "Mean of as many fresh games (95%)"]
    head += ["Won", "Drawn", "Lost"] if has_shares else []
    rows = []
    for condition, score in card["scores"].items():
        row = [f"`{condition}`", describe(condition), f"{score['games']:,}", number(score["mean"]), number(score["std"])]
        row.append(f"{number(score['low'])} to {number(score['high'])}")
        rows.append(row + [percent(score[name]) for name in ("won", "drawn", "lost") if has_shares])
    ways = card["evaluation"]
    how = "taking its best action" if ways["deterministic"] else "drawing its actions"
    how += f", with a random one in its place with probability {ways['epsilon']:g}" if ways["epsilon"] else ""
    words = (
        f"Scores are sums of true rewards over whole games, {how}; game seeds from {ways['first_seed']:,} on. The interval for"
        " fresh games is Student's: it is approximate, and too narrow where few games differ from the others."
    )
    alike = [f"`{condition}`" for condition, score in card["scores"].items() if score["std"] == 0]
    if alike:
        words += f" All games under {listed(alike)} ended with the same score: they can't tell how often others end otherwise."
    return f"## How well it plays\n\n{table(head, rows)}\n\n{words}"


def table(head: list[str], rows: list[list[str]]) -> str:
    """
    :param head: names of the columns
    :param rows: their cells
    :return: a table in GitHub's Markdown
    """
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def _use(card: dict[str, Any], place: Path) -> str:
    parts = ["## Use", _fence("bash", _commands(card, place))]
    if card["algo"] == "drqn":
        model = (place / f"{folder_of(card['env'])}.zip").as_posix()
        parts.append(
            f"It needs the package drqn_sb3. In Python: `drqn_sb3.DRQN.load({model!r})`, for environments that are wrapped and"
            " normalised as it was trained, see below."
        )
    if _ends_early(card["training"]["config"]):
        parts.append(
            "`enjoy` shows episodes as the agent was trained on them: a point or life that is lost may end one, and what it"
            " prints is not the score of a whole game."
        )
    return "\n\n".join(parts)


def _ends_early(config: Mapping[str, Any]) -> bool:
    wrappers = f"{config.get('env_wrapper')} {config.get('vec_env_wrapper')}"
    return any(name in wrappers for name in _ENDING_EARLY) and "'terminal_on_life_loss': False" not in wrappers


def _commands(card: dict[str, Any], place: Path) -> str:
    exp_id = split_name(place.name)[1]
    packages = ["--gym-packages", *card["gym_packages"]] if card["gym_packages"] else []
    ways = card["evaluation"]
    play = ["python", "-m", "rl_zoo3.enjoy", "--algo", card["algo"], "--env", card["env"], "-f", place.parts[0]]
    play += ["--exp-id", str(exp_id), "--deterministic" if ways["deterministic"] else "--stochastic", *packages]
    play += ["-n", str(_WATCHED_STEPS)]
    anew = ["python", "-m", "eval", "evaluate", place.as_posix(), "--games", str(ways["games"])]
    anew += ["--seed", str(fresh_seed(card)), "--conditions", *card["scores"], *_own_way(card), *packages]
    return "\n".join(
        [
            "# watch it for some thousand steps; add --no-render where there is no screen",
            f"{shlex.join(play)}",
            "# have it play fresh games",
            shlex.join(anew),
            *_training_commands(card),
        ]
    )


def _training_commands(card: dict[str, Any]) -> list[str]:
    suite, env = str(card["suite"]), folder_of(card["env"])
    job = "/".join((env, card["agent"], card["condition"], f"seed-{card['seed']}"))
    words = ["python", "-m", "eval", "run", suite, "--only", job]
    if (SUITES / f"{suite}.yml").is_file():
        commit = f", with the suite as it was at commit {card['git']['commit'][:12]}" if card["git"] else ""
        return [f"# train it anew{commit}", shlex.join(words)]
    needs = f"# train it anew: needs the file of the suite {suite}, which is not part of eval/suites;"
    words[words.index(suite)] = f"{suite}.yml"
    return [needs, "# hyperparameters are below, and as the zoo has them in config.yml", shlex.join(words)]


def _own_way(card: dict[str, Any]) -> list[str]:
    """What the command of an evaluation can't read from the agent's folder."""
    ways = card["evaluation"]
    words = [] if ways["deterministic"] else ["--stochastic"]
    words += ["--epsilon", f"{ways['epsilon']:g}"] if ways["epsilon"] else []
    is_held = Condition.parse(card["condition"]).level("repeat") != 1
    return [*words, "--trained-on", card["condition"]] if is_held else words


def _training(card: dict[str, Any]) -> str:
    training = card["training"]
    machine = training["machine"]
    device = machine["device"]
    gpu = f", on {device}" if device not in (None, "cpu") else ""
    used = ", ".join(f"{name} {version}" for name, version in training["versions"].items())
    words = (
        f"{card['steps']:,} agent steps in {_duration(training['seconds'])} on a machine with {machine['cores']} cores"
        f" ({machine['cpu']}){gpu}, seed {card['seed']}, in the suite `{card['suite']}`{_commit(card['git'])}."
        f" Python {machine['python']}, {used}."
    )
    config = yaml.safe_dump(training["config"], sort_keys=False, allow_unicode=True).rstrip("\n")
    return f"## How it was trained\n\n{words}\n\n{_fence('yaml', config)}"


def _commit(git: dict[str, Any] | None) -> str:
    if git is None:
        return ""
    return f" at commit `{git['commit'][:12]}`" + (" with changes that were not committed" if git["dirty"] else "")


def _duration(seconds: float) -> str:
    return f"{seconds / 3600:.1f} hours" if seconds >= 3600 else f"{seconds / 60:.1f} minutes"


def _files(card: dict[str, Any]) -> str:
    rows = [[f"`{name}`", f"`{digest}`"] for name, digest in card["files"].items()]
    words = (
        f"The model has {card['bytes']:,} bytes. It acts as it did at the end of training; its optimiser is fresh, and a"
        " target network is set to the online one, so that training that goes on from here is another. `games.csv` has each"
        f" game's score.\n\n{_TRUST}"
    )
    return f"## Files\n\n{table(['File', 'SHA-256'], rows)}\n\n{words}"


def _limits(card: dict[str, Any]) -> str:
    tried = listed([f"`{condition}`" for condition in card["scores"]])
    return (
        f"## Limits\n\nIt has played in `{card['env']}` under {tried}, and was tried on nothing else: no other observations,"
        " no other rules or opponents, no other versions of the environment. It is one agent of one seed; others that are"
        " trained in the same way may play better or worse."
    )


def _fence(language: str, text: str) -> str:
    return f"```{language}\n{text}\n```"


def overview_page(agents: Mapping[Path, dict[str, Any]]) -> str:
    """
    :param agents: the cards, by their folders
    :return: ``README.md`` of the folder of all agents
    """
    head = [
        "Agent",
        "Suite",
        "Environment",
        "Trained under",
        "Seed",
        "Steps",
        "Games",
        "Mean score",
        "Fresh games (95%)",
        "Won",
        "Size",
    ]
    rows = []
    for folder, card in agents.items():
        score = card["scores"][card["condition"]]
        row = [f"[{card['agent']} {split_name(folder.name)[1]}]({folder.parent.name}/{folder.name}/README.md)"]
        row += [
            str(card["suite"]),
            card["env"],
            f"`{card['condition']}`",
            str(card["seed"]),
            f"{card['steps']:,}",
            f"{score['games']:,}",
            number(score["mean"]),
        ]
        row.append(f"{number(score['low'])} to {number(score['high'])}")
        row += ["-" if score["won"] is None else percent(score["won"]), f"{card['bytes'] / 1e6:.2f} MB"]
        rows.append(row)
    words = (
        "Each folder has a model card with what is known of the agent. Fresh games: the interval in which the mean of as many"
        " games with other seeds should lie, approximate where few games differ from the others. The number behind an agent is"
        f" that of the zoo's `--exp-id`.\n\n{_TRUST}"
    )
    name = next(iter(agents)).parts[-3] if agents else "agents"
    commands = "\n".join(
        [
            "# watch one; its card has the whole command",
            f"python -m rl_zoo3.enjoy --algo ALGO --env ENVIRONMENT -f {name} --exp-id NUMBER -n {_WATCHED_STEPS}",
            "# have all of them play fresh games in the condition that they were trained in: do they play as their cards say?",
            f"python -m eval ship --check --to {name}",
            "# ship another one, and write this page anew",
            f"python -m eval ship RESULT_FOLDER --to {name}",
        ]
    )
    return f"{TITLE}\n\n{words}\n\n{table(head, rows)}\n\n{_fence('bash', commands)}\n"
