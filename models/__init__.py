"""Reference networks by name, and the bundled weights."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from torch import nn

from hwprune.frontend.digits import NORMALIZATION as DIGITS
from hwprune.frontend.normalization import Normalization

from . import densenet, digits, mobilenetv2, resnet, vgg

CIFAR10 = Normalization(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """A reference network; `weights` is the bundled file, None where training is up to you."""

    factory: Callable[[], nn.Module]
    input_shape: tuple[int, ...] = (1, 3, 32, 32)
    normalization: Normalization = CIFAR10
    data: Literal["cifar10", "digits"] = "cifar10"
    weights: Path | None = None


MODELS: dict[str, ModelEntry] = {
    "digits": ModelEntry(
        digits.digits,
        digits.INPUT_SHAPE,
        DIGITS,
        "digits",
        Path(__file__).with_name("digits.safetensors"),
    ),
    "vgg16-bn": ModelEntry(vgg.vgg16_bn),
    "mobilenetv2": ModelEntry(mobilenetv2.mobilenetv2),
    "densenet40": ModelEntry(densenet.densenet40),
} | {name: ModelEntry(factory) for name, factory in resnet.FACTORIES.items()}
