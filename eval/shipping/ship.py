"""From results to shipped agents: everything is read, made and proven before anything is put in its place."""

import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from eval.evaluation.models import sha256_of
from eval.shipping.card import make_card, shipped_agents, write_card
from eval.shipping.folders import choose_folders, place
from eval.shipping.games import write_games
from eval.shipping.model_zip import strip_model
from eval.shipping.page import TITLE, card_page, overview_page
from eval.shipping.proof import check_same_play
from eval.shipping.run_files import check_no_places, copy_run_files
from eval.shipping.trained import Trained, contestant_of, read_trained

PAGE = "README.md"


def ship(
    results: Sequence[Path], to: Path, exp_id: int | None = None, on_proven: Callable[[], object] | None = None
) -> list[Path]:
    """
    Ship the agents of results. One that was shipped before takes the place of its former self.

    :param results: folders of finished results
    :param to: folder of all shipped agents
    :param exp_id: the zoo's number of the agent's folder; ``None`` for the next free one
    :param on_proven: is called when an agent has been proven to play as before
    :return: the agents' folders
    :raises ValueError: if a result or a folder is not as it must be, or a small agent does not act as the trained one:
        nothing has been written then
    """
    everything = [read_trained(folder) for folder in results]
    folders = choose_folders(to, everything, exp_id)
    _check_overview(to)
    to.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=".shipping-", dir=to))  # renaming needs the same disk
    try:
        staged = [staging / str(index) for index in range(len(everything))]
        for one, path, folder in zip(everything, staged, folders, strict=True):
            _make(one, path, to, folder)
            if on_proven is not None:
                on_proven()
        for path, folder in zip(staged, folders, strict=True):
            place(path, folder)
        write_overview(to)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        if not any(to.iterdir()):
            to.rmdir()
    return folders


def _check_overview(to: Path) -> None:
    page = to / PAGE
    if page.exists() and (not page.is_file() or page.read_bytes().split(b"\n")[0].rstrip() != TITLE.encode()):
        raise ValueError(
            f"--to must be a folder whose {PAGE} may be written anew, got {to}, where it does not begin with {TITLE!r}: choose"
            " another folder, or move the file away"
        )


def _make(one: Trained, path: Path, to: Path, folder: Path) -> None:
    """Make an agent's folder, and prove that what is in it acts as the trained one."""
    from rl_zoo3.utils import ALGOS

    name, result = one.model.stem, one.result
    path.mkdir()
    model = path / one.model.name
    strip_model(one.model, model)
    copy_run_files(one.run / name, path / name)
    write_games(path, result.episodes())
    condition = result.condition or "normal"
    first_seed = int(result.facts["evaluation"]["first_seed"])
    try:
        check_same_play(one.contestant, contestant_of(path, condition), condition, first_seed)
    except ValueError as error:
        raise ValueError(f"{result.folder} can't be shipped: {error}") from error
    files = {file.relative_to(path).as_posix(): sha256_of([file]) for file in sorted(path.rglob("*")) if file.is_file()}
    card = make_card(result, ALGOS[result.algo].__name__, one.gym_packages, files, model.stat().st_size)
    write_card(path, card)
    # The folder of all agents goes by its own name, wherever it lies
    text = card_page(card, Path(to.resolve().name, folder.parent.name, folder.name))
    (path / PAGE).write_bytes(text.encode())
    check_no_places(path, result.folder, to)


def write_overview(to: Path) -> None:
    """
    Write the table of all agents.

    :param to: their folder
    """
    unfinished = to / f".{PAGE}.unfinished"
    unfinished.write_bytes(overview_page(shipped_agents(to.resolve())).encode())
    os.replace(unfinished, to / PAGE)
