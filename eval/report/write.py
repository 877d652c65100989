"""From the page to its folder."""

import shutil
from pathlib import Path

from eval import plots
from eval.report import html, markdown
from eval.report.page import Page, Picture, Table, Video

HTML, MARKDOWN = "index.html", "report.md"
FOLDERS = ("figures", "tables", "videos")


class FolderError(ValueError):
    """The folder holds something else than a report."""


def check_folder(folder: Path) -> None:
    """
    :param folder: to be written to
    :raises FolderError: if it is a file, or holds anything but an earlier report, which would be replaced
    """
    if folder.exists() and not folder.is_dir():
        raise FolderError(f"--out must be a folder, got {folder}, which is a file")
    if folder.exists() and any(folder.iterdir()) and not _is_report(folder):
        raise FolderError(f"--out must be a new or empty folder, or hold an earlier report, which is replaced, got {folder}")


def write(page: Page, folder: Path) -> None:
    """
    Write the page, as HTML and as Markdown, and its figures, tables and videos. An earlier report there is replaced.

    :param page: the page
    :param folder: where to
    :raises FolderError: if the folder holds something else
    """
    check_folder(folder)
    for name in FOLDERS:
        if (folder / name).exists():
            shutil.rmtree(folder / name)
        (folder / name).mkdir(parents=True)
    for block in page.walk():
        if isinstance(block, Picture):
            plots.save(block.figure, folder / "figures" / block.name)
        elif isinstance(block, Table):
            text = block.data.to_csv(index=False, lineterminator="\n")
            (folder / "tables" / f"{block.name}.csv").write_text(text, encoding="utf-8", newline="\n")
        elif isinstance(block, Video):
            shutil.copyfile(block.path, folder / "videos" / f"{block.name}.gif")
    (folder / MARKDOWN).write_text(markdown.render(page), encoding="utf-8", newline="\n")
    (folder / HTML).write_text(html.render(page, folder), encoding="utf-8", newline="\n")


def _is_report(folder: Path) -> bool:
    page = folder / HTML
    if not page.is_file():
        return False
    with open(page, encoding="utf-8", errors="replace") as file:
        return f'<meta name="generator" content="{html.GENERATOR}">' in file.read(1000)
