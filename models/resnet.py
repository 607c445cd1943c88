"""Residual networks of basic blocks (He et al. 2016, "Deep Residual Learning", sections 3.3, 4.2).

Parameter names are those of the widely used CIFAR implementation: conv1, bn1, layer1.., linear.
"""

from collections.abc import Sequence
from functools import partial
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Option = Literal["a", "b"]
CIFAR_DEPTHS = (20, 32, 44, 56, 110)


class SubsampleAndPad(nn.Module):
    """Option A shortcut: every second pixel, the new channels zero, half in front, half behind."""

    def __init__(self, channels: int, padded: int, stride: int) -> None:
        super().__init__()
        self.stride, self.front = stride, (padded - channels) // 2
        self.behind = padded - channels - self.front

    def forward(self, x: Tensor) -> Tensor:
        """N x C x H x W to N x `padded` x H/stride x W/stride."""
        x = x[:, :, :: self.stride, :: self.stride]
        return F.pad(x, (0, 0, 0, 0, self.front, self.behind))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut."""

    def __init__(self, channels: int, width: int, stride: int, option: Option) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.shortcut = _shortcut(channels, width, stride, option)

    def forward(self, x: Tensor) -> Tensor:
        """N x C x H x W to N x width x H/stride x W/stride."""
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class ResNet(nn.Module):
    """A stem, one stage per width (each but the first halves the image), mean, linear.

    Args:
        widths: channels of each stage.
        blocks: basic blocks in each stage.
        option: shortcut where the shape changes: "a" has no parameters, "b" is a 1x1 convolution.
        channels: of the input.
        classes: width of the output.
    """

    def __init__(
        self,
        widths: Sequence[int],
        blocks: int,
        option: Option,
        channels: int = 3,
        classes: int = 10,
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, widths[0], 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.stages = [f"layer{i + 1}" for i in range(len(widths))]
        before = widths[0]
        for name, width in zip(self.stages, widths, strict=True):
            strides = [1 if name == "layer1" else 2] + [1] * (blocks - 1)
            inputs = [before] + [width] * (blocks - 1)
            stage = [BasicBlock(c, width, s, option) for c, s in zip(inputs, strides, strict=True)]
            self.add_module(name, nn.Sequential(*stage))
            before = width
        self.linear = nn.Linear(before, classes)

    def forward(self, x: Tensor) -> Tensor:
        """N x channels x H x W images to N x classes logits."""
        x = F.relu(self.bn1(self.conv1(x)))
        for name in self.stages:
            x = self.get_submodule(name)(x)
        return torch.as_tensor(self.linear(x.mean((2, 3))))


def cifar_resnet(depth: int, option: Option = "a") -> ResNet:
    """The 6n+2 layer network for 32 x 32 images, 16-32-64 channels."""
    return ResNet((16, 32, 64), (depth - 2) // 6, option)


FACTORIES = {
    f"resnet{depth}" + ("" if option == "a" else "-b"): partial(cifar_resnet, depth, option)
    for depth in CIFAR_DEPTHS
    for option in get_args(Option)
}


def _shortcut(channels: int, width: int, stride: int, option: Option) -> nn.Module:
    if stride == 1 and channels == width:
        return nn.Identity()
    if option == "a":
        return SubsampleAndPad(channels, width, stride)
    return nn.Sequential(nn.Conv2d(channels, width, 1, stride, bias=False), nn.BatchNorm2d(width))
