import sys

import numpy as np
import pygame
import pytest
from gymnasium.error import DependencyNotInstalled

from drqn_sb3.envs.viewer import Window

from .matches import make


@pytest.fixture(autouse=True)
def no_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")


def shown() -> np.ndarray:
    """What the window shows: ``(height, width, 3)``."""
    surface = pygame.display.get_surface()
    assert surface is not None
    return np.asarray(pygame.surfarray.array3d(surface)).swapaxes(0, 1)


def test_the_window_shows_the_picture() -> None:
    picture = np.random.default_rng(0).integers(256, size=(20, 40, 3), dtype=np.uint8)
    window = Window("test", fps=1000)
    window.show(picture)
    np.testing.assert_array_equal(shown(), picture)
    window.show(picture[::2, ::2])
    np.testing.assert_array_equal(shown(), picture[::2, ::2])
    window.close()


def test_the_window_closes_with_the_last_that_uses_it() -> None:
    first, second = Window("first", fps=1000), Window("second", fps=1000)
    first.close()
    first.close()
    assert pygame.display.get_init()
    second.show(np.zeros((8, 8, 3), dtype=np.uint8))
    second.close()
    assert not pygame.display.get_init()


@pytest.mark.parametrize(
    ("env_id", "shape"), [("SlimeVolley-v0", (500, 1200, 3)), ("SlimeVolleyNoFrameskip-v0", (336, 672, 3))]
)
def test_a_human_sees_every_frame_without_calling_render(env_id: str, shape: tuple[int, ...]) -> None:
    env, twin = make(env_id, render_mode="human"), make(env_id, render_mode="rgb_array")
    action = 0 if env_id.endswith("NoFrameskip-v0") else [0, 0, 0]
    env.reset(seed=0)
    twin.reset(seed=0)
    for _ in range(3):
        assert shown().shape == shape
        np.testing.assert_array_equal(shown(), twin.render())
        env.step(action)
        twin.step(action)
    assert env.render() is None
    env.close()
    env.close()
    assert not pygame.display.get_init()


def test_a_frame_is_shown_once_however_often_render_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    n_shown = 0
    show = Window.show

    def counting(window: Window, picture: np.ndarray) -> None:
        nonlocal n_shown
        n_shown += 1
        show(window, picture)

    monkeypatch.setattr(Window, "show", counting)
    env = make("SlimeVolley-v0", render_mode="human")
    env.reset(seed=0)
    for _ in range(3):
        env.render()
    assert n_shown == 1
    env.step([0, 0, 0])
    assert n_shown == 2
    env.close()


def test_without_pygame_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pygame", None)
    with pytest.raises(DependencyNotInstalled, match=r'pip install "gymnasium\[classic-control\]"'):
        Window("test", fps=1)
