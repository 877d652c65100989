"""Subcommands of ``python -m eval``: each is imported when it is called for."""

import argparse
import importlib
import sys
from collections.abc import Sequence

# subcommand -> what it does, the module that has `add_arguments(parser)` and `main(args) -> exit status`
SUBCOMMANDS = {
    "run": ("train and evaluate the agents of a suite, and go on with what was interrupted", "eval.run.cli"),
    "evaluate": ("let models play whole games, on normal and on poorer observations", "eval.evaluation.cli"),
    "report": ("put results together: tables, figures, statistics, one page", "eval.report.cli"),
    "ship": ("make small, documented agents out of results, and check those that are shipped", "eval.shipping.cli"),
    "throughput": ("how fast everything is, beside what else there is, on the same work", "eval.throughput.cli"),
    "soak": ("whether memory and descriptors stay flat in an hour of training", "eval.soak.cli"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """
    :param argv: command line arguments, by default the process's
    :return: the exit status
    """
    parser = argparse.ArgumentParser(prog="python -m eval", description="Experiments with drqn_sb3.")
    subparsers = parser.add_subparsers(dest="subcommand", required=True, metavar="SUBCOMMAND")
    arguments = sys.argv[1:] if argv is None else list(argv)
    for name, (summary, module) in SUBCOMMANDS.items():
        subparser = subparsers.add_parser(name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.")
        if arguments[:1] == [name]:
            importlib.import_module(module).add_arguments(subparser)
    if not arguments:
        parser.print_help(sys.stderr)
        return 2
    args = parser.parse_args(arguments)
    status: int = importlib.import_module(SUBCOMMANDS[args.subcommand][1]).main(args)
    return status


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("\ninterrupted")
