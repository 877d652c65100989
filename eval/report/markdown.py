"""The page as Markdown (GitHub's), beside the files that it links to."""

import re

from eval.report.page import Block, Bullets, Code, Fold, Heading, Notice, Page, Paragraph, Picture, Table, Video

_SPECIAL = re.compile(r"([\\`*\[\]<>|~&$])|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")
_AT_START = re.compile(r"^([#+-]|\d+(?=[.)]))")


def escape(text: str) -> str:
    """
    :param text: any text
    :return: Markdown that shows exactly this text, on one line
    """
    return _SPECIAL.sub(lambda match: "\\" + match.group(), " ".join(text.split()))


def _paragraph(text: str) -> str:
    """Escape what would make a list or a heading of a text that stands at the start of a line, too."""
    return _AT_START.sub(lambda match: f"{match.group()}\\" if match.group().isdigit() else f"\\{match.group()}", escape(text))


def render(page: Page) -> str:
    """
    :param page: the page
    :return: it as Markdown; figures, tables and videos are links to the files beside it
    """
    parts = [f"# {escape(page.title)}", *(_render(block) for block in page.blocks)]
    return "\n\n".join(parts) + "\n"


def _render(block: Block) -> str:
    if isinstance(block, Heading):
        return f"{'#' * block.level} {escape(block.text)}"
    if isinstance(block, Paragraph):
        return _paragraph(block.text)
    if isinstance(block, Bullets):
        return _list(block.items)
    if isinstance(block, Notice):
        return "\n".join("> " + line for line in [f"**{escape(block.title)}**", "", *_list(block.items).splitlines()])
    if isinstance(block, Code):
        return _code(block.text)
    if isinstance(block, Table):
        return _table(block)
    if isinstance(block, Picture):
        links = f"*{escape(block.note)}* ([PNG](figures/{block.name}.png), [SVG](figures/{block.name}.svg))"
        return f"![{escape(block.alt)}](figures/{block.name}.png)\n\n{links}"
    if isinstance(block, Video):
        return f"![{escape(block.caption)}](videos/{block.name}.gif)\n\n*{escape(block.caption)}*"
    return _fold(block)


def _list(items: tuple[str, ...]) -> str:
    return "\n".join(f"- {_paragraph(item)}" for item in items)


def _code(text: str) -> str:
    fence = "`" * (max((len(ticks) for ticks in re.findall("`+", text)), default=0) + 1)
    fence = fence if len(fence) > 3 else "```"
    return f"{fence}\n{text}\n{fence}"


def _table(table: Table) -> str:
    def line(cells: tuple[str, ...]) -> str:
        return f"| {' | '.join(map(escape, cells))} |"

    marks = tuple("---:" if column in table.numeric else "---" for column in range(len(table.head)))
    lines = [line(table.head), f"| {' | '.join(marks)} |", *map(line, table.rows)]
    return f"{_paragraph(table.caption)} ([CSV](tables/{table.name}.csv))\n\n" + "\n".join(lines)


def _fold(fold: Fold) -> str:
    # A blank line ends the HTML: what stands between is Markdown again
    title = fold.title.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    inner = "\n\n".join(map(_render, fold.blocks))
    return f"<details>\n<summary>{title}</summary>\n\n{inner}\n\n</details>"
