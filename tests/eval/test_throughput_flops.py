"""Operations counted by hand, against PyTorch's counter on the plain implementation's real update."""

import pytest

from eval.throughput.flops import forward_flops, n_parameters, update_flops
from eval.throughput.protocol import Work
from eval.throughput.workers import drqn

SIZES = {
    "small": (36, 16, 3, 4, 5),
    "one step": (40, 8, 2, 3, 1),
    "one window": (52, 24, 6, 1, 6),
    "the paper's network, two short windows": (84, 512, 6, 2, 2),
}


@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES.keys())
def test_the_count_by_hand_is_what_pytorch_counts(sizes: tuple[int, int, int, int, int]) -> None:
    image_size, hidden_size, n_actions, batch_size, sequence_length = sizes
    shape = (image_size, hidden_size, n_actions, batch_size, sequence_length)
    task = drqn.build(Work("updates", "cpu", 1, 0, 0.01, *shape, 2, 160, 20, {"plain": True}))
    assert task.extras["flops"]() == update_flops(*shape)
    assert task.info["parameters"] == n_parameters(image_size, hidden_size, n_actions)


def test_the_papers_network_worked_out() -> None:
    frame = forward_flops(84, 512, 6)
    assert frame.first_convolution == 2 * 20 * 20 * 32 * 8 * 8
    assert frame.other_convolutions == 2 * 9 * 9 * 64 * 4 * 4 * 32 + 2 * 7 * 7 * 64 * 3 * 3 * 64
    assert frame.input_projection == 2 * 3136 * 2048 and frame.recurrence == 2 * 512 * 2048 and frame.head == 2 * 512 * 6
    assert n_parameters(84, 512, 6) == 7_550_118
    assert update_flops(84, 512, 6, 32, 10) == pytest.approx(33.7e9, rel=1e-3)
