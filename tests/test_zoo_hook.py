"""
The start-up hook, as installed in the environment that runs the tests.

What it does is tried on stand-ins for rl_zoo3 and drqn_sb3 that lie in the current directory, so that it takes milliseconds;
test_zoo_cli.py has the real ones.
"""

import os
import subprocess
import sys
from pathlib import Path

import _drqn_sb3_zoo_hook as installed
import pytest

import drqn_sb3

SITE_PACKAGES = Path(installed.__file__).parent
SOURCES = Path(drqn_sb3.__file__).parent
STATE = "print('hooked' if any(type(f).__name__ == 'ZooFinder' for f in sys.meta_path) else 'not hooked')\n"


@pytest.fixture
def stand_ins(tmp_path: Path) -> Path:
    """A folder with an rl_zoo3 and a drqn_sb3 that say what happens to them."""
    write(tmp_path / "rl_zoo3" / "__init__.py", "print('rl_zoo3 imported')")
    write(tmp_path / "rl_zoo3" / "train.py", "print('rl_zoo3.train run')")
    write(tmp_path / "drqn_sb3" / "__init__.py", "")
    write(tmp_path / "drqn_sb3" / "zoo.py", "def register(): print('registered')")
    return tmp_path


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n")


def run(*args: str, cwd: Path = SITE_PACKAGES, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the interpreter as users do, in a directory whose modules come first, the hook on unless turned off."""
    env = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", installed.SWITCH}}
    return subprocess.run([sys.executable, *args], env={**env, **variables}, cwd=cwd, capture_output=True, text=True)


def lines(script: str, cwd: Path = SITE_PACKAGES, **variables: str) -> list[str]:
    """What a script prints, given that it succeeds and has nothing to say on stderr."""
    done = run("-c", f"import sys\n{script}", cwd=cwd, **variables)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def test_what_is_installed_is_what_lies_in_the_sources() -> None:
    assert (SITE_PACKAGES / "_drqn_sb3_zoo_hook.py").read_text() == (SOURCES / "_zoo_hook.py").read_text()
    assert (SITE_PACKAGES / "drqn_sb3_zoo.pth").read_text() == (SOURCES / "drqn_sb3_zoo.pth").read_text()


def test_every_interpreter_starts_with_the_hook_in_front() -> None:
    script = "print(type(sys.meta_path[0]).__name__, *(name for name in sys.modules if 'drqn' in name or 'zoo3' in name))"
    assert lines(script) == ["ZooFinder _drqn_sb3_zoo_hook"]


def test_starting_up_imports_nothing_but_the_hook_itself() -> None:
    script = (
        f"import sys; sys.path.insert(0, {str(SITE_PACKAGES)!r}); before = set(sys.modules); "
        "import _drqn_sb3_zoo_hook; _drqn_sb3_zoo_hook.install(); print(*sorted(set(sys.modules) - before))"
    )
    # Without site: an interpreter that has imported next to nothing yet, not even os
    assert run("-I", "-S", "-c", script).stdout.split() == ["_drqn_sb3_zoo_hook"]


def test_registers_after_the_zoo_has_been_imported_and_goes(stand_ins: Path) -> None:
    assert lines(f"{STATE}import rl_zoo3\n{STATE}", stand_ins) == [
        "hooked",
        "rl_zoo3 imported",
        "registered",
        "not hooked",
    ]


def test_registers_before_a_script_of_the_zoo_runs(stand_ins: Path) -> None:
    done = run("-m", "rl_zoo3.train", cwd=stand_ins)
    assert done.stdout.splitlines() == ["rl_zoo3 imported", "registered", "rl_zoo3.train run"]


def test_registers_when_a_module_of_the_zoo_is_imported_first(stand_ins: Path) -> None:
    assert lines("from rl_zoo3 import train", stand_ins) == ["rl_zoo3 imported", "registered", "rl_zoo3.train run"]


def test_looking_for_the_zoo_without_importing_it_changes_nothing(stand_ins: Path) -> None:
    look = "import importlib.util\nprint(importlib.util.find_spec('rl_zoo3').loader.is_package('rl_zoo3'))\n"
    assert lines(f"{look}{STATE}import rl_zoo3", stand_ins) == ["True", "hooked", "rl_zoo3 imported", "registered"]


def test_other_modules_are_none_of_its_business(stand_ins: Path) -> None:
    write(stand_ins / "rl_zoo3_extras.py", "print('extras imported')")
    assert lines(f"import rl_zoo3_extras\n{STATE}", stand_ins) == ["extras imported", "hooked"]


def test_the_zoo_keeps_its_own_loader(stand_ins: Path) -> None:
    script = "import rl_zoo3\nprint(type(rl_zoo3.__spec__.loader).__name__, rl_zoo3.__loader__ is rl_zoo3.__spec__.loader)"
    assert lines(script, stand_ins)[-1] == "SourceFileLoader True"


def test_reloading_the_zoo_does_not_register_again(stand_ins: Path) -> None:
    script = "import importlib, rl_zoo3\nimportlib.reload(rl_zoo3)"
    assert lines(script, stand_ins) == ["rl_zoo3 imported", "registered", "rl_zoo3 imported"]


@pytest.mark.parametrize("value", ["0", "off", "no", "false", " FALSE "])
def test_the_switch_turns_it_off(value: str, stand_ins: Path) -> None:
    script = "import rl_zoo3\nprint('drqn_sb3' in sys.modules)"
    assert lines(script, stand_ins, **{installed.SWITCH: value}) == ["rl_zoo3 imported", "False"]


@pytest.mark.parametrize("value", ["", "1", "on"])
def test_other_values_of_the_switch_leave_it_on(value: str, stand_ins: Path) -> None:
    assert lines("import rl_zoo3", stand_ins, **{installed.SWITCH: value}) == ["rl_zoo3 imported", "registered"]


def test_the_switch_can_be_set_by_the_program_itself(stand_ins: Path) -> None:
    script = f"import os\nos.environ['{installed.SWITCH}'] = '0'\nimport rl_zoo3"
    assert lines(script, stand_ins) == ["rl_zoo3 imported"]


FAILURES = {
    "register() fails": ("zoo.py", "def register(): raise KeyError('two\\nlines')", r"KeyError: 'two\nlines'"),
    "register() is missing": ("zoo.py", "", "ImportError: cannot import name 'register'"),
    "the package is broken": ("__init__.py", "raise OSError('broken\\n  disk')", "OSError: broken disk"),
    "something it needs is missing": ("zoo.py", "import missing", "ModuleNotFoundError: No module named 'missing'"),
}


@pytest.mark.parametrize(("name", "text", "reason"), FAILURES.values(), ids=FAILURES.keys())
def test_a_failure_is_one_line_and_the_zoo_goes_on(name: str, text: str, reason: str, stand_ins: Path) -> None:
    write(stand_ins / "drqn_sb3" / name, text)
    done = run("-m", "rl_zoo3.train", cwd=stand_ins)
    assert done.returncode == 0
    assert done.stdout.splitlines() == ["rl_zoo3 imported", "rl_zoo3.train run"]
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith(f"drqn_sb3 could not register with rl_zoo3 ({reason}")
    assert "Reinstall drqn_sb3" in done.stderr
    assert "DRQN_SB3_ZOO_HOOK=0" in done.stderr


def test_an_error_of_the_zoo_is_raised_as_ever_and_the_hook_waits_on(stand_ins: Path) -> None:
    write(stand_ins / "rl_zoo3" / "__init__.py", "import sys\nif not hasattr(sys, 'ready'): raise ImportError('not yet')")
    script = f"try:\n    import rl_zoo3\nexcept ImportError as e: print(e)\n{STATE}sys.ready = True\nimport rl_zoo3\n{STATE}"
    assert lines(script, stand_ins) == ["not yet", "hooked", "registered", "not hooked"]


def test_without_the_zoo_importing_it_fails_as_ever() -> None:
    script = (
        # os first: without site and with no path left, Python 3.10 could not import it any more
        f"import os, sys; sys.path.insert(0, {str(SITE_PACKAGES)!r}); "
        "import _drqn_sb3_zoo_hook; _drqn_sb3_zoo_hook.install(); sys.path.clear(); import rl_zoo3"
    )
    assert "ModuleNotFoundError: No module named 'rl_zoo3'" in run("-I", "-S", "-c", script).stderr


def test_installing_it_twice_installs_it_once() -> None:
    count = "print(sum(type(f).__name__ == 'ZooFinder' for f in sys.meta_path))"
    assert lines(f"import _drqn_sb3_zoo_hook\n_drqn_sb3_zoo_hook.install()\n{count}") == ["1"]


def test_it_is_not_installed_once_the_zoo_is_there(stand_ins: Path) -> None:
    script = f"import rl_zoo3, _drqn_sb3_zoo_hook\n_drqn_sb3_zoo_hook.install()\n{STATE}"
    assert lines(script, stand_ins)[-1] == "not hooked"
