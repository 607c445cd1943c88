"""MobileNetV2 for 32 x 32 images: Sandler et al. 2018, table 2, the first two strides set to 1."""

import torch
from torch import Tensor, nn

_STAGES = (  # expansion, width, blocks, stride
    (1, 16, 1, 1),
    (6, 24, 2, 1),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


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

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        layers: list[nn.Module] = [_conv(3, 32, 3)]
        channels = 32
        for expansion, width, blocks, stride in _STAGES:
            for i in range(blocks):
                step = stride if i == 0 else 1
                layers.append(InvertedResidual(channels, width, expansion, step))
                channels = width
        layers.append(_conv(channels, 1280, 1))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(1280, classes)

    def forward(self, x: Tensor) -> Tensor:
        """N x 3 x 32 x 32 images to N x classes logits."""
        return torch.as_tensor(self.classifier(self.features(x).mean((2, 3))))


def mobilenetv2() -> MobileNetV2:
    """2.2 M parameters, untrained."""
    return MobileNetV2()


def _conv(channels: int, width: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(channels, width, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU6(),
    )
