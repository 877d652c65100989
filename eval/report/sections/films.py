"""A film per agent: what it sees beside what happens."""

from typing import NamedTuple

from eval.report.data import NOT_TRAINED, Collection, trained_on
from eval.report.page import Block, Heading, Paragraph, Video, slug
from eval.results import Result

MOST_FILMS, MOST_BYTES = 12, 1_000_000
"""Within the page, or it would get too large to be sent to anybody. The others are files beside it."""


class Programme(NamedTuple):
    """
    Films of the whole page.

    :param results: that are shown, by environment
    :param inline: environments whose films are within the page
    :param is_short: whether an agent has one film in an environment though it was trained on several conditions
    """

    results: dict[str, list[Result]]
    inline: frozenset[str]
    is_short: bool


def find_films(collection: Collection) -> Programme:
    """
    :param collection: the results
    :return: a film per agent, environment and condition of training; with many of them one per agent and environment. Within
        the page are those of as many environments as there is room for, of the first one at least
    """
    filmed = [result for result in collection.results if result.video is not None]
    all_of_them = {(result.env, result.agent, trained_on(result)): result for result in reversed(filmed)}
    few = {(result.env, result.agent): result for result in reversed(filmed)}
    is_short = len(all_of_them) > MOST_FILMS and len(few) < len(all_of_them)
    chosen = list((few if is_short else all_of_them).values())[::-1]
    results: dict[str, list[Result]] = {}
    for result in chosen:
        results.setdefault(result.env, []).append(result)
    inline: list[str] = []
    n_films = n_bytes = 0
    for env, shown in results.items():
        n_films += len(shown)
        n_bytes += sum(result.video.stat().st_size for result in shown if result.video is not None)
        if inline and (n_films > MOST_FILMS or n_bytes > MOST_BYTES):
            break
        inline.append(env)
    return Programme(results, frozenset(inline), is_short)


def films(collection: Collection, env: str) -> list[Block]:
    """
    :param collection: the results
    :param env: an environment
    :return: the films of its agents; nothing where nothing was filmed
    """
    programme = find_films(collection)
    shown = programme.results.get(env, [])
    if not shown:
        return []
    text = (
        "On the left what happens, on the right what the agent gets to see. Each film is the first moments of one run's play, "
        "game after game where games are short; agents that were trained take their best actions. An impression, no evidence."
    )
    if programme.is_short:
        text += " One film per agent, though there are several conditions of training."
    if env not in programme.inline:
        text += " These films are files beside the page, in videos/, to keep it small."
    return [Heading("What the agents see", 3), Paragraph(text), *(_video(result, env in programme.inline) for result in shown)]


def _video(result: Result, is_inline: bool) -> Video:
    assert result.video is not None
    trained = trained_on(result)
    seed = "" if result.seed is None else f", seed {result.seed}"
    caption = f"{result.agent} in {result.env}, {trained if trained == NOT_TRAINED else f'trained on {trained}'}{seed}"
    return Video(slug(result.env, result.agent, trained), result.video, caption, is_inline)
