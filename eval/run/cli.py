"""
``python -m eval run SUITE.yml``: train and evaluate what a suite asks for, and go on with what was interrupted.

The same command, started again, repeats nothing that is finished.
"""

import argparse
import json
import os
import sys
from pathlib import Path

from eval.interruption import interrupted_by_signals
from eval.results import RESULT, ResultError, read_result
from eval.run.execution import TOLD_TO_STOP, Executor, State
from eval.run.local import LocalExecutor, cores
from eval.run.plan import DEVICES, SUITE
from eval.suite import SUITES, Suite, SuiteError, find_suite, read_suite


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """
    :param parser: of the subcommand
    """
    from eval.run.ray_cluster import add_ray_arguments
    from eval.run.slurm import add_slurm_arguments

    shipped = ", ".join(sorted(path.stem for path in SUITES.glob("*.yml")))
    parser.add_argument("suite", metavar="SUITE", help=f"a suite's file, or the name of a shipped one: {shipped}")
    parser.add_argument("--out", type=Path, help="folder of the results (default: results/<name of the suite>)")
    parser.add_argument(
        "--device", choices=DEVICES, default="auto", help="that agents are trained on; auto: a GPU if there is one (default)"
    )
    parser.add_argument(
        "--executor", choices=("local", "slurm", "ray"), default="local", help="where jobs are run (default: %(default)s)"
    )
    parser.add_argument(
        "--only",
        metavar="PART",
        nargs="+",
        help="only jobs in whose folder, ENVIRONMENT/AGENT/CONDITION/seed-N, all of these are whole parts, or several in a row"
        " (drqn/normal): drqn does not name drqn-small, nor seed-1 seed-10",
    )
    parser.add_argument(
        "--evaluate-again", action="store_true", help="have trained agents play anew if the suite's evaluation has changed"
    )
    parser.add_argument("--dry-run", action="store_true", help="check the suite, list its jobs, and begin none")
    local = parser.add_argument_group("--executor local")
    local.add_argument("--jobs", type=_positive, help="processes at once (default: one per core, or two per GPU)")
    local.add_argument("--threads", type=_positive, help="of PyTorch in each process (default: the cores, shared out evenly)")
    add_slurm_arguments(parser)
    add_ray_arguments(parser)


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {text}")
    return value


def main(args: argparse.Namespace) -> int:
    """
    :param args: of the subcommand
    :return: the exit status: 0 if all results are there, 143 if it was told to stop
    :raises SystemExit: if the suite can't be run, or another process runs it
    """
    try:
        suite = read_suite(find_suite(args.suite))
        print(f"{suite.name}: checking the suite ...", flush=True)
        folders, results = plan(suite, args)
    except (SuiteError, ValueError) as error:
        sys.exit(str(error))
    done = [folder for folder in folders if is_finished(folder)]
    left = [folder for folder in folders if folder not in done]
    print(f"{len(folders)} jobs, {len(done)} finished, {len(left)} to do; results in {results}", flush=True)
    if args.dry_run or not left:
        list_jobs(folders, results, done) if args.dry_run else print(_next_command(results))
        return 0
    return run(left, results, make_executor(args, results))


def plan(suite: Suite, args: argparse.Namespace) -> tuple[list[Path], Path]:
    """
    :param suite: the suite
    :param args: of the subcommand
    :return: folders of the jobs that are asked for, and that of the results
    :raises SuiteError: if the suite can't be run
    :raises SystemExit: if another process runs it
    """
    from eval.run.plan import check_begun, make_plan, write_plan

    results: Path = args.out or Path("results") / suite.name
    if not args.dry_run:
        results.mkdir(parents=True, exist_ok=True)
        _claim(results)
    planned = make_plan(suite, results, args.device)
    check_begun(planned, args.evaluate_again)
    if not args.dry_run:
        write_plan(suite, results, planned)
    unsafe = sorted({job["agent"] for job in planned.values() if job["algo"] is not None and not job["resumable"]})
    if unsafe:
        print(f"no checkpoints can hold {', '.join(unsafe)}: interrupted, their training begins anew")
    folders = list(planned)
    if args.only:
        names = {folder: folder.relative_to(results).as_posix() for folder in folders}
        folders = [folder for folder in folders if all(has_parts(names[folder], text) for text in args.only)]
        if not folders:
            raise SuiteError(
                f"--only must name a job, got {' '.join(args.only)}; jobs are named like {next(iter(names.values()))}"
            )
    return folders, results


def has_parts(name: str, text: str) -> bool:
    """
    :param name: of a job's folder, within the suite's
    :param text: a part of such a name, or several in a row with slashes between them
    :return: whether it is in the name, from one slash (or end) to another
    """
    return f"/{text.strip('/')}/" in f"/{name}/"


def _claim(results: Path) -> None:
    from drqn_sb3.checkpoints.store import lock_folder

    try:
        lock_folder(results)
    except ValueError:
        sys.exit(f"{results} is in use: another process runs this suite")


def is_finished(folder: Path) -> bool:
    """
    :param folder: a job's
    :return: whether its result is there
    :raises SystemExit: if it is there and not what was written
    """
    if not (folder / RESULT).exists():
        return False
    try:
        read_result(folder)
    except ResultError as error:
        sys.exit(str(error))
    return True


def make_executor(args: argparse.Namespace, results: Path) -> Executor:
    """
    :param args: of the subcommand
    :param results: the suite's folder
    :return: what runs the jobs
    :raises SystemExit: if it is not to be had here
    """
    try:
        if args.executor == "slurm":
            from eval.run.slurm import make_slurm_executor

            return make_slurm_executor(args, results)
        if args.executor == "ray":
            from eval.run.ray_cluster import make_ray_executor

            return make_ray_executor(args, results)
        gpus = _gpus(args.device)
        return LocalExecutor(args.jobs or (2 * len(gpus) if gpus else cores()), args.threads, gpus)
    except (ValueError, RuntimeError) as error:
        sys.exit(str(error))


def _gpus(device: str) -> list[str]:
    if device == "cpu":
        return []
    import torch as th

    n_gpus = th.cuda.device_count()
    if device == "cuda" and n_gpus == 0:
        raise ValueError("--device cuda must find a GPU, and PyTorch finds none here")
    visible = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    return visible[:n_gpus] if visible else [str(i) for i in range(n_gpus)]


def run(folders: list[Path], results: Path, executor: Executor) -> int:
    """
    Run jobs, show how it goes, and say what became of them.

    :param folders: the jobs'
    :param results: the suite's folder
    :param executor: what runs them
    :return: the exit status
    """
    from eval.run.watching import watch

    with interrupted_by_signals():
        try:
            executor.start(folders)
            ended = watch(executor, folders, results, is_finished)
        except KeyboardInterrupt:
            print("\nstopping ...", flush=True)
            print(executor.stop())
            return TOLD_TO_STOP
        except RuntimeError as error:  # of the cluster
            sys.exit(str(error))
    return conclude(ended, results)


def conclude(ended: dict[Path, State], results: Path) -> int:
    """
    :param ended: how it went with each job
    :param results: the suite's folder
    :return: the exit status: 0 if all results are there
    """
    failed = [folder for folder, state in ended.items() if state.status != 0]
    if not failed:
        print(f"all {len(ended)} jobs are finished" if len(ended) > 1 else "the job is finished")
        print(_next_command(results))
        return 0
    print(
        f"not finished: {len(failed)} of {len(ended)} jobs. The same command goes on with those that were stopped, and tries"
    )
    print("again what has failed, once that is mended:")
    for folder in failed:
        print(f"  {folder.relative_to(results).as_posix()}")
    return TOLD_TO_STOP if all(ended[folder].status == TOLD_TO_STOP for folder in failed) else 1


def list_jobs(folders: list[Path], results: Path, done: list[Path]) -> None:
    """
    :param folders: the jobs'
    :param results: the suite's folder
    :param done: those that are finished
    """
    for folder in folders:
        print(f"  {'finished' if folder in done else 'to do   '} {folder.relative_to(results).as_posix()}")


def _next_command(results: Path) -> str:
    planned = json.loads((results / SUITE).read_text())["jobs"]
    n_left = sum(not (results / job["folder"] / RESULT).exists() for job in planned)
    command = f"next: python -m eval report {results}"
    return command if n_left == 0 else f"{command} --incomplete  # {n_left} of the suite's {len(planned)} jobs are not done"
