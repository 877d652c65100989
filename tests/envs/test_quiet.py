import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from drqn_sb3.envs import import_quietly

NOISY = """
import os, sys, warnings
import numpy as np
print("hello")
print("farewell", file=sys.stderr)
warnings.warn("old")
warnings.filterwarnings("once", "something")
np.set_printoptions(precision=1)
os.environ["CHANGED_BY_IMPORT"] = "yes"
os.environ["ADDED_BY_IMPORT"] = "yes"
del os.environ["REMOVED_BY_IMPORT"]
answer = 42
"""


def test_nothing_of_a_noisy_import_gets_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
) -> None:
    (tmp_path / "noisy_module.py").write_text(NOISY)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("CHANGED_BY_IMPORT", "no")
    monkeypatch.setenv("REMOVED_BY_IMPORT", "no")
    before = (dict(os.environ), np.get_printoptions(), list(warnings.filters))
    assert import_quietly("noisy_module").answer == 42
    assert (dict(os.environ), np.get_printoptions(), list(warnings.filters)) == before
    assert capfd.readouterr() == ("", "")
    assert len(recwarn) == 0


def test_a_failing_import_is_raised_and_leaves_no_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "failing_module.py").write_text('import os\nos.environ["ADDED_BY_IMPORT"] = "yes"\nimport no_such_thing')
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ImportError, match="no_such_thing"):
        import_quietly("failing_module")
    assert "ADDED_BY_IMPORT" not in os.environ


IMPORT_AND_PLAY = """
import os, warnings
import numpy as np
before = (dict(os.environ), np.get_printoptions(), list(warnings.filters))
from drqn_sb3.envs import register_envs
import gymnasium as gym
{play}
assert np.get_printoptions() == before[1], np.get_printoptions()
changed = dict(os.environ).items() ^ before[0].items()
assert not any(name.startswith("SDL") for name, _ in changed), changed
assert not any("gym" in str(f) and "gymnasium" not in str(f) for f in warnings.filters), warnings.filters
import slimevolleygym.slimevolley
assert slimevolleygym.slimevolley.PIXEL_MODE is False
"""
PLAY = """
for env_id in ("SlimeVolley-v0", "SlimeVolleyPixel-v0", "SlimeVolleyNoFrameskip-v0",
               "SlimeVolleySurvivalNoFrameskip-v0", "Recall-v0"):
    env = gym.make(env_id, render_mode="ansi" if env_id == "Recall-v0" else "rgb_array")
    env.reset(seed=0)
    env.step(env.action_space.sample())
    env.render()
    env.close()
"""


def test_importing_and_playing_is_silent_and_changes_nothing_in_the_process() -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("SDL", "PYGAME"))}
    command = [sys.executable, "-W", "default", "-c", IMPORT_AND_PLAY.format(play=PLAY)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
