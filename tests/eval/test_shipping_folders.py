"""Which folder an agent goes to, by what it is."""

from pathlib import Path
from typing import Any

import pytest
from made_results import PONG, Made, make

from eval.evaluation.environments import EnvSpec
from eval.evaluation.models import Contestant
from eval.shipping.card import make_card, write_card
from eval.shipping.folders import choose_folders
from eval.shipping.trained import Trained


def a_trained(root: Path, **changes: Any) -> Trained:
    result = make(root, Made(), **changes)
    contestant = Contestant("drqn", "drqn", Path(f"{PONG}.zip"), EnvSpec(PONG, {}, []), PONG, "normal", 0, {})
    return Trained(result, root, contestant, [])


@pytest.mark.parametrize("change", [{"suite": "other"}, {"algo": "qrdqn"}], ids=["suite", "algorithm"])
def test_agents_of_one_name_and_different_origin_have_folders_of_their_own(change: dict[str, Any], tmp_path: Path) -> None:
    to = tmp_path / "agents"
    one, other = a_trained(tmp_path / "one"), a_trained(tmp_path / "other", **change)
    assert choose_folders(to, [one, other]) == [to / "drqn" / f"{PONG}_1", to / "drqn" / f"{PONG}_2"]
    (to / "drqn" / f"{PONG}_1").mkdir(parents=True)
    write_card(to / "drqn" / f"{PONG}_1", make_card(one.result, "DRQN", [], {}, 1))
    assert choose_folders(to, [other]) == [to / "drqn" / f"{PONG}_2"]
    assert choose_folders(to, [one]) == [to / "drqn" / f"{PONG}_1"]


def test_an_agent_that_is_given_twice_is_named_with_both_folders(tmp_path: Path) -> None:
    one, copy = a_trained(tmp_path / "one"), a_trained(tmp_path / "copy")
    with pytest.raises(ValueError, match=rf"given once, got .* in {one.result.folder} and in {copy.result.folder}"):
        choose_folders(tmp_path / "agents", [one, copy])
