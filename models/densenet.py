"""DenseNet-40 (k = 12) for 32 x 32 images: Huang et al. 2017, section 3, no bottleneck layers."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_GROWTH = 12


class DenseLayer(nn.Module):
    """BN, ReLU, 3x3 convolution; its channels are appended to what came in."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(channels)
        self.conv = nn.Conv2d(channels, _GROWTH, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """N x C x H x W to N x C+12 x H x W."""
        return torch.cat([x, self.conv(F.relu(self.bn(x)))], 1)


class Transition(nn.Module):
    """BN, ReLU, 1x1 convolution and 2x2 mean between two blocks."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(channels)
        self.conv = nn.Conv2d(channels, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """N x C x H x W to N x C x H/2 x W/2."""
        return F.avg_pool2d(self.conv(F.relu(self.bn(x))), 2)


class DenseNet(nn.Module):
    """A stem, three blocks of `layers` with transitions between them, mean, linear."""

    def __init__(self, layers: int = 12, classes: int = 10) -> None:
        super().__init__()
        channels = 16
        features: list[nn.Module] = [nn.Conv2d(3, channels, 3, padding=1, bias=False)]
        for block in range(3):
            for _ in range(layers):
                features.append(DenseLayer(channels))
                channels += _GROWTH
            if block < 2:
                features.append(Transition(channels))
        self.features = nn.Sequential(*features)
        self.bn = nn.BatchNorm2d(channels)
        self.linear = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        """N x 3 x 32 x 32 images to N x classes logits."""
        y = F.relu(self.bn(self.features(x))).mean((2, 3))
        return torch.as_tensor(self.linear(y))


def densenet40() -> DenseNet:
    """1.0 M parameters, untrained."""
    return DenseNet()
