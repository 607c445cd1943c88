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
    from hwprune.models.mobilenetv2 import LARGE, MobileNetV2
    from hwprune.models.resnet import cifar_resnet

    found: dict[str, Callable[[Path], None]] = {
        "resnet20": exported(lambda: cifar_resnet(20), 32),
        "resnet56": exported(lambda: cifar_resnet(56), 32),
        "resnet18": exported(resnet18, 224),
        "mobilenetv2": exported(lambda: MobileNetV2(1000, LARGE), 224),
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


def conv(i: int, o: int, window: int = 3, stride: int = 1) -> nn.Sequential:
    layers = nn.Conv2d(i, o, window, stride, window // 2, bias=False), nn.BatchNorm2d(o)
    return nn.Sequential(*layers)


class Residual(nn.Module):
    """A body and its shortcut."""

    def __init__(self, body: nn.Module, shortcut: nn.Module) -> None:
        super().__init__()
        self.body, self.shortcut = body, shortcut

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Images to images."""
        return torch.relu(self.body(x) + self.shortcut(x))


def resnet18() -> nn.Module:
    """He et al. 2016, table 1."""
    layers: list[nn.Module] = [conv(3, 64, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    channels = 64
    for stage, width in enumerate((64, 128, 256, 512)):
        for block in range(2):
            stride = 2 if stage and not block else 1
            body = nn.Sequential(conv(channels, width, 3, stride), nn.ReLU(), conv(width, width))
            same = stride == 1 and channels == width
            shortcut = nn.Identity() if same else conv(channels, width, 1, stride)
            layers.append(Residual(body, shortcut))
            channels = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 1000))


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
