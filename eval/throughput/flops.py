"""
How many floating point operations an update of the paper's network needs, counted by hand.

Counted are the multiplications and additions of convolutions and matrix products, two for each pair; what works pointwise
is left out (under 1 %). Imports neither PyTorch nor Stable-Baselines3.
"""

from typing import NamedTuple

# The Nature convolutions: filters, kernel size, stride
CONVOLUTIONS = ((32, 8, 4), (64, 4, 2), (64, 3, 1))


class Forward(NamedTuple):
    """
    Operations of one frame's way through the network.

    :param first_convolution: of the first layer, whose input needs no gradient
    :param other_convolutions: of the others
    :param input_projection: from the features to the LSTM's gates
    :param recurrence: from the hidden state to the gates
    :param head: from the hidden state to the Q-values
    """

    first_convolution: int
    other_convolutions: int
    input_projection: int
    recurrence: int
    head: int


def forward_flops(image_size: int, hidden_size: int, n_actions: int) -> Forward:
    """
    :param image_size: height and width of a frame, one channel
    :param hidden_size: features of the LSTM
    :param n_actions: number of actions
    :return: operations per frame
    """
    channels, size, layers = 1, image_size, []
    for filters, kernel, stride in CONVOLUTIONS:
        size = (size - kernel) // stride + 1
        layers.append(2 * size**2 * filters * channels * kernel**2)
        channels = filters
    n_features = channels * size**2
    return Forward(
        first_convolution=layers[0],
        other_convolutions=sum(layers[1:]),
        input_projection=2 * n_features * 4 * hidden_size,
        recurrence=2 * hidden_size * 4 * hidden_size,
        head=2 * hidden_size * n_actions,
    )


def update_flops(image_size: int, hidden_size: int, n_actions: int, batch_size: int, sequence_length: int) -> int:
    """
    Operations of one update of this project's DRQN, with one-step double Q-learning and no burn-in.

    Both networks go forward over each window and the step after it; the gradient comes back over the window, for the weights
    and for the inputs, except for the frames' and the first hidden state's.

    :param image_size: height and width of a frame, one channel
    :param hidden_size: features of the LSTM
    :param n_actions: number of actions
    :param batch_size: number of windows
    :param sequence_length: trained steps in a window
    :return: operations
    """
    frame = forward_flops(image_size, hidden_size, n_actions)
    forward = 2 * (sequence_length + 1) * sum(frame)
    backward = sequence_length * (2 * sum(frame) - frame.first_convolution) - frame.recurrence
    return batch_size * (forward + backward)


def n_parameters(image_size: int, hidden_size: int, n_actions: int) -> int:
    """
    Size of the paper's network: convolutions, LSTM with its two biases, linear Q-values.

    :param image_size: height and width of a frame, one channel
    :param hidden_size: features of the LSTM
    :param n_actions: number of actions
    :return: number of parameters
    """
    channels, size, total = 1, image_size, 0
    for filters, kernel, stride in CONVOLUTIONS:
        size = (size - kernel) // stride + 1
        total += filters * (channels * kernel**2 + 1)
        channels = filters
    gates = 4 * hidden_size
    return total + gates * (channels * size**2 + hidden_size + 2) + n_actions * (hidden_size + 1)
