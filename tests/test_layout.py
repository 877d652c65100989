"""Which module may import which, and what may lie where. Imports are read from the source, so nothing is run."""

import ast
import fnmatch
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("drqn_sb3", "eval", "tests")
TOP_LEVEL = {
    *PACKAGES,
    *(
        "agents",
        "docs",
        "hyperparams",
        "pyproject.toml",
        "constraints.txt",
        "Makefile",
        "README.md",
        "CHANGELOG.md",
        "LICENSE",
    ),
    *(".ci", ".git", ".github", ".gitignore", ".pre-commit-config.yaml"),
}

# The modules of drqn_sb3 and, for each, those that it may import: what lies upstream of it. The empty string is the
# package itself.
LEARNING = {
    *("checks", "type_aliases", "lstm", "recurrent", "losses", "slots", "windows", "buffers"),
    *("extractors", "networks", "policies"),
    *("precision", "learner", "overlap", "cuda_graph", "allocator", "arguments", "drqn"),
    *("version", "finite", "workers", "out_of_memory", "experience", "model_files", "persistence", "prediction"),
}
UPSTREAM: dict[str, set[str]] = {
    "checks": set(),
    "type_aliases": set(),
    "lstm": {"type_aliases"},
    "recurrent": {"type_aliases", "lstm"},
    "losses": {"type_aliases"},
    "slots": {"type_aliases"},
    "windows": {"type_aliases", "slots"},
    "buffers": {"checks", "type_aliases", "recurrent", "losses", "slots", "windows"},
    "last_action": set(),
    "prediction": {"last_action", "losses"},
    "extractors": {"checks"},
    "networks": {"type_aliases", "recurrent", "prediction", "extractors"},
    "policies": {"checks", "type_aliases", "recurrent", "losses", "extractors", "networks"},
    "precision": {"networks"},
    "cuda_graph": {"type_aliases"},
    "allocator": set(),
    "version": set(),
    "finite": set(),
    "workers": set(),
    "out_of_memory": set(),
    "experience": {"finite"},
    "model_files": {"version"},
    "learner": {
        *("type_aliases", "finite", "losses", "networks", "policies", "precision", "prediction", "cuda_graph", "allocator")
    },
    "overlap": set(),
    "arguments": {"checks", "buffers", "last_action", "policies", "precision"},
    "persistence": LEARNING - {"drqn", "persistence", "overlap", "workers", "experience"},
    "drqn": LEARNING - {"drqn"},
    "frame_stack": {"checks", "slots"},
    "wrappers": {"checks"},
    "curriculum": {"wrappers"},
    "warm_start": {"last_action", "model_files", "extractors", "networks", "policies"},
    "envs": {"checks"},
    "checkpoints": LEARNING | {"frame_stack", "envs"},
    "": LEARNING | {"frame_stack", "wrappers", "last_action", "curriculum", "warm_start", "envs", "checkpoints"},
    "zoo_runs": {"checkpoints"},
    "zoo": LEARNING | {"frame_stack", "wrappers", "envs", "zoo_runs", ""},
    "_zoo_hook": {"", "zoo"},
}
ZOO = {"rl_zoo3", "optuna"}

# Modules of eval that work on numbers alone, and what of heavy libraries they may not load.
HEAVY = {"torch", "stable_baselines3", "sb3_contrib", "gymnasium", "drqn_sb3"}
LIGHT = (
    *("__main__", "conditions", "interruption", "machine", "plot_style", "plots", "provenance", "results", "stats", "suite"),
    *("shipping.cli", "shipping.card", "shipping.page"),
    *("report.cli", "run.cli", "run.execution", "run.local", "run.plan", "run.progress", "run.ray_cluster", "run.slurm"),
    *("run.watching", "evaluation.cli"),
    *(f"throughput.{name}" for name in ("stats", "plots", "report", "flops", "protocol", "experience", "contestants", "pool")),
    *("throughput.rounds", "throughput.cli"),
)
# What reads results, or files of their kind.
FILES = ("eval.results", "eval.report", "csv", "json")
# What a worker that runs in a peer's environment finds there, of this checkout.
SHARED_WITH_PEERS = {"eval.throughput.protocol", "eval.throughput.experience"}


def imports(module: str, source: str, is_package: bool = False) -> Iterator[str]:
    """Yield the absolute dotted name of everything that ``source`` imports, be it inside a function.

    ``from a import b`` yields ``a.b``, be that a module or a name in one. Left out is what stands under
    ``if TYPE_CHECKING``: it names a type in a signature, and never runs.
    """
    package = module.split(".") if is_package else module.split(".")[:-1]
    for node in running_nodes(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            origin = [*base, *([node.module] if node.module else [])]
            yield from (".".join([*origin, alias.name]) for alias in node.names)


def running_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """Walk a syntax tree, except for the bodies of ``if TYPE_CHECKING``."""
    yield node
    for_types = isinstance(node, ast.If) and ast.unparse(node.test).removeprefix("typing.") == "TYPE_CHECKING"
    children = node.orelse if isinstance(node, ast.If) and for_types else list(ast.iter_child_nodes(node))
    for child in children:
        yield from running_nodes(child)


def unit(module: str) -> str:
    """Name the part of ``drqn_sb3`` that a dotted name belongs to; the package itself is the empty string."""
    second = module.split(".")[1:2]
    return second[0] if second and second[0] in UPSTREAM else ""


def package_violations(module: str, source: str, is_package: bool = False) -> list[str]:
    """List what a module of ``drqn_sb3`` imports against the direction."""
    own = unit(module)
    found = []
    for name in imports(module, source, is_package):
        top = name.split(".")[0]
        against = top == "drqn_sb3" and unit(name) not in UPSTREAM[own] | {own}
        if against or top in {"eval", "tests"} or (top in ZOO and own not in {"zoo", "zoo_runs", "_zoo_hook"}):
            found.append(f"{module} imports {name}")
    return found


def top_level() -> list[str]:
    """List the top-level entries: in a git checkout those that git tracks, whatever else lies there, elsewhere all."""
    if not (ROOT / ".git").exists():
        return [path.name for path in ROOT.iterdir()]
    run = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    return sorted({path.split("/")[0] for path in run.stdout.split("\0") if path})


def misplaced(entries: list[str], ignored: list[str]) -> list[str]:
    """List the top-level entries that are neither part of the layout nor ignored by git."""
    patterns = [pattern.strip("/") for pattern in ignored if pattern and not pattern.startswith("#")]
    return [
        entry
        for entry in entries
        if entry not in TOP_LEVEL and not any(fnmatch.fnmatch(entry, pattern) for pattern in patterns)
    ]


def modules_of(package: str) -> dict[str, Path]:
    """Map the dotted names of a package's modules to their files."""
    paths = sorted((ROOT / package).rglob("*.py"))
    dotted = {path: ".".join(path.relative_to(ROOT).with_suffix("").parts) for path in paths}
    return {name.removesuffix(".__init__"): path for path, name in dotted.items()}


PACKAGE_MODULES = modules_of("drqn_sb3")


@pytest.mark.parametrize("module", PACKAGE_MODULES)
def test_every_module_has_a_place_in_the_layout(module: str) -> None:
    assert module == "drqn_sb3" or module.split(".")[1] in UPSTREAM


@pytest.mark.parametrize("module", PACKAGE_MODULES)
def test_modules_import_only_what_is_upstream(module: str) -> None:
    path = PACKAGE_MODULES[module]
    assert package_violations(module, path.read_text(), path.name == "__init__.py") == []


BAD_IMPORTS = {
    "downstream": ("drqn_sb3.losses", "from drqn_sb3.buffers import SequenceReplayBuffer"),
    "downstream, relative": ("drqn_sb3.losses", "from .buffers import SequenceReplayBuffer"),
    "downstream, as a name of the package": ("drqn_sb3.losses", "from drqn_sb3 import buffers"),
    "downstream, inside a function": ("drqn_sb3.policies", "def f():\n    import drqn_sb3.drqn"),
    "downstream, where no type is checked": (
        "drqn_sb3.losses",
        "if TYPE_CHECKING:\n    pass\nelse:\n    from drqn_sb3 import drqn",
    ),
    "sideways": ("drqn_sb3.policies", "from drqn_sb3.buffers import SequenceReplayBuffer"),
    "the package itself": ("drqn_sb3.buffers", "from drqn_sb3 import DRQN"),
    "an environment from the agent": ("drqn_sb3.drqn", "from drqn_sb3.envs import RecallEnv"),
    "the agent from an environment": ("drqn_sb3.envs.recall", "from ..drqn import DRQN"),
    "a wrapper from an environment": ("drqn_sb3.envs.recall", "from drqn_sb3 import wrappers"),
    "the zoo plugin from the package": ("drqn_sb3", "from drqn_sb3.zoo import register"),
    "rl_zoo3": ("drqn_sb3.drqn", "from rl_zoo3 import ALGOS"),
    "optuna": ("drqn_sb3.policies", "import optuna.samplers"),
    "the harness": ("drqn_sb3.zoo", "from eval import demo"),
}


@pytest.mark.parametrize(("module", "source"), BAD_IMPORTS.values(), ids=BAD_IMPORTS.keys())
def test_an_import_against_the_direction_is_found(module: str, source: str) -> None:
    assert package_violations(module, source)


GOOD_IMPORTS = {
    "upstream": ("drqn_sb3.drqn", "from drqn_sb3 import losses\nfrom drqn_sb3.buffers import SequenceReplayBuffer"),
    "its own folder": ("drqn_sb3.envs.recall", "from .registration import register_envs"),
    "a type": ("drqn_sb3.buffers", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import drqn_sb3.drqn"),
    "the zoo, from the plugin": ("drqn_sb3.zoo", "import optuna\nfrom rl_zoo3 import ALGOS\nfrom drqn_sb3 import DRQN"),
}


@pytest.mark.parametrize(("module", "source"), GOOD_IMPORTS.values(), ids=GOOD_IMPORTS.keys())
def test_an_import_along_the_direction_is_accepted(module: str, source: str) -> None:
    assert package_violations(module, source) == []


def loaded_by(statement: str, suspects: set[str]) -> set[str]:
    """Run ``statement`` in a fresh interpreter and return which of ``suspects`` it has loaded."""
    code = f"{statement}\nimport sys\nprint(*(name for name in {sorted(suspects)!r} if name in sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(run.stdout.split())


def test_importing_the_package_loads_neither_the_zoo_nor_optuna() -> None:
    assert loaded_by("import drqn_sb3", ZOO) == set()


def test_a_loaded_zoo_is_found() -> None:
    assert loaded_by("import drqn_sb3, optuna", ZOO) == {"optuna"}


def test_what_works_on_numbers_alone_loads_no_heavy_library() -> None:
    modules = ", ".join(f"eval.{name}" for name in LIGHT)
    assert loaded_by(f"import {modules}", HEAVY) == set()


def test_statistics_know_no_plotting_and_plots_read_no_files() -> None:
    kept_out = {"stats": ("matplotlib", "seaborn", "eval."), "plots": FILES, "plot_style": FILES}
    for module, names in kept_out.items():
        found = imports(f"eval.{module}", (ROOT / "eval" / f"{module}.py").read_text())
        assert [name for name in found if name.startswith(names)] == []


PEERS = {name: path for name, path in modules_of("eval").items() if name.startswith("eval.throughput.peers.")}


@pytest.mark.parametrize("module", PEERS)
def test_a_peers_worker_imports_only_what_its_environment_has(module: str) -> None:
    found = set(imports(module, PEERS[module].read_text()))
    assert not {name for name in found if name.split(".")[0] in HEAVY - {"torch"}}
    assert {".".join(name.split(".")[:3]) for name in found if name.startswith("eval.")} <= SHARED_WITH_PEERS


def test_the_top_level_holds_what_the_layout_names() -> None:
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    assert misplaced(top_level(), ignored) == []


def test_a_stray_top_level_entry_is_found() -> None:
    assert misplaced(["scripts", "eval", "logs", "build"], ["# runs", "", "/logs/", "build/"]) == ["scripts"]


def test_there_is_no_module_named_utils() -> None:
    paths = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    assert [path for path in paths if path.stem in {"utils", "util", "helpers"}] == []
