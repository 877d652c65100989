"""
``python -m eval report``: check results, and turn them into one page.

Nothing is written before the checks are over: edited results, duplicates, scores that are not numbers, mixed budgets, missing
seeds, what is not as planned, and tasks or evaluations that can't be compared are each named, and end it.
"""

import argparse
import sys
from pathlib import Path

from eval.report.build import build
from eval.report.checks import check, load
from eval.report.data import Collection
from eval.report.estimates import Options
from eval.report.findings import ERROR, MISSING, Finding
from eval.report.planned import find_descriptions
from eval.report.write import HTML, MARKDOWN, FolderError, check_folder, write
from eval.results import ResultError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """
    :param parser: of the subcommand
    """
    parser.add_argument(
        "results", nargs="+", type=Path, metavar="RESULTS", help="folders that `run` or `evaluate` have written"
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FOLDER",
        help="for the report (default: report/ in RESULTS; with several of these, report/)",
    )
    parser.add_argument("--seed", type=_seed, default=0, help="of the intervals' resamples (default: %(default)s)")
    parser.add_argument("--reps", type=_reps, default=2000, metavar="N", help="resamples per interval (default: %(default)s)")
    parser.add_argument(
        "--incomplete",
        action="store_true",
        help="report what there is, with a notice, though planned or matching seeds are missing",
    )


def _seed(text: str) -> int:
    value = int(text)
    if not 0 <= value < 2**32:
        raise argparse.ArgumentTypeError(f"must be from 0 to 2**32 - 1, got {text}")
    return value


def _reps(text: str) -> int:
    value = int(text)
    if value < 100:
        raise argparse.ArgumentTypeError(f"must be at least 100, got {text}")
    return value


def main(args: argparse.Namespace) -> int:
    """
    :param args: of the subcommand
    :return: the exit status: 0 if the report was written, 1 if the results are not fit for one
    """
    out: Path = args.out or (args.results[0] / "report" if len(args.results) == 1 else Path("report"))
    try:
        check_folder(out)
        results, findings = load(args.results)
    except (ResultError, FolderError) as error:
        print(error, file=sys.stderr)
        return 1
    findings += check(results, args.results)
    if _refuse(findings, args.incomplete):
        return 1
    page = build(Collection(results), findings, Options(args.seed, args.reps), find_descriptions(args.results))
    write(page, out)
    for finding in findings:
        print(f"note: {finding.text}")
    print(f"{len(results)} results: {out / HTML} and {out / MARKDOWN}")
    return 0


def _refuse(findings: list[Finding], accepts_missing: bool) -> bool:
    """Say what is wrong, if something is."""
    faults = [finding for finding in findings if finding.kind == ERROR or (finding.kind == MISSING and not accepts_missing)]
    if not faults:
        return False
    for finding in sorted(findings, key=lambda finding: finding in faults):
        print(f"{'error' if finding in faults else 'note'}: {finding.text}", file=sys.stderr)
    hint = ""
    if all(finding.kind == MISSING for finding in faults):
        hint = " To report what there is all the same, add --incomplete."
    print(f"No report was written: {len(faults)} of these are errors.{hint}", file=sys.stderr)
    return True
