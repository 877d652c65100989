"""
Start-up hook: makes a plain install of drqn_sb3 known to RL Baselines3 Zoo (rl_zoo3).

The zoo has no plugin mechanism and fixes the choices of ``--algo`` before it imports anything that a user names, so an
algorithm has to be there as soon as ``rl_zoo3`` has been imported. Installing drqn_sb3 puts this file at the top of
site-packages as ``_drqn_sb3_zoo_hook.py``, beside ``drqn_sb3_zoo.pth``, which makes every interpreter call
:func:`install` when it starts. That puts a finder in front of the others, which waits for ``rl_zoo3`` to be imported,
calls ``drqn_sb3.zoo.register()`` after it, and then takes itself away. Every script of the zoo imports ``rl_zoo3``
before anything else of it, and at that moment none of its other modules is half imported.

The file stands alone: it must not import drqn_sb3, nor anything but ``sys``, when an interpreter starts.
``DRQN_SB3_ZOO_HOOK=0`` in the environment turns it off (so do ``off``, ``no`` and ``false``); ``register()`` can then
be called by hand.
"""

import sys

TYPE_CHECKING = False  # as in `typing`, whose import would cost every interpreter some milliseconds
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any

ZOO = "rl_zoo3"
SWITCH = "DRQN_SB3_ZOO_HOOK"


class ZooFinder:
    """Finder for ``sys.meta_path`` that lets the other finders find rl_zoo3 and registers drqn_sb3 after its import."""

    def find_spec(
        self, fullname: str, path: "Sequence[str] | None" = None, target: "ModuleType | None" = None
    ) -> "ModuleSpec | None":
        """
        Find ``rl_zoo3`` by way of the other finders, and nothing else.

        :param fullname: dotted name of the module looked for
        :param path: where to look, ``None`` for a top-level module
        :param target: the module, when it is being reloaded
        :return: the spec, prepared to register; ``None`` for any other module, and when the hook is turned off
        """
        if fullname != ZOO or is_switched_off():
            return None
        for finder in sys.meta_path:
            if finder is not self and hasattr(finder, "find_spec"):
                spec = finder.find_spec(fullname, path, target)
                if spec is not None:
                    if hasattr(spec.loader, "exec_module"):
                        register_after(spec.loader)
                    return spec
        return None


def register_after(loader: "Any") -> None:
    """
    Have a loader remove the hook and register drqn_sb3 once it has executed its module, and be its old self afterwards.

    :param loader: the loader of ``rl_zoo3``, made for this one import
    """
    exec_module = loader.exec_module

    def exec_and_register(module: "ModuleType") -> None:
        import contextlib

        loader.exec_module = exec_module
        with contextlib.suppress(Exception):  # call_register() will meet the same error, and tell
            import drqn_sb3  # noqa: F401  before rl_zoo3, for it imports gym without gym's banner
        exec_module(module)
        uninstall()
        call_register()

    loader.exec_module = exec_and_register


def is_switched_off() -> bool:
    """
    Ask the environment variable.

    :return: whether ``DRQN_SB3_ZOO_HOOK`` turns the hook off
    """
    import os

    return os.environ.get(SWITCH, "").strip().lower() in {"0", "off", "no", "false"}


def install() -> None:
    """Put the hook in place, once, unless ``rl_zoo3`` has already been imported."""
    if ZOO not in sys.modules and not any(isinstance(finder, ZooFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, ZooFinder())


def uninstall() -> None:
    """Take the hook away."""
    sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, ZooFinder)]


def call_register() -> None:
    """Call ``drqn_sb3.zoo.register()``; should that fail, say so in one line on stderr and let rl_zoo3 go on."""
    try:
        from drqn_sb3.zoo import register

        register()
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        advice = f"Reinstall drqn_sb3 to have --algo drqn, or set {SWITCH}=0 to do without it."
        print(f"drqn_sb3 could not register with {ZOO} ({reason}). {advice}", file=sys.stderr)
