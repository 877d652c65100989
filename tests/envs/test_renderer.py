from typing import Any

import cv2
import numpy as np
import pytest

from drqn_sb3.envs import scene
from drqn_sb3.envs.renderer import Box, PixelRenderer, agent_box, ball_box
from drqn_sb3.envs.scene import PIXEL_VIEW

from .matches import make


def drawn_plainly(game: Any) -> np.ndarray:
    """The slow, obvious twin: draw everything on a full canvas and shrink it."""
    return cv2.resize(scene.draw_scene(game, PIXEL_VIEW), (168, 84), interpolation=cv2.INTER_AREA)


def assert_drawn_right(renderer: PixelRenderer, game: Any) -> None:
    picture, expected = renderer.render(game), drawn_plainly(game)
    if not np.array_equal(picture, expected):
        layout = scene.layout_of(game, PIXEL_VIEW.width, PIXEL_VIEW.height)
        cells = np.argwhere((picture != expected).any(axis=-1))[:8].tolist()
        raise AssertionError(f"{layout} is drawn wrong at the cells {cells}")


@pytest.fixture
def game() -> Any:
    env = make("SlimeVolley-v0")
    env.reset(seed=0)
    return env.game


def put(thing: Any, x: int, y: int) -> None:
    """Put an agent or the ball where the canvas pixel ``(x, y)`` is its centre."""
    thing.x, thing.y = x / 14 - 24, (336 - y) / 14


# (first and last x, first and last y, steps of x and y): canvas pixels that the ball's centre goes through
BALL_AREAS = {
    "left border": (-9, 20, 40, 43, 1, 1),
    "right border": (652, 680, 40, 43, 1, 1),
    "above and at the upper border": (332, 335, -24, 24, 1, 1),
    "upper left corner": (-3, 16, -12, 14, 2, 1),
    "every phase over plain background": (400, 404, 150, 154, 1, 1),
    "left coins": (0, 130, 0, 44, 7, 3),
    "right coins": (540, 672, 0, 44, 7, 3),
    "between the coins": (120, 552, 20, 21, 3, 1),
    "fence and stub": (310, 362, 262, 320, 3, 3),
    "ground": (200, 203, 296, 334, 1, 1),
    "ground at the left border": (0, 24, 300, 320, 1, 2),
    "ground at the right border": (650, 672, 300, 320, 1, 2),
    "left agent": (130, 205, 276, 322, 5, 3),
    "right agent": (466, 540, 276, 322, 5, 3),
}


@pytest.mark.parametrize("area", BALL_AREAS.values(), ids=BALL_AREAS.keys())
def test_the_ball_is_drawn_right_everywhere(game: Any, area: tuple[int, ...]) -> None:
    first_x, last_x, first_y, last_y, step_x, step_y = area
    renderer = PixelRenderer()
    for x in range(first_x, last_x + 1, step_x):
        for y in range(first_y, last_y + 1, step_y):
            put(game.ball, x, y)
            assert_drawn_right(renderer, game)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("y", [315, 314, 311, 308, 262, 40])
def test_an_agent_is_drawn_right_everywhere(game: Any, side: str, y: int) -> None:
    renderer = PixelRenderer()
    agent = game.agent_left if side == "left" else game.agent_right
    # its own half, the border's and the fence's surroundings pixel by pixel, the plain rest in odd steps
    inward = [*range(18, 34), *range(34, 290, 13), *range(290, 337)]
    for x in inward if side == "left" else (672 - x for x in inward):
        put(agent, x, y)
        assert_drawn_right(renderer, game)


@pytest.mark.parametrize("emotion", ["happy", "sad"])
def test_the_eyes_are_drawn_right_whichever_way_they_look(game: Any, emotion: str) -> None:
    renderer = PixelRenderer()
    rng = np.random.default_rng(0)
    for agent in (game.agent_left, game.agent_right):
        agent.emotion = emotion
    for angle in np.linspace(0, 2 * np.pi, 150):
        game.ball.x, game.ball.y = 12 * np.cos(angle), 14 + 12 * np.sin(angle)
        game.agent_left.x, game.agent_right.x = rng.uniform(-22, -3), rng.uniform(3, 22)
        game.agent_left.y = 1.5 + 3 * rng.random() * (rng.random() < 0.5)
        assert_drawn_right(renderer, game)


@pytest.mark.parametrize("left_life", range(6))
def test_coins_are_drawn_right_for_all_lives(game: Any, left_life: int) -> None:
    renderer = PixelRenderer()
    for right_life in range(6):
        game.agent_left.life, game.agent_right.life = left_life, right_life
        for x in (21, 50, 107, 300, 565, 594, 651):
            put(game.ball, x, 24)
            assert_drawn_right(renderer, game)


def test_shapes_on_top_of_each_other_are_drawn_right(game: Any) -> None:
    """Anything anywhere, crowded together: more than a match can bring about."""
    renderer = PixelRenderer()
    rng = np.random.default_rng(0)
    for _ in range(500):
        x, y = int(rng.integers(0, 672)), int(rng.integers(-10, 330))
        for thing in (game.ball, game.agent_left, game.agent_right):
            put(thing, x + int(rng.integers(-40, 41)), y + int(rng.integers(-40, 41)))
        for agent in (game.agent_left, game.agent_right):
            agent.emotion = "sad" if rng.random() < 0.3 else "happy"
            agent.life = int(rng.integers(0, 6))
        assert_drawn_right(renderer, game)


def test_pictures_are_fresh_and_may_be_written_to(game: Any) -> None:
    renderer = PixelRenderer()
    first = renderer.render(game)
    expected = first.copy()
    first[:] = 0
    np.testing.assert_array_equal(renderer.render(game), expected)


def test_renderers_in_turns_draw_what_one_alone_draws(game: Any) -> None:
    renderers = [PixelRenderer(), PixelRenderer()]
    for i, x in enumerate(range(100, 240, 7)):
        put(game.ball, x, 300)
        assert_drawn_right(renderers[i % 2], game)


BOXES = {
    "the same": (Box(0, 2, 0, 2), Box(0, 2, 0, 2), True),
    "one cell": (Box(0, 2, 0, 2), Box(1, 3, 1, 3), True),
    "side by side": (Box(0, 2, 0, 2), Box(0, 2, 2, 4), False),
    "one above the other": (Box(0, 2, 0, 2), Box(2, 4, 0, 2), False),
    "above the screen": (Box(0, -3, 0, 2), Box(0, 2, 0, 2), False),
}


@pytest.mark.parametrize(("one", "other", "meet"), BOXES.values(), ids=BOXES.keys())
def test_boxes_meet_where_they_share_a_cell(one: Box, other: Box, meet: bool) -> None:
    assert one.meets(other) is meet
    assert other.meets(one) is meet


def test_joined_boxes_are_the_smallest_around_both() -> None:
    assert Box(1, 2, 3, 4).joined(Box(0, 1, 5, 6)) == Box(0, 2, 3, 6)


def test_boxes_are_cut_at_the_border() -> None:
    assert agent_box(2, 315) == Box(73, 80, 0, 7)
    assert ball_box(671, 100).right == 168
    assert ball_box(300, -40).is_empty
    assert not ball_box(300, -5).is_empty
