"""
SlimeVolley's pixel observation, bit for bit slimevolleygym's, at a fraction of its cost.

slimevolleygym fills and draws a canvas of 672x336 pixels and shrinks it four times in both directions; every pixel
of the observation (a *cell* here) is the mean of its own 4x4 canvas pixels. Three facts make the same picture cheap:

- What stands still is shrunk once: one picture per number of lives left and right.
- Shapes sit at whole canvas pixels and OpenCV draws them alike wherever they are, unless the canvas's border cuts them.
  So a shape over plain background looks one of 4x4 ways after shrinking, and those are kept (*patches*). Where the
  shape touches something that stands still, or the border, its patch is kept under its true position.
- Where two moving shapes come close, or one comes close to the coins, the rectangle around them is drawn on a canvas
  as slimevolleygym draws it, and shrunk alone.

The ground is drawn last, and its upper edge is blended with what lies beneath: every patch and rectangle that reaches
it is drawn from below the ground up, with the ground laid over it once.
"""

from functools import lru_cache
from typing import Any, NamedTuple

import cv2
import numpy as np

from drqn_sb3.envs import scene
from drqn_sb3.envs.scene import PIXEL_VIEW, AgentLayout, Colour, Layout

CELL = 4
"""Canvas pixels per observation pixel, in both directions."""
HEIGHT = PIXEL_VIEW.height // CELL
WIDTH = PIXEL_VIEW.width // CELL

_MARGIN = 2  # anti-aliasing paints a little beyond the radius
_AGENT_REACH = round(scene.AGENT_RADIUS * PIXEL_VIEW.factor) + _MARGIN
_BALL_REACH = round(scene.BALL_RADIUS * PIXEL_VIEW.factor) + _MARGIN

# canvas pixels touched by what stands still, rounded outwards to whole cells
_GROUND_TOP = 312
_FENCE_LEFT, _FENCE_RIGHT, _FENCE_TOP = 324, 348, 276
_COINS_BOTTOM, _LEFT_COINS_END, _RIGHT_COINS_START = 32, 116, 556
# a cell's corner far from everything that stands still and from the border
_PLAIN_X, _PLAIN_Y = 100, 200

_PATCHES_KEPT = 16384


class Box(NamedTuple):
    """A rectangle of cells, ends excluded; empty where an end is not beyond its start."""

    top: int
    bottom: int
    left: int
    right: int

    def meets(self, other: "Box") -> bool:
        """
        Whether the two rectangles share a cell.

        :param other: the other one
        :return: whether they do
        """
        return self.left < other.right and other.left < self.right and self.top < other.bottom and other.top < self.bottom

    def joined(self, other: "Box") -> "Box":
        """
        The smallest rectangle around both.

        :param other: the other one
        :return: the rectangle
        """
        return Box(
            min(self.top, other.top),
            max(self.bottom, other.bottom),
            min(self.left, other.left),
            max(self.right, other.right),
        )

    @property
    def is_empty(self) -> bool:
        """Whether it holds no cell."""
        return self.top >= self.bottom or self.left >= self.right


@lru_cache(maxsize=_PATCHES_KEPT)
def agent_box(x: int, y: int) -> Box:
    """
    The cells that an agent can paint.

    :param x: of the body's centre, in canvas pixels
    :param y: of the body's flat side, in canvas pixels
    :return: the cells, cut at the canvas's border
    """
    return _box(x - _AGENT_REACH, x + _AGENT_REACH, y - _AGENT_REACH, y + _MARGIN)


def ball_box(x: int, y: int) -> Box:
    """
    The cells that the ball can paint.

    :param x: of its centre, in canvas pixels
    :param y: of its centre, in canvas pixels; negative where it is above the screen
    :return: the cells, cut at the canvas's border
    """
    return _box(x - _BALL_REACH, x + _BALL_REACH, y - _BALL_REACH, y + _BALL_REACH)


def _box(first_x: int, last_x: int, first_y: int, last_y: int) -> Box:
    """From canvas pixels, ends included."""
    top, bottom, left, right = first_y // CELL, last_y // CELL + 1, first_x // CELL, last_x // CELL + 1
    # min() and max() would take half of the time
    return Box(
        top if top > 0 else 0,
        bottom if bottom < HEIGHT else HEIGHT,
        left if left > 0 else 0,
        right if right < WIDTH else WIDTH,
    )


class PixelRenderer:
    """
    Draws SlimeVolley's pixel observation. Renderers share what they have drawn before, nothing else.

    Example::

        pixels = PixelRenderer().render(game)  # (84, 168, 3) uint8, RGB
    """

    def __init__(self) -> None:
        # a canvas is meaningful inside the rectangle being drawn, and only until the next one
        self._canvas = np.empty((PIXEL_VIEW.height, PIXEL_VIEW.width, 3), dtype=np.uint8)

    def render(self, game: Any) -> np.ndarray:
        """
        Draw a game as slimevolleygym's pixel mode does.

        :param game: a ``slimevolleygym.slimevolley.Game``
        :return: a fresh RGB picture, ``(84, 168, 3)`` uint8
        """
        layout = scene.layout_of(game, PIXEL_VIEW.width, PIXEL_VIEW.height)
        left, right, ball_x, ball_y, left_life, right_life = layout
        picture = _still_picture(left_life, right_life).copy()

        left_box, right_box = agent_box(left.x, left.y), agent_box(right.x, right.y)
        box = ball_box(ball_x, ball_y)
        left_is_alone = _is_clear(left_box) and not left_box.meets(right_box)
        right_is_alone = _is_clear(right_box) and not right_box.meets(left_box)
        ball_is_alone = _is_clear(box)
        if box.meets(left_box):
            left_is_alone = ball_is_alone = False
        if box.meets(right_box):
            right_is_alone = ball_is_alone = False

        if left_is_alone and not left_box.is_empty:
            _paste(picture, left_box, _patch_of_agent(left, PIXEL_VIEW.left_colour))
        if right_is_alone and not right_box.is_empty:
            _paste(picture, right_box, _patch_of_agent(right, PIXEL_VIEW.right_colour))
        if ball_is_alone and not box.is_empty:
            _paste(picture, box, _ball_patch(*_lookalike(ball_x, ball_y, _BALL_REACH, _BALL_REACH)))
        if not (left_is_alone and right_is_alone and ball_is_alone):
            boxes = ((left_box, left_is_alone), (right_box, right_is_alone), (box, ball_is_alone))
            self._redraw(picture, _union([b for b, is_alone in boxes if not is_alone]), layout)
        return picture

    def _redraw(self, picture: np.ndarray, region: Box, layout: Layout) -> None:
        """Draw a rectangle of the picture as slimevolleygym does, everything that reaches into it in its order."""
        canvas, view = self._canvas, PIXEL_VIEW
        _clear(canvas, region)
        has_coins = region.top * CELL < _COINS_BOTTOM
        if region.meets(agent_box(layout.left.x, layout.left.y)):
            scene.draw_agent(canvas, view, layout.left, view.left_colour)
        if has_coins:
            scene.draw_coins(canvas, view, -1, layout.left_life)
        if region.meets(agent_box(layout.right.x, layout.right.y)):
            scene.draw_agent(canvas, view, layout.right, view.right_colour)
        if has_coins:
            scene.draw_coins(canvas, view, 1, layout.right_life)
        if region.meets(ball_box(layout.ball_x, layout.ball_y)):
            scene.draw_ball(canvas, view, layout.ball_x, layout.ball_y)
        _paste(picture, region, _shrunk(canvas, region))


def _is_clear(box: Box) -> bool:
    """Whether no coin can be there: up to four hang in each upper corner."""
    if box.top * CELL >= _COINS_BOTTOM or box.is_empty:
        return True
    return box.left * CELL >= _LEFT_COINS_END and box.right * CELL <= _RIGHT_COINS_START


def _union(boxes: list[Box]) -> Box:
    union = boxes[0]
    for box in boxes[1:]:
        union = union.joined(box)
    return union


def _paste(picture: np.ndarray, box: Box, patch: np.ndarray) -> None:
    picture[box.top : box.bottom, box.left : box.right] = patch


def _clear(canvas: np.ndarray, region: Box) -> None:
    """Put background and fence into a rectangle of a canvas."""
    rows = slice(region.top * CELL, region.bottom * CELL)
    columns = slice(region.left * CELL, region.right * CELL)
    canvas[rows, columns] = _still_canvas()[rows, columns]


def _shrunk(canvas: np.ndarray, region: Box) -> np.ndarray:
    """Lay the ground over a rectangle of a canvas, if it is that low, and shrink the rectangle."""
    if region.bottom * CELL > _GROUND_TOP:
        scene.draw_ground(canvas, PIXEL_VIEW)
    rows = slice(region.top * CELL, region.bottom * CELL)
    columns = slice(region.left * CELL, region.right * CELL)
    size = (region.right - region.left, region.bottom - region.top)
    return cv2.resize(canvas[rows, columns], size, interpolation=cv2.INTER_AREA)


@lru_cache(maxsize=1)
def _still_canvas() -> np.ndarray:
    """Background and fence, without the ground that is drawn over everything."""
    canvas = scene.new_canvas(PIXEL_VIEW)
    scene.draw_fence(canvas, PIXEL_VIEW)
    return canvas


@lru_cache(maxsize=64)
def _still_picture(left_life: int, right_life: int) -> np.ndarray:
    """The observation without agents and ball; not to be written to."""
    canvas = _still_canvas().copy()
    scene.draw_coins(canvas, PIXEL_VIEW, -1, left_life)
    scene.draw_coins(canvas, PIXEL_VIEW, 1, right_life)
    return _shrunk(canvas, Box(0, HEIGHT, 0, WIDTH))


def _lookalike(x: int, y: int, reach: int, below: int) -> tuple[int, int]:
    """
    A position at which a shape's patch is the same, one of few wherever nothing that stands still is near.

    ``reach`` is how far the shape goes to both sides and upwards, ``below`` how far it goes downwards.
    """
    if y + below >= _FENCE_TOP and _FENCE_LEFT - reach <= x < _FENCE_RIGHT + reach:
        return x, y
    # the ground's corners are anti-aliased too: the outermost column of cells is like no other
    if CELL + reach <= x < PIXEL_VIEW.width - CELL - reach:
        x = _PLAIN_X + x % CELL
    if reach <= y < _GROUND_TOP - below:
        y = _PLAIN_Y + y % CELL
    return x, y


def _patch_of_agent(agent: AgentLayout, colour: Colour) -> np.ndarray:
    x, y = _lookalike(agent.x, agent.y, _AGENT_REACH, _MARGIN)
    eye = (agent.eye_x - agent.x, agent.eye_y - agent.y)
    pupil = (agent.pupil_x - agent.x, agent.pupil_y - agent.y)
    return _agent_patch(x, y, *eye, *pupil, colour)


@lru_cache(maxsize=_PATCHES_KEPT)
def _agent_patch(x: int, y: int, eye_x: int, eye_y: int, pupil_x: int, pupil_y: int, colour: Colour) -> np.ndarray:
    """The cells of an agent that is at ``(x, y)``, its eye and pupil relative to it; not to be written to."""
    canvas = np.empty((PIXEL_VIEW.height, PIXEL_VIEW.width, 3), dtype=np.uint8)
    region = agent_box(x, y)
    _clear(canvas, region)
    layout = AgentLayout(x, y, x + eye_x, y + eye_y, x + pupil_x, y + pupil_y)
    scene.draw_agent(canvas, PIXEL_VIEW, layout, colour)
    return _shrunk(canvas, region)


@lru_cache(maxsize=_PATCHES_KEPT)
def _ball_patch(x: int, y: int) -> np.ndarray:
    """The cells of a ball at ``(x, y)``; not to be written to."""
    canvas = np.empty((PIXEL_VIEW.height, PIXEL_VIEW.width, 3), dtype=np.uint8)
    region = ball_box(x, y)
    _clear(canvas, region)
    scene.draw_ball(canvas, PIXEL_VIEW, x, y)
    return _shrunk(canvas, region)
