"""The networks that predictions are judged by."""

from collections.abc import Callable
from pathlib import Path

import onnx
import torch
from torch import nn

from hwprune.frontend.module import graph_from_module
from hwprune.graph.read import to_proto
from hwprune.testing.families import randomize


def networks(shared: Path) -> dict[str, Callable[[Path], None]]:
    """Name -> what writes its file."""
    from hwprune.models.densenet import densenet40
    from hwprune.models.resnet import cifar_resnet

    found: dict[str, Callable[[Path], None]] = {
        "resnet20": exported(lambda: cifar_resnet(20), 32),
        "resnet56": exported(lambda: cifar_resnet(56), 32),
        "resnet18": exported(resnet18, 224),
        "mobilenetv2": exported(mobilenetv2, 224),
        "densenet40": exported(densenet40, 32),
        "vit-tiny": exported(vit, 224),
    }
    large = shared / "cifar10_resnet_large.onnx"
    if large.exists():
        found["resnet_large"] = lambda path: path.write_bytes(large.read_bytes()) and None
    return found


def exported(make: Callable[[], nn.Module], size: int) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        torch.manual_seed(0)
        module = randomize(make().eval())
        onnx.save(to_proto(graph_from_module(module, (torch.randn(1, 3, size, size),))), path)

    return write


def conv(
    i: int, o: int, window: int = 3, stride: int = 1, groups: int = 1, act: nn.Module | None = None
) -> nn.Sequential:
    layers: list[nn.Module] = [
        nn.Conv2d(i, o, window, stride, window // 2, groups=groups, bias=False),
        nn.BatchNorm2d(o),
    ]
    return nn.Sequential(*layers, *([act] if act else []))


class Residual(nn.Module):
    """A body and its shortcut, with what comes behind their sum."""

    def __init__(self, body: nn.Module, shortcut: nn.Module, behind: nn.Module) -> None:
        super().__init__()
        self.body, self.shortcut, self.behind = body, shortcut, behind

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Images to images."""
        return torch.as_tensor(self.behind(self.body(x) + self.shortcut(x)))


def resnet18() -> nn.Module:
    """He et al. 2016, table 1."""
    layers: list[nn.Module] = [conv(3, 64, 7, 2, act=nn.ReLU()), nn.MaxPool2d(3, 2, 1)]
    channels = 64
    for stage, width in enumerate((64, 128, 256, 512)):
        for block in range(2):
            stride = 2 if stage and not block else 1
            body = nn.Sequential(
                conv(channels, width, 3, stride, act=nn.ReLU()), conv(width, width)
            )
            same = stride == 1 and channels == width
            shortcut = nn.Identity() if same else conv(channels, width, 1, stride)
            layers.append(Residual(body, shortcut, nn.ReLU()))
            channels = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 1000))


def mobilenetv2() -> nn.Module:
    """Sandler et al. 2018, table 2."""
    layers: list[nn.Module] = [conv(3, 32, 3, 2, act=nn.ReLU6())]
    channels = 32
    stages = (
        (1, 16, 1, 1),
        (6, 24, 2, 2),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    )
    for expansion, width, blocks, first in stages:
        for block in range(blocks):
            stride, hidden = (first if not block else 1), channels * expansion
            expand = [conv(channels, hidden, 1, act=nn.ReLU6())] if expansion > 1 else []
            deep = conv(hidden, hidden, 3, stride, hidden, act=nn.ReLU6())
            body = nn.Sequential(*expand, deep, conv(hidden, width, 1))
            same = stride == 1 and channels == width
            layers.append(Residual(body, nn.Identity(), nn.Identity()) if same else body)
            channels = width
    layers += [conv(320, 1280, 1, act=nn.ReLU6()), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(1280, 1000))


def vit() -> nn.Module:
    """ViT-Tiny/16 (Touvron et al. 2021, table 1)."""
    from transformers import ViTConfig, ViTForImageClassification

    sizes = {"hidden_size": 192, "num_hidden_layers": 12, "num_attention_heads": 3}
    config = ViTConfig(**sizes, intermediate_size=768, num_labels=1000)

    class Logits(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = ViTForImageClassification(config)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.as_tensor(self.model(pixel_values=x).logits)

    return Logits()
