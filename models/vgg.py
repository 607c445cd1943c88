"""VGG-16 with batch normalisation, for 32 x 32 images.

Simonyan & Zisserman 2015, configuration D, with one linear layer behind the 1 x 1 feature map as
is usual at this size (Li et al. 2017, "Pruning Filters for Efficient ConvNets", section 4.1).
"""

import torch
from torch import Tensor, nn

_WIDTHS = (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0)  # 0: pool


class VGG(nn.Module):
    """13 convolutions in five pooled stages and a linear layer."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for width in _WIDTHS:
            if not width:
                layers.append(nn.MaxPool2d(2))
                continue
            layers += [nn.Conv2d(channels, width, 3, padding=1, bias=False)]
            layers += [nn.BatchNorm2d(width), nn.ReLU()]
            channels = width
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        """N x 3 x 32 x 32 images to N x classes logits."""
        return torch.as_tensor(self.classifier(self.features(x).flatten(1)))


def vgg16_bn() -> VGG:
    """14.7 M parameters, untrained."""
    return VGG()
