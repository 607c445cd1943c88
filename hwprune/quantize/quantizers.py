"""The one place that knows brevitas' modules: choice -> quantiser, calibration, read-out."""

from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hwprune.quantize.encodings import Encoding
from hwprune.quantize.kinds import Kind, activation_kind, qnn, quiet_mode, weight_kind

_LAYERS: dict[type[nn.Module], Any] = {
    nn.Conv1d: qnn.QuantConv1d,
    nn.Conv2d: qnn.QuantConv2d,
    nn.Conv3d: qnn.QuantConv3d,
    nn.ConvTranspose1d: qnn.QuantConvTranspose1d,
    nn.ConvTranspose2d: qnn.QuantConvTranspose2d,
    nn.ConvTranspose3d: qnn.QuantConvTranspose3d,
    nn.Linear: qnn.QuantLinear,
}
