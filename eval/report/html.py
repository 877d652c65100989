"""The page as one HTML file: figures and videos are inside it (of many videos, the first), nothing is fetched."""

import base64
import re
from pathlib import Path

import jinja2

from eval.report.page import Block, Heading, Page, slug

GENERATOR = "python -m eval report"
"""What the page says it was made by: a folder that holds such a page may be written again."""


_LONG = re.compile(r"(?<!scale\()-?\d+\.\d{3,}")
"""A length in a drawing, in points: two decimals are plenty. Scales are no lengths."""

_BESIDE_LETTER = re.compile(r"(?<=[\w\"]) ?([MLQCZz]) ?")

_RESERVED = {"%": "%25", "#": "%23", "<": "%3C", ">": "%3E", "&": "%26", '"': "'"}


def render(page: Page, folder: Path) -> str:
    """
    :param page: the page
    :param folder: that holds its figures and videos
    :return: it as HTML
    """
    template = _environment(folder).get_template("template.html.j2")
    return template.render(page=page, anchors=_anchors(page), generator=GENERATOR)


def _environment(folder: Path) -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )

    def inline(path: str, kind: str) -> str:
        return f"data:{kind};base64,{base64.b64encode((folder / path).read_bytes()).decode()}"

    def inline_svg(path: str) -> str:
        return f"data:image/svg+xml,{packed((folder / path).read_text(encoding='utf-8'))}"

    def kind_of(block: Block) -> str:
        return type(block).__name__

    environment.filters["inline"] = inline
    environment.filters["inline_svg"] = inline_svg
    environment.filters["kind"] = kind_of
    return environment


def packed(svg: str) -> str:
    """
    :param svg: a drawing without words, as matplotlib writes it
    :return: the same for a URL between double quotes, in about half of the characters that base64 takes
    """
    svg = re.sub(r"<\?xml.*?\?>|<!DOCTYPE.*?>|<!--.*?-->|<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = _LONG.sub(lambda match: f"{float(match.group()):.2f}".rstrip("0").rstrip("."), svg)
    svg = re.sub(r"\s+", " ", svg).replace("> <", "><").strip()
    svg = re.sub(r' d="[^"]*"', lambda match: _BESIDE_LETTER.sub(r"\1", match.group()), svg)
    return "".join(_RESERVED.get(letter, letter) for letter in svg)


def _anchors(page: Page) -> dict[int, str]:
    """Name every heading's anchor by the heading's place among the page's blocks: texts may come twice."""
    anchors: dict[int, str] = {}
    for index, block in enumerate(page.blocks):
        if isinstance(block, Heading):
            name = slug(block.text)
            anchors[index] = name if name not in anchors.values() else f"{name}-{index}"
    return anchors
