"""What a page is made of. The HTML and the Markdown are both written from it, so that they can't tell different things."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import pandas as pd
from matplotlib.figure import Figure


@dataclass(frozen=True)
class Heading:
    """
    :param text: of the heading
    :param level: 2 for a section, 3 and 4 for its parts; the page's title is 1
    """

    text: str
    level: int = 2


@dataclass(frozen=True)
class Paragraph:
    """
    :param text: plain text
    """

    text: str


@dataclass(frozen=True)
class Bullets:
    """
    :param items: plain texts
    """

    items: tuple[str, ...]


@dataclass(frozen=True)
class Notice:
    """
    Something that must not be overlooked.

    :param title: what it is about
    :param items: plain texts
    :param is_warning: whether the results suffer from it
    """

    title: str
    items: tuple[str, ...]
    is_warning: bool = False


@dataclass(frozen=True)
class Code:
    """
    :param text: shown as it is
    """

    text: str


@dataclass(frozen=True)
class Table:
    """
    :param name: of its CSV file, without suffix
    :param caption: what it shows
    :param head: names of the columns
    :param rows: cells as they are shown
    :param data: the numbers behind it, written as CSV
    :param numeric: columns of numbers, which are flush right
    """

    name: str
    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    data: pd.DataFrame
    numeric: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Picture:
    """
    :param name: of its files, without suffix
    :param figure: as matplotlib has it
    :param alt: what it shows, for those who can't see it
    :param note: how to read it
    """

    name: str
    figure: Figure
    alt: str
    note: str


@dataclass(frozen=True)
class Video:
    """
    :param name: of its file, without suffix
    :param path: of the GIF that is copied
    :param caption: what it shows
    :param is_inline: whether it is a part of the HTML, rather than a file beside it
    """

    name: str
    path: Path
    caption: str
    is_inline: bool = True


@dataclass(frozen=True)
class Fold:
    """
    Details that are shown when asked for.

    :param title: of the fold
    :param blocks: what it holds
    """

    title: str
    blocks: tuple["Block", ...]


Block: TypeAlias = Heading | Paragraph | Bullets | Notice | Code | Table | Picture | Video | Fold


@dataclass
class Page:
    """
    :param title: of the page
    :param blocks: from top to bottom
    """

    title: str
    blocks: list[Block] = field(default_factory=list)

    def walk(self) -> Iterator[Block]:
        """
        :return: all blocks, also those within folds
        """
        return _walk(self.blocks)

    def check_names(self) -> None:
        """
        :raises ValueError: if two tables, pictures or videos have the same name: one file would replace the other
        """
        for kind in (Table, Picture, Video):
            names = [block.name for block in self.walk() if isinstance(block, kind)]
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise ValueError(f"names must differ among the page's {kind.__name__.lower()}s, got twice {', '.join(twice)}")


def _walk(blocks: Sequence[Block]) -> Iterator[Block]:
    for block in blocks:
        yield block
        if isinstance(block, Fold):
            yield from _walk(block.blocks)


def slug(*words: str) -> str:
    """
    :param words: any texts
    :return: a name for files and anchors: small letters, digits, dots, underscores and hyphens
    """
    letters = "".join(c if c.isascii() and (c.isalnum() or c in "._") else "-" for c in "-".join(words).lower())
    return "-".join(part for part in letters.split("-") if part.strip(".")) or "unnamed"
