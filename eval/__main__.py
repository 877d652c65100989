"""Subcommands of ``python -m eval``: each is imported when it is called for."""

import argparse
import importlib
import sys
from collections.abc import Sequence

# subcommand -> what it does, the module that has `add_arguments(parser)` and `main(args) -> exit status`
SUBCOMMANDS = {
    "throughput": ("how fast everything is, beside what else there is, on the same work", "eval.throughput.cli"),
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
    sys.exit(main())
