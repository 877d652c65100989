"""The page, section by section: the answer first, the details below."""

from collections.abc import Callable, Sequence
from functools import partial

from tqdm import tqdm

from eval.report.data import Collection
from eval.report.estimates import Estimates, Options
from eval.report.findings import Finding
from eval.report.page import Block, Heading, Page, Paragraph
from eval.report.sections.beside_others import beside_others
from eval.report.sections.films import films
from eval.report.sections.overview import notices, overview
from eval.report.sections.points import points
from eval.report.sections.provenance import provenance
from eval.report.sections.scores import scores
from eval.report.sections.seeing_less import seeing_less
from eval.report.sections.summary import summary
from eval.report.sections.together import has_aggregates, together
from eval.report.words import listed


def build(collection: Collection, findings: Sequence[Finding], options: Options, descriptions: Sequence[str] = ()) -> Page:
    """
    :param collection: results that have been checked
    :param findings: what the checks found and did not stop the report
    :param options: of the estimates
    :param descriptions: what the suites are to show
    :return: the page
    """
    estimates = Estimates(collection, options)
    suites = sorted({str(result.suite) for result in collection.results if result.suite})
    page = Page(f"Results: {listed(suites or collection.envs)}")
    page.blocks += [*map(Paragraph, descriptions), *notices(list(findings))]
    parts: list[Callable[[], list[Block]]] = [
        lambda: summary(estimates),
        lambda: overview(collection),
        lambda: together(estimates),
        *(partial(_environment, estimates, env, not has_aggregates(estimates)) for env in collection.envs),
        lambda: beside_others(estimates),
        lambda: provenance(collection, f"Intervals: {options.reps:,} resamples, seed {options.seed}."),
    ]
    # On a terminal only: ten games take minutes
    for part in tqdm(parts, desc="sections", disable=None):
        page.blocks += part()
    page.check_names()
    return page


def _environment(estimates: Estimates, env: str, with_profiles: bool) -> list[Block]:
    blocks: list[Block] = [Heading(env)]
    for training in estimates.collection.trainings(env):
        blocks += scores(estimates, env, training, with_profiles)
        blocks += seeing_less(estimates, env, training)
    return [*blocks, *points(estimates, env), *films(estimates.collection, env)]
