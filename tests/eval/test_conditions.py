import numpy as np
import pytest

from eval.conditions import KINDS, WRAPPERS, Condition, Part, describe_kinds

TEXTS = {
    "normal": ("normal", ()),
    "flicker": ("flicker-0.5", (Part("flicker", 0.5),)),
    "a level that changes nothing": ("flicker-1.0", ()),
    "two that change nothing": ("repeat-1+noise-0", ()),
    "hidden velocities": ("hide_velocity", (Part("hide_velocity", None),)),
    "another order": ("flicker-0.5+hide_velocity", (Part("hide_velocity", None), Part("flicker", 0.5))),
    "all": (
        "flicker-0+freeze-0.25+noise-0.1+hide_velocity+repeat-3",
        (Part("repeat", 3), Part("hide_velocity", None), Part("noise", 0.1), Part("freeze", 0.25), Part("flicker", 0)),
    ),
    "an exponent": ("noise-1e-3", (Part("noise", 0.001),)),
    "blanks": (" hide_velocity + flicker-0.5 ", (Part("hide_velocity", None), Part("flicker", 0.5))),
}


@pytest.mark.parametrize(("text", "parts"), TEXTS.values(), ids=TEXTS.keys())
def test_a_text_has_its_parts_in_canonical_order(text: str, parts: tuple[Part, ...]) -> None:
    condition = Condition.parse(text)
    assert condition.parts == parts
    assert Condition.parse(str(condition)) == condition
    assert hash(Condition.parse(str(condition))) == hash(condition)


BAD_TEXTS = {
    "nothing": ("", "must be 'normal', or of repeat, .* got ''"),
    "unknown": ("flikker-0.5", "must be 'normal', or of repeat, .* got 'flikker-0.5'"),
    "no level": ("flicker", "flicker must have a level .*probability that an observation is shown.* got 'flicker'"),
    "no number": ("flicker-half", "flicker must have a level .* got 'flicker-half'"),
    "above its bound": ("flicker-1.5", "flicker must have a number from 0 to 1 .* got 1.5"),
    "below its bound": ("noise--0.1", "noise must have a number of at least 0 .* got -0.1"),
    "infinite": ("noise-inf", "noise must have a number of at least 0 .* got inf"),
    "not a number": ("freeze-nan", "freeze must have a number from 0 to 1 .* got nan"),
    "half a step": ("repeat-1.5", "repeat must have a whole number of at least 1 .* got 1.5"),
    "no step": ("repeat-0", "repeat must have a whole number of at least 1 .* got 0"),
    "a level too many": ("hide_velocity-1", "hide_velocity must stand without a level, got 'hide_velocity-1'"),
    "twice": ("flicker-0.5+flicker-0.5", "each kind once, got flicker twice"),
    "normal as a part": ("normal+flicker-0.5", "must be 'normal', or of"),
}


@pytest.mark.parametrize(("text", "words"), BAD_TEXTS.values(), ids=BAD_TEXTS.keys())
def test_a_bad_text_is_refused(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Condition.parse(text)


def test_what_is_no_text_is_refused() -> None:
    with pytest.raises(TypeError, match=r"must be a text such as 'normal' or 'flicker-0.5', got 0.5"):
        Condition.parse(0.5)  # type: ignore[arg-type]


def test_a_level_is_told_and_replaced() -> None:
    condition = Condition.parse("hide_velocity+flicker-0.5")
    assert condition.level("flicker") == 0.5
    assert condition.level("noise") == 0
    assert condition.level("hide_velocity") is None
    assert str(condition.replace("flicker", 0.25)) == "hide_velocity+flicker-0.25"
    assert str(condition.replace("flicker", 1.0)) == "hide_velocity"
    assert str(Condition.parse("flicker-0.5").replace("flicker", 1)) == "normal"
    assert str(condition.replace("repeat", 2)) == "repeat-2+hide_velocity+flicker-0.5"
    with pytest.raises(ValueError, match=r"flicker must have a number from 0 to 1 .* got 2"):
        condition.replace("flicker", 2)
    with pytest.raises(ValueError, match="must be one that has a level, got 'hide_velocity'"):
        condition.replace("hide_velocity", 1)


def test_wrappers_are_those_of_a_zoo_config() -> None:
    assert Condition().env_wrappers() == []
    assert Condition.parse("flicker-0.5+repeat-2+hide_velocity").env_wrappers() == [
        {"rl_zoo3.wrappers.FrameSkip": {"skip": 2}},
        {"drqn_sb3.wrappers.HideVelocity": {}},
        {"drqn_sb3.wrappers.FlickerObservation": {"observe_prob": 0.5}},
    ]


def test_its_wrappers_go_around_the_task_and_beneath_what_an_agent_knows_by_itself() -> None:
    skip, own = {"rl_zoo3.wrappers.FrameSkip": {"skip": 2}}, "drqn_sb3.last_action.LastAction"
    condition = Condition.parse("hide_velocity+flicker-0.5")
    hiding = condition.env_wrappers()
    assert len(hiding) == 2
    assert condition.around([]) == hiding
    assert condition.around([skip]) == [skip, *hiding]
    assert condition.around([skip, own]) == [skip, *hiding, own]
    flat = "gymnasium.wrappers.FlattenObservation"
    assert condition.around([skip, own, flat]) == [skip, *hiding, own, flat]
    assert condition.around([skip, flat]) == [skip, flat, *hiding], "flattened is still to be hidden"
    assert condition.around([flat, own]) == [flat, *hiding, own]
    assert Condition().around([skip, own]) == [skip, own]


@pytest.mark.parametrize("behind", ["rl_zoo3.wrappers.FrameSkip", "drqn_sb3.wrappers.HideVelocity"])
def test_nothing_is_hidden_of_what_an_agent_knows_by_itself(behind: str) -> None:
    wrappers = ["drqn_sb3.last_action.LastAction", behind]
    with pytest.raises(ValueError, match=rf"must end in LastAction .*flicker-0\.5.* got LastAction, {behind.split('.')[-1]}"):
        Condition.parse("flicker-0.5").around(wrappers)
    assert Condition().around(wrappers) == wrappers


@pytest.mark.parametrize("text", ["repeat-2", "hide_velocity", "noise-0.1", "freeze-0.5", "flicker-0.5"])
def test_every_kind_has_a_wrapper_that_takes_its_level(text: str) -> None:
    import gymnasium as gym
    from rl_zoo3.utils import get_wrapper_class

    wrap = get_wrapper_class({"env_wrapper": Condition.parse(text).env_wrappers()})
    assert wrap is not None
    env = wrap(gym.make("CartPole-v1"))
    observation, _ = env.reset(seed=0)
    assert np.asarray(observation).shape == (4,)
    ((name, arguments),) = Condition.parse(text).env_wrappers()[0].items()
    assert type(env).__name__ == name.rsplit(".", 1)[1]
    assert (type(env).__name__ in WRAPPERS) == (not text.startswith("repeat"))
    assert list(arguments.values()) == [level for part in Condition.parse(text).parts if (level := part.level) is not None]


def test_every_kind_is_described() -> None:
    lines = describe_kinds().splitlines()
    assert [line.split(":")[0] for line in lines] == [
        "normal",
        "repeat-N",
        "hide_velocity",
        "noise-X",
        "freeze-X",
        "flicker-X",
    ]
    assert len(lines) == len(KINDS) + 1
