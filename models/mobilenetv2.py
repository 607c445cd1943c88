"""MobileNetV2: Sandler et al. 2018, table 2."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

_STAGES = (  # expansion, width, blocks
    (1, 16, 1),
    (6, 24, 2),
    (6, 32, 3),
    (6, 64, 4),
    (6, 96, 3),
    (6, 160, 3),
    (6, 320, 1),
)
SMALL = (1, 1, 1, 2, 2, 1, 2, 1)  # strides of the stem and the stages, for images of 32 x 32
LARGE = (2, 1, 2, 2, 2, 1, 2, 1)  # and of 224 x 224, as published


class InvertedResidual(nn.Module):
    """Expand (1x1), depthwise (3x3), project (1x1, linear); a shortcut where shapes allow."""

    def __init__(self, channels: int, width: int, expansion: int, stride: int) -> None:
        super().__init__()
        hidden = channels * expansion
        expand = [_conv(channels, hidden, 1)] if expansion > 1 else []
        self.layers = nn.Sequential(
            *expand,
            _conv(hidden, hidden, 3, stride, groups=hidden),
            nn.Conv2d(hidden, width, 1, bias=False),
            nn.BatchNorm2d(width),
        )
        self.residual = stride == 1 and channels == width

    def forward(self, x: Tensor) -> Tensor:
        """N x C x H x W to N x width x H/stride x W/stride."""
        y = torch.as_tensor(self.layers(x))
        return x + y if self.residual else y


class MobileNetV2(nn.Module):
    """17 inverted residual blocks."""

    def __init__(self, classes: int = 10, strides: Sequence[int] = SMALL) -> None:
        super().__init__()
        layers: list[nn.Module] = [_conv(3, 32, 3, strides[0])]
        channels = 32
        for (expansion, width, blocks), stride in zip(_STAGES, strides[1:], strict=True):
            for i in range(blocks):
                step = 1 if i else stride
                layers.append(InvertedResidual(channels, width, expansion, step))
                channels = width
        layers.append(_conv(channels, 1280, 1))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(1280, classes)

    def forward(self, x: Tensor) -> Tensor:
        """N x 3 x H x W images to N x classes logits."""
        return torch.as_tensor(self.classifier(self.features(x).mean((2, 3))))


def mobilenetv2() -> MobileNetV2:
    """For images of 32 x 32: 2.2 M parameters, untrained."""
    return MobileNetV2()


def _conv(channels: int, width: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(channels, width, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU6(),
    )
