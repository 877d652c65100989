"""Films on the page: all of a few, the first of many."""

from itertools import product
from pathlib import Path
from typing import Any

import pytest
from made_results import Made, film, make
from test_report_numbers import page_of, texts_of

from eval.report.page import Page, Video


def filmed(root: Path, n_envs: int, n_agents: int, conditions: tuple[str, ...] = ("normal", "flicker-0.5")) -> Page:
    video = film(root / "film.gif")
    for env, agent, condition in product(range(n_envs), range(n_agents), conditions):
        make(root / "results", Made(f"a{agent}", f"E{env}-v0", condition), evaluated=[condition], video=video)
    return page_of(root / "results")


FILMED = {
    "a few": ((2, 3, ("normal", "flicker-0.5")), 12, 12),
    "several conditions of too many": ((2, 4, ("normal", "flicker-0.5")), 8, 8),
    "too many all the same": ((3, 5, ("normal",)), 15, 10),
    "too many of the first": ((2, 13, ("normal",)), 26, 13),
}


@pytest.mark.parametrize(("made", "n_films", "n_inline"), FILMED.values(), ids=FILMED.keys())
def test_of_many_films_the_page_holds_the_first(tmp_path: Path, made: Any, n_films: int, n_inline: int) -> None:
    page = filmed(tmp_path, *made)
    films = [block for block in page.walk() if isinstance(block, Video)]
    assert (len(films), sum(block.is_inline for block in films)) == (n_films, n_inline)
    assert all(block.is_inline for block in films[:n_inline])
    assert ("These films are files beside the page" in texts_of(page)) is (n_inline < n_films)
    assert ("One film per agent, though" in texts_of(page)) is (made == (2, 4, ("normal", "flicker-0.5")))


def test_films_are_kept_out_of_the_page_by_their_size_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = film(tmp_path / "one.gif").stat().st_size
    monkeypatch.setattr("eval.report.sections.films.MOST_BYTES", 3 * size)
    films = [block for block in filmed(tmp_path, 2, 2, ("normal",)).walk() if isinstance(block, Video)]
    assert [block.is_inline for block in films] == [True, True, False, False]
