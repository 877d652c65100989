"""The page model and its two renderings: the same content, and data that never becomes markup."""

import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote
from xml.etree import ElementTree

import pandas as pd
import pytest
from made_results import film
from matplotlib.figure import Figure

from eval.report import html, markdown
from eval.report.page import (
    Block,
    Bullets,
    Code,
    Fold,
    Heading,
    Notice,
    Page,
    Paragraph,
    Picture,
    Table,
    Video,
    slug,
)
from eval.report.write import FOLDERS, FolderError, write

NASTY = "<script>alert('1')</script> & [a](b) | `c` *d* _e_ $f$ <img src=x onerror=y>"
NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
VOID = {"meta", "img", "br", "link", "input", "hr"}


class Reader(HTMLParser):
    """Reads a page, and takes offence at tags that are not closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.texts.append(data)


def read(text: str) -> Reader:
    reader = Reader()
    reader.feed(text)
    reader.close()
    assert reader.open == []
    return reader


def table(name: str = "t", cell: str = "1.5") -> Table:
    return Table(name, "A table", ("Agent", "Score"), (("drqn", cell),), pd.DataFrame({"score": [1.5]}), frozenset({1}))


def all_blocks(folder: Path, text: str) -> list[Block]:
    figure = Figure(figsize=(2, 1))
    figure.subplots().plot([1, 2])
    return [
        Heading(text),
        Paragraph(text),
        Bullets((text, text)),
        Notice(text, (text,), is_warning=True),
        Table("t", text, (text, "Score"), ((text, "1.5"),), pd.DataFrame({text: [text]})),
        Picture("p", figure, text, text),
        Video("v", film(folder / "film.gif"), text),
        Fold(text, (Code(text), table("inner"))),
    ]


def test_every_block_shows_its_text_in_both(tmp_path: Path) -> None:
    page = Page("Title", all_blocks(tmp_path, "some words"))
    write(page, tmp_path / "out")
    shown = " ".join(read((tmp_path / "out" / "index.html").read_text()).texts)
    source = (tmp_path / "out" / "report.md").read_text()
    assert shown.count("some words") == 14
    assert source.count("some words") == 15  # two alternative texts more, and no contents
    for cell in ("drqn", "1.5"):
        assert cell in shown
        assert cell in source


def test_no_text_becomes_markup(tmp_path: Path) -> None:
    page = Page(NASTY, all_blocks(tmp_path, NASTY))
    write(page, tmp_path / "out")
    reader = read((tmp_path / "out" / "index.html").read_text())
    assert "script" not in [tag for tag, _ in reader.tags]
    assert not any(name.startswith("on") for _, attributes in reader.tags for name in attributes)
    assert all(attributes["src"].startswith("data:") for tag, attributes in reader.tags if tag == "img" and attributes["src"])
    assert NASTY in reader.texts
    # Code and summaries are not read as Markdown
    source = (tmp_path / "out" / "report.md").read_text()
    source = re.sub(r"```.*?```|<summary>[^<]*</summary>", "", source, flags=re.DOTALL)
    assert not re.search(r"(?<!\\)<(script|img)", source)
    assert not re.search(r"(?<!\\)\[a", source)


MARKDOWN = {
    "a pipe": ("a|b", r"a\|b"),
    "emphasis": ("*a* _b_", r"\*a\* \_b\_"),
    "an underscore within a word": ("hide_velocity", "hide_velocity"),
    "a link": ("[a](b)", r"\[a\](b)"),
    "HTML": ("<b>&amp;", r"\<b\>\&amp;"),
    "a new line": ("a\n# b", "a # b"),
    "a number": ("-5.25 (-6.00 to 1.00)", "-5.25 (-6.00 to 1.00)"),
}


@pytest.mark.parametrize(("text", "expected"), MARKDOWN.values(), ids=MARKDOWN.keys())
def test_markdown_shows_the_text_itself(text: str, expected: str) -> None:
    assert markdown.escape(text) == expected


STARTS = {"a heading": ("# a", r"\# a"), "a list": ("- a", r"\- a"), "a numbered list": ("1. a", r"1\. a")}


@pytest.mark.parametrize(("text", "expected"), STARTS.values(), ids=STARTS.keys())
def test_no_paragraph_becomes_something_else(text: str, expected: str) -> None:
    assert markdown.render(Page("T", [Paragraph(text)])) == f"# T\n\n{expected}\n"


def test_code_holds_any_fence() -> None:
    source = markdown.render(Page("T", [Code("```\nx\n```")]))
    assert "````\n```\nx\n```\n````" in source


def test_a_table_and_its_csv_are_beside_each_other(tmp_path: Path) -> None:
    write(Page("T", [table()]), tmp_path)
    assert "| drqn | 1.5 |" in (tmp_path / "report.md").read_text()
    assert "(tables/t.csv)" in (tmp_path / "report.md").read_text()
    assert (tmp_path / "tables" / "t.csv").read_text() == "score\n1.5\n"


def test_a_drawing_within_the_page_is_the_one_of_the_file(tmp_path: Path) -> None:
    figure = Figure(figsize=(2, 1))
    figure.subplots().plot([1, 2], color="#123456")
    write(Page("T", [Picture("p", figure, "alt", "note")]), tmp_path)
    (image,) = [attributes for tag, attributes in read((tmp_path / "index.html").read_text()).tags if tag == "img"]
    prefix, _, address = str(image["src"]).partition(",")
    assert prefix == "data:image/svg+xml"
    svg = (tmp_path / "figures" / "p.svg").read_text()
    assert not set(address) & set('<>"&#')
    assert len(address) < len(svg)
    ours, theirs = ElementTree.fromstring(unquote(address)), ElementTree.fromstring(svg)
    namespace = "{http://www.w3.org/2000/svg}"
    for kind in ("path", "use", "g"):
        pairs = list(zip(ours.iter(namespace + kind), theirs.iter(namespace + kind), strict=True))
        assert pairs
        for mine, other in pairs:
            assert mine.attrib.keys() == other.attrib.keys()
            for name in mine.attrib:
                numbers = [[float(text) for text in NUMBER.findall(part.get(name, ""))] for part in (mine, other)]
                assert numbers[0] == pytest.approx(numbers[1], abs=0.0051)
            assert NUMBER.sub("", mine.get("d", "")).replace(" ", "") == NUMBER.sub("", other.get("d", "")).replace(
                " ", ""
            ).replace("\n", "")
    assert "scale(0.015625)" in unquote(address)


def test_a_film_beside_the_page_is_a_link(tmp_path: Path) -> None:
    write(Page("T", [Video("v", film(tmp_path / "film.gif"), "A <film>", is_inline=False)]), tmp_path / "out")
    reader = read((tmp_path / "out" / "index.html").read_text())
    assert [attributes["href"] for tag, attributes in reader.tags if tag == "a"] == ["videos/v.gif"]
    assert (tmp_path / "out" / "videos" / "v.gif").read_bytes() == (tmp_path / "film.gif").read_bytes()
    assert not [tag for tag, _ in reader.tags if tag == "img"]
    assert "A <film>" in reader.texts


def test_headings_of_the_same_text_have_different_anchors(tmp_path: Path) -> None:
    write(Page("T", [Heading("Same"), Heading("Same"), Heading("Below", 3)]), tmp_path)
    reader = read((tmp_path / "index.html").read_text())
    ids = [attributes["id"] for _, attributes in reader.tags if "id" in attributes]
    assert ids == ["same", "same-1", "below"]
    assert [attributes["href"] for tag, attributes in reader.tags if tag == "a"] == ["#same", "#same-1"]


@pytest.mark.parametrize("other", [table("t"), Fold("f", (table("t"),))], ids=["beside", "in a fold"])
def test_two_tables_of_one_name_are_refused(other: Block) -> None:
    with pytest.raises(ValueError, match="names must differ among the page's tables, got twice t"):
        Page("T", [table("t"), other]).check_names()


SLUGS = {
    "an id with a namespace": (("ALE/Pong-v5", "normal"), "ale-pong-v5-normal"),
    "a condition": (("hide_velocity+flicker-0.5",), "hide_velocity-flicker-0.5"),
    "a path": (("../..", "x"), "x"),
    "no letters": (("é",), "unnamed"),
}


@pytest.mark.parametrize(("words", "expected"), SLUGS.values(), ids=SLUGS.keys())
def test_names_of_files_are_plain(words: tuple[str, ...], expected: str) -> None:
    assert slug(*words) == expected


def test_an_earlier_report_is_replaced(tmp_path: Path) -> None:
    write(Page("One", [table("one")]), tmp_path)
    write(Page("Two", [table("two")]), tmp_path)
    assert [path.name for path in (tmp_path / "tables").iterdir()] == ["two.csv"]
    assert {path.name for path in tmp_path.iterdir()} == {"index.html", "report.md", *FOLDERS}


@pytest.mark.parametrize("name", ["notes.txt", "index.html"])
def test_a_folder_of_something_else_is_left_alone(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(FolderError, match="--out must be a new or empty folder, or hold an earlier report"):
        write(Page("T"), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(FolderError, match="which is a file"):
        write(Page("T"), tmp_path / "out")


def test_the_page_says_what_made_it(tmp_path: Path) -> None:
    assert f'<meta name="generator" content="{html.GENERATOR}">' in html.render(Page("T"), tmp_path)
