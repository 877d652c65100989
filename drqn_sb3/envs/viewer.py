"""A window on the screen, through pygame."""

from typing import Any, ClassVar

import numpy as np
from gymnasium.error import DependencyNotInstalled

from drqn_sb3.envs.quiet import import_quietly


def _pygame() -> Any:
    """Import pygame without its greeting and without starting its sound."""
    try:
        return import_quietly("pygame")
    except ImportError as error:
        raise DependencyNotInstalled(
            'render_mode="human" needs pygame, which is not installed: run `pip install "gymnasium[classic-control]"`, '
            'or use render_mode="rgb_array", which needs nothing'
        ) from error


class Window:
    """
    Shows pictures, waiting between them so that people can follow.

    pygame has one window per process: several of these share it, and it closes with the last of them.

    :param caption: the window's title
    :param fps: how many pictures a second are shown at most
    :raises gymnasium.error.DependencyNotInstalled: if pygame is missing
    """

    _n_open: ClassVar[int] = 0

    def __init__(self, caption: str, fps: float) -> None:
        self._pygame = _pygame()
        self._fps = fps
        self._is_open = True
        type(self)._n_open += 1
        self._pygame.display.init()
        self._pygame.display.set_caption(caption)
        self._clock = self._pygame.time.Clock()

    def show(self, picture: np.ndarray) -> None:
        """
        Show a picture, and let the window react to the person in front of it.

        :param picture: RGB, ``(height, width, 3)`` uint8
        """
        height, width = picture.shape[:2]
        surface = self._pygame.display.get_surface()
        if surface is None or surface.get_size() != (width, height):
            surface = self._pygame.display.set_mode((width, height))
        image = self._pygame.image.frombuffer(np.ascontiguousarray(picture).data, (width, height), "RGB")
        surface.blit(image, (0, 0))
        self._pygame.event.pump()
        self._pygame.display.flip()
        self._clock.tick(self._fps)

    def close(self) -> None:
        """Close the window, if no other environment shows pictures in it. Closing twice is harmless."""
        if not self._is_open:
            return
        self._is_open = False
        type(self)._n_open -= 1
        if type(self)._n_open == 0:
            self._pygame.display.quit()
