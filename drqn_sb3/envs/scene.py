"""
What slimevolleygym draws, and where: the layout of a game in whole canvas pixels, and the drawing itself.

Everything is drawn with OpenCV, anti-aliased, in slimevolleygym's order: background, fence, stub of the fence, left
agent with its coins (its lives beyond the last), right agent with its coins, ball, ground. The arithmetic, down to the
order of the operations and to what is rounded when, is slimevolleygym's, so that the pixels are too.

Positions are in game units (48 wide, the ground's surface at 1.5, y upwards) or in canvas pixels (y downwards).
Colours are RGB.
"""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import cv2
import numpy as np

Colour = tuple[int, int, int]

COURT_WIDTH = 48
GROUND_HEIGHT = 1.5
FENCE_TOP = 3.5
FENCE_WIDTH = 1.0
FENCE_HEIGHT = 2.0
AGENT_RADIUS = 1.5
BALL_RADIUS = 0.5
COIN_RADIUS = 0.5

WHITE: Colour = (255, 255, 255)
BLACK: Colour = (0, 0, 0)

# slimevolleygym's night colours, the only ones that it trains on
BACKGROUND_COLOUR: Colour = (11, 16, 19)
FENCE_COLOUR: Colour = (102, 56, 35)
COIN_COLOUR: Colour = FENCE_COLOUR
GROUND_COLOUR: Colour = (116, 114, 117)
BALL_COLOUR: Colour = (217, 79, 0)

# an agent's eye sits at 60 degrees above the horizontal, looking at the fence: (cosine, sine) by the agent's direction
_EYE_ANGLES = {-1: math.pi * 60 / 180, 1: math.pi * 120 / 180}
_EYE_OFFSETS = {
    direction: (0.6 * AGENT_RADIUS * math.cos(angle), 0.6 * AGENT_RADIUS * math.sin(angle))
    for direction, angle in _EYE_ANGLES.items()
}


@dataclass(frozen=True)
class View:
    """
    How large the scene is drawn, and the agents' colours.

    :param width: of the canvas, in pixels
    :param height: of the canvas, in pixels
    :param left_colour: of the left agent, the built-in opponent
    :param right_colour: of the right agent, the one that learns
    """

    width: int
    height: int
    left_colour: Colour
    right_colour: Colour

    @property
    def factor(self) -> float:
        """Canvas pixels per game unit."""
        return self.width / COURT_WIDTH


# before it is shrunk four times in both directions to the observation; both agents are amber there
PIXEL_VIEW = View(width=672, height=336, left_colour=(255, 191, 0), right_colour=(255, 191, 0))
# for people, when the observation is the state: slimevolleygym's window
WINDOW_VIEW = View(width=1200, height=500, left_colour=(35, 93, 188), right_colour=(255, 236, 0))


class AgentLayout(NamedTuple):
    """Where an agent's parts are centred, in canvas pixels; the body is the upper half of a disc."""

    x: int
    y: int
    eye_x: int
    eye_y: int
    pupil_x: int
    pupil_y: int


class Layout(NamedTuple):
    """Where everything that moves or changes is, in canvas pixels."""

    left: AgentLayout
    right: AgentLayout
    ball_x: int
    ball_y: int
    left_life: int
    right_life: int


def layout_of(game: Any, width: int, height: int) -> Layout:
    """
    Where everything is on a canvas.

    :param game: a ``slimevolleygym.slimevolley.Game``
    :param width: of the canvas, in pixels
    :param height: of the canvas, in pixels
    :return: the layout
    """
    factor = width / COURT_WIDTH
    ball = game.ball
    return Layout(
        _agent_layout(game.agent_left, ball.x, ball.y, factor, height),
        _agent_layout(game.agent_right, ball.x, ball.y, factor, height),
        round((ball.x + COURT_WIDTH / 2) * factor),
        round(height - ball.y * factor),
        game.agent_left.life,
        game.agent_right.life,
    )


def _agent_layout(agent: Any, ball_x: float, ball_y: float, factor: float, height: int) -> AgentLayout:
    """The pupil looks at the ball, or down and away from the fence when the agent is sad."""
    offset_x, offset_y = _EYE_OFFSETS[agent.dir]
    eye_x = agent.x + offset_x
    eye_y = agent.y + offset_y
    if agent.emotion == "sad":
        look_x, look_y = float(-agent.dir), -3.0
    else:
        look_x, look_y = ball_x - eye_x, ball_y - eye_y
    # slimevolleygym divides by zero where the ball is centred on the eye, which rounding never lets happen
    distance = math.sqrt(look_x * look_x + look_y * look_y) or 1.0
    pupil_x = eye_x + look_x / distance * 0.15 * AGENT_RADIUS
    pupil_y = eye_y + look_y / distance * 0.15 * AGENT_RADIUS
    half = COURT_WIDTH / 2
    return AgentLayout(
        round((agent.x + half) * factor),
        height - round(agent.y * factor),
        round((eye_x + half) * factor),
        round(height - eye_y * factor),
        round((pupil_x + half) * factor),
        round(height - pupil_y * factor),
    )


def draw_scene(game: Any, view: View) -> np.ndarray:
    """
    Draw a game, everything on a fresh canvas: the plain way, for people and to compare with.

    :param game: a ``slimevolleygym.slimevolley.Game``
    :param view: how large and in which colours
    :return: RGB, ``(height, width, 3)`` uint8
    """
    layout = layout_of(game, view.width, view.height)
    canvas = new_canvas(view)
    draw_fence(canvas, view)
    draw_agent(canvas, view, layout.left, view.left_colour)
    draw_coins(canvas, view, -1, layout.left_life)
    draw_agent(canvas, view, layout.right, view.right_colour)
    draw_coins(canvas, view, 1, layout.right_life)
    draw_ball(canvas, view, layout.ball_x, layout.ball_y)
    draw_ground(canvas, view)
    return canvas


def new_canvas(view: View) -> np.ndarray:
    """
    A canvas with nothing but the background.

    :param view: how large
    :return: RGB, ``(height, width, 3)`` uint8
    """
    canvas = np.empty((view.height, view.width, 3), dtype=np.uint8)
    canvas[:] = BACKGROUND_COLOUR
    return canvas


def draw_fence(canvas: np.ndarray, view: View) -> None:
    """
    Draw the fence and the round stub on its top.

    :param canvas: drawn on, ``(height, width, 3)`` uint8
    :param view: the canvas's
    """
    factor = view.factor
    _draw_rectangle(canvas, view, -FENCE_WIDTH / 2, FENCE_TOP, FENCE_WIDTH, FENCE_HEIGHT, FENCE_COLOUR)
    centre = (round(COURT_WIDTH / 2 * factor), round(view.height - FENCE_TOP * factor))
    _draw_disc(canvas, centre, FENCE_WIDTH / 2 * factor, FENCE_COLOUR)


def draw_ground(canvas: np.ndarray, view: View) -> None:
    """
    Draw the ground over whatever is there. Its upper edge is blended with what lies beneath, so drawing it twice is
    not the same as drawing it once.

    :param canvas: drawn on, ``(height, width, 3)`` uint8
    :param view: the canvas's
    """
    _draw_rectangle(canvas, view, -COURT_WIDTH / 2, GROUND_HEIGHT, COURT_WIDTH, GROUND_HEIGHT, GROUND_COLOUR)


def draw_agent(canvas: np.ndarray, view: View, agent: AgentLayout, colour: Colour) -> None:
    """
    Draw an agent: body, eye, pupil.

    :param canvas: drawn on, ``(height, width, 3)`` uint8
    :param view: the canvas's
    :param agent: where
    :param colour: of the body
    """
    radius = AGENT_RADIUS * view.factor
    axes = (round(radius), round(radius))
    cv2.ellipse(canvas, (agent.x, agent.y), axes, 0, 0, -180, colour, thickness=-1, lineType=cv2.LINE_AA)
    _draw_disc(canvas, (agent.eye_x, agent.eye_y), radius * 0.3, WHITE)
    _draw_disc(canvas, (agent.pupil_x, agent.pupil_y), radius * 0.1, BLACK)


def draw_coins(canvas: np.ndarray, view: View, direction: int, life: int) -> None:
    """
    Draw an agent's lives beyond the last as coins, along the upper border from its wall inwards.

    :param canvas: drawn on, ``(height, width, 3)`` uint8
    :param view: the canvas's
    :param direction: -1 for the left agent, 1 for the right one
    :param life: how many lives are left
    """
    factor = view.factor
    half = COURT_WIDTH / 2
    y = round(view.height - (view.height - 1.5 * factor))
    for i in range(1, life):
        x = round((direction * (half + 0.5 - i * 2.0) + half) * factor)
        _draw_disc(canvas, (x, y), COIN_RADIUS * factor, COIN_COLOUR)


def draw_ball(canvas: np.ndarray, view: View, x: int, y: int) -> None:
    """
    Draw the ball.

    :param canvas: drawn on, ``(height, width, 3)`` uint8
    :param view: the canvas's
    :param x: centre, in canvas pixels
    :param y: centre, in canvas pixels
    """
    _draw_disc(canvas, (x, y), BALL_RADIUS * view.factor, BALL_COLOUR)


def _draw_disc(canvas: np.ndarray, centre: tuple[int, int], radius: float, colour: Colour) -> None:
    cv2.circle(canvas, centre, round(radius), colour, thickness=-1, lineType=cv2.LINE_AA)


def _draw_rectangle(
    canvas: np.ndarray, view: View, left: float, top: float, width: float, height: float, colour: Colour
) -> None:
    """Position and size in game units, ``left`` counted from the court's middle and ``top`` from the court's bottom."""
    factor = view.factor
    x, y = (left + COURT_WIDTH / 2) * factor, top * factor
    corner = (round(x), round(view.height - y))
    opposite = (round(x + width * factor), round(view.height - y + height * factor))
    cv2.rectangle(canvas, corner, opposite, colour, thickness=-1, lineType=cv2.LINE_AA)
