"""Which folder an agent goes to: the zoo's ``<algo>/<environment>_<number>``."""

import os
import shutil
from collections.abc import Collection, Sequence
from pathlib import Path

from eval.shipping.card import CARD, identity, numbers_in, shipped_agents
from eval.shipping.trained import Trained


def choose_folders(to: Path, everything: Sequence[Trained], exp_id: int | None = None) -> list[Path]:
    """
    Find a folder for each agent: that which it has already, else that of the next free number.

    :param to: folder of all shipped agents
    :param everything: the agents
    :param exp_id: the number to take, where there is one agent
    :return: their folders
    :raises ValueError: if an agent is there twice, or something is in the way
    """
    if to.exists() and not to.is_dir():
        raise ValueError(f"--to must be a folder, got {to}, which is a file")
    if exp_id is not None and (exp_id < 1 or len(everything) != 1):
        raise ValueError(
            f"--exp-id must be a number from 1 on and go with one RESULT_FOLDER, got {exp_id} and {len(everything)}"
        )
    present = {identity(card): folder for folder, card in shipped_agents(to).items()}
    chosen: dict[tuple[object, ...], Path] = {}
    sources: dict[tuple[object, ...], Path] = {}
    for one in everything:
        own = identity(one.result.facts)
        source = sources.setdefault(own, one.result.folder)
        if own in chosen:
            raise ValueError(f"each agent must be given once, got {one.result} in {source} and in {one.result.folder}")
        folder = present.get(own) or to / one.contestant.algo / _next_name(to, one, chosen.values())
        if exp_id is not None:
            folder = _numbered(to, one, exp_id, present.get(own))
        chosen[own] = folder
    return list(chosen.values())


def _next_name(to: Path, one: Trained, chosen: Collection[Path]) -> str:
    env, parent = one.model.stem, to / one.contestant.algo
    taken = {path.name for path in parent.iterdir()} if parent.is_dir() else set()
    taken |= {path.name for path in chosen if path.parent == parent}
    return f"{env}_{max(numbers_in(taken, env), default=0) + 1}"


def _numbered(to: Path, one: Trained, exp_id: int, present: Path | None) -> Path:
    folder = to / one.contestant.algo / f"{one.model.stem}_{exp_id}"
    if present is not None and present != folder:
        raise ValueError(f"{one.result} has been shipped to {present} before: leave out --exp-id, or remove that folder")
    if present is None and folder.exists():
        whose = "another agent's" if (folder / CARD).exists() else "in the way, and no shipped agent's"
        raise ValueError(f"{folder} is {whose}: choose another --exp-id, or leave it out")
    return folder


def place(staged: Path, folder: Path) -> None:
    """
    Put a folder in its place, in that of its former self if need be.

    :param staged: the folder, on the same disk
    :param folder: where it belongs
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    former = staged.with_name(f"{staged.name}.former")
    try:
        if folder.exists():
            os.rename(folder, former)
        os.rename(staged, folder)
    except BaseException:  # Ctrl-C too
        if former.exists() and not folder.exists():
            os.rename(former, folder)
        raise
    shutil.rmtree(former, ignore_errors=True)
