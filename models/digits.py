"""The network hwprune uses when none is named: a residual network for scikit-learn's digits.

The images are enlarged to 128 x 128 pixels, so that it takes a server core tens of milliseconds
and stands for the networks people bring. `tools/train_digits.py` made the weights beside it.
"""

from .resnet import ResNet

INPUT_SHAPE = (1, 1, 128, 128)
WIDTHS = (64, 64, 96, 96)


def digits() -> ResNet:
    """18 convolutions in four stages, 0.95 M parameters, untrained."""
    return ResNet(WIDTHS, blocks=2, option="b", channels=1)
