"""Small networks of the families people deploy, with random weights: what coverage is judged by.

Convolutional ones are written out here; others are in `configured`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Inputs = tuple[Tensor, ...]


@dataclass(frozen=True, slots=True)
class Family:
    """A network in evaluation mode, made by `build`, and example inputs of it."""

    name: str
    build: Callable[[], nn.Module]
    inputs: Callable[[], Inputs]


def image(size: int = 64, channels: int = 3) -> Callable[[], Inputs]:
    """One image of noise."""
    return lambda: (torch.randn(1, channels, size, size),)


def conv(i: int, o: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Convolution, batch normalisation, ReLU."""
    plain = nn.Conv2d(i, o, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(plain, nn.BatchNorm2d(o), nn.ReLU())


def randomize(module: nn.Module, seed: int = 0) -> nn.Module:
    """Random weights of sane scale throughout, in place: nothing dies out, nothing is symmetric.

    The tiny initial weights of many libraries leave outputs that hardly depend on anything.
    """
    generator = torch.Generator().manual_seed(seed)
    for tensor in (*module.parameters(), *module.buffers()):
        if not tensor.is_floating_point():
            continue
        if tensor.ndim < 2:
            tensor.data.uniform_(0.5, 1.5, generator=generator)
        else:
            scale = (2 / tensor[0].numel()) ** 0.5
            tensor.data.normal_(0, scale, generator=generator)
    return module


class DenseNet(nn.Module):
    """Concatenated features (Huang et al. 2017), two dense blocks."""

    def __init__(self, growth: int = 12, layers: int = 4) -> None:
        super().__init__()
        self.stem = conv(3, 24)
        self.first = nn.ModuleList(conv(24 + i * growth, growth) for i in range(layers))
        self.down = conv(24 + layers * growth, 36, 1)
        self.second = nn.ModuleList(conv(36 + i * growth, growth) for i in range(layers))
        self.head = nn.Linear(36 + layers * growth, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        x = self.stem(x)
        for layer in self.first:
            x = torch.cat([x, layer(x)], 1)
        x = F.avg_pool2d(self.down(x), 2)
        for layer in self.second:
            x = torch.cat([x, layer(x)], 1)
        return _answer(self.head, x)


class ShuffleUnit(nn.Module):
    """The basic unit of ShuffleNetV2 (Ma et al. 2018): split, transform one half, shuffle."""

    def __init__(self, width: int) -> None:
        super().__init__()
        half = width // 2
        self.branch = nn.Sequential(
            conv(half, half, 1), conv(half, half, groups=half), conv(half, half, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Channels of both halves, alternating."""
        left, right = x.chunk(2, 1)
        n, c, h, w = x.shape
        joined = torch.cat([left, self.branch(right)], 1)
        return joined.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)


class SqueezeExcite(nn.Module):
    """A residual block gated by its own average (Hu et al. 2018)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(conv(width, width), conv(width, width))
        self.gate = nn.Sequential(
            nn.Linear(width, width // 4), nn.ReLU(), nn.Linear(width // 4, width), nn.Sigmoid()
        )

    def forward(self, x: Tensor) -> Tensor:
        """The block's output plus its input."""
        y = self.body(x)
        gate = self.gate(y.mean((2, 3)))
        return F.relu(x + y * gate[:, :, None, None])


class Inception(nn.Module):
    """Four branches side by side (Szegedy et al. 2015)."""

    def __init__(self, i: int, o: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            [
                conv(i, o, 1),
                nn.Sequential(conv(i, o, 1), conv(o, o, 3)),
                nn.Sequential(conv(i, o, 1), conv(o, o, 5)),
                nn.Sequential(nn.MaxPool2d(3, 1, 1), conv(i, o, 1)),
            ]
        )

    def forward(self, x: Tensor) -> Tensor:
        """All branches concatenated."""
        return torch.cat([branch(x) for branch in self.branches], 1)


class UNet(nn.Module):
    """Encoder, decoder with transposed convolutions, skips by concatenation."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        w = width
        self.down = nn.ModuleList([conv(3, w), conv(w, 2 * w), conv(2 * w, 4 * w)])
        self.up = nn.ModuleList(
            [nn.ConvTranspose2d(4 * w, 2 * w, 2, 2), nn.ConvTranspose2d(2 * w, w, 2, 2)]
        )
        self.join = nn.ModuleList([conv(4 * w, 2 * w), conv(2 * w, w)])
        self.head = nn.Conv2d(w, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        """A map of 5 classes at the size of the input."""
        first = self.down[0](x)
        second = self.down[1](F.max_pool2d(first, 2))
        x = self.down[2](F.max_pool2d(second, 2))
        x = self.join[0](torch.cat([second, self.up[0](x)], 1))
        x = self.join[1](torch.cat([first, self.up[1](x)], 1))
        answer: Tensor = self.head(x)
        return answer


class Detector(nn.Module):
    """A feature pyramid with one head shared by its levels; boxes and scores as flat lists."""

    def __init__(self, width: int = 24, classes: int = 4) -> None:
        super().__init__()
        self.stages = nn.ModuleList([conv(3, 16, 3, 2), conv(16, 32, 3, 2), conv(32, 64, 3, 2)])
        self.lateral = nn.ModuleList(nn.Conv2d(c, width, 1) for c in (16, 32, 64))
        self.tower = nn.Sequential(conv(width, width), conv(width, width))
        self.scores, self.boxes = nn.Conv2d(width, 3 * classes, 1), nn.Conv2d(width, 12, 1)
        self.classes = classes

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Scores (N x anchors x classes) and boxes (N x anchors x 4)."""
        features = []
        for stage, lateral in zip(self.stages, self.lateral, strict=True):
            x = stage(x)
            features.append(lateral(x))
        for i in (1, 0):
            features[i] = features[i] + F.interpolate(features[i + 1], scale_factor=2.0)
        towers = [self.tower(f) for f in features]
        flat = [
            torch.cat([self._flat(head(t), k) for t in towers], 1)
            for head, k in ((self.scores, self.classes), (self.boxes, 4))
        ]
        return flat[0].sigmoid(), flat[1]

    @staticmethod
    def _flat(x: Tensor, k: int) -> Tensor:
        n, _, h, w = x.shape
        return x.view(n, -1, k, h, w).permute(0, 3, 4, 1, 2).reshape(n, -1, k)


class Keywords(nn.Module):
    """One-dimensional convolutions over a sound (as in wav2vec), group normalisation, GELU."""

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        self.stem = nn.Conv1d(1, width, 10, 5)
        self.norm = nn.GroupNorm(width // 4, width)
        self.body = nn.Conv1d(width, 2 * width, 3, 2)
        self.instance = nn.InstanceNorm1d(2 * width, affine=True)
        self.head = nn.Linear(2 * width, 6)

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        x = F.gelu(self.norm(self.stem(x)))
        x = F.relu(self.instance(self.body(x)))
        answer: Tensor = self.head(x.mean(2))
        return answer


class Siamese(nn.Module):
    """Two images through the same weights; their difference is judged."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(conv(3, 16), conv(16, 32, 3, 2))
        self.head = nn.Linear(32, 2)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Logits."""
        return _answer(self.head, (self.body(a) - self.body(b)).abs())


class Classifier(nn.Sequential):
    """Layers, global average pooling, a linear head."""

    def __init__(self, *body: nn.Module, width: int) -> None:
        super().__init__(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10))


def _answer(head: nn.Module, x: Tensor) -> Tensor:
    answer: Tensor = head(x.mean((2, 3)))
    return answer


WRITTEN_OUT = (
    Family("DenseNet", DenseNet, image(16)),
    Family(
        "ShuffleNetV2",
        lambda: Classifier(conv(3, 32), ShuffleUnit(32), ShuffleUnit(32), width=32),
        image(16),
    ),
    Family(
        "SE-ResNet",
        lambda: Classifier(conv(3, 32), SqueezeExcite(32), SqueezeExcite(32), width=32),
        image(16),
    ),
    Family(
        "ResNeXt",
        lambda: Classifier(conv(3, 32), conv(32, 64, 1), conv(64, 64, groups=8), width=64),
        image(16),
    ),
    Family(
        "Inception",
        lambda: Classifier(conv(3, 16), Inception(16, 12), Inception(48, 16), width=64),
        image(16),
    ),
    Family("U-Net", UNet, image(32)),
    Family("FPN detector", Detector, image(64)),
    Family("keyword spotting", Keywords, lambda: (torch.randn(1, 1, 800),)),
    Family("siamese", Siamese, lambda: (*image(16)(), *image(16)())),
)
