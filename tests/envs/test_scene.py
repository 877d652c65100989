import numpy as np
import pytest

from drqn_sb3.envs.scene import PIXEL_VIEW, WINDOW_VIEW, draw_scene

from .matches import actions, make, original


@pytest.mark.usefixtures("original_globals")
@pytest.mark.parametrize("seed", [0, 1])
def test_the_plain_drawing_equals_the_originals_canvas(seed: int) -> None:
    env = make("SlimeVolley-v0")
    env.reset(seed=seed)
    original.setPixelObsMode()
    playing = actions(env, seed)
    for _ in range(60):
        env.step(next(playing))
        game = env.game
        # the original takes the agents' colours from the moment when they were made
        game.agent_left.c, game.agent_right.c = PIXEL_VIEW.left_colour, PIXEL_VIEW.right_colour
        np.testing.assert_array_equal(draw_scene(game, PIXEL_VIEW), game.display(None))


def test_the_windows_picture_shows_everything_at_its_place() -> None:
    env = make("SlimeVolley-v0")
    env.reset(seed=0)
    picture = draw_scene(env.game, WINDOW_VIEW)
    assert picture.shape == (500, 1200, 3)
    expected = {
        "sky": ((10, 600), (11, 16, 19)),
        "ground": ((490, 300), (116, 114, 117)),
        "fence": ((440, 600), (102, 56, 35)),
        "left agent": ((457, 280), (35, 93, 188)),
        "right agent": ((457, 920), (255, 236, 0)),
        "ball": ((200, 600), (217, 79, 0)),
        "left coin": ((37, 37), (102, 56, 35)),
        "right coin": ((37, 1162), (102, 56, 35)),
    }
    assert {name: tuple(picture[where].tolist()) for name, (where, _) in expected.items()} == {
        name: colour for name, (_, colour) in expected.items()
    }


def test_an_eye_that_the_ball_is_centred_on_can_be_drawn() -> None:
    env = make("SlimeVolley-v0")
    env.reset(seed=0)
    ball, agent = env.game.ball, env.game.agent_left
    ball.x = agent.x + 0.6 * 1.5 * np.cos(np.pi * 60 / 180)
    ball.y = agent.y + 0.6 * 1.5 * np.sin(np.pi * 60 / 180)
    assert draw_scene(env.game, PIXEL_VIEW).shape == (336, 672, 3)
