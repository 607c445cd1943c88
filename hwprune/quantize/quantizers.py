"""The one place that knows brevitas: choice -> quantiser, calibration, read-out."""

import warnings
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hwprune.quantize.encodings import Encoding

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # optional extras that we do not use
    import brevitas.nn as qnn
    from brevitas.core.stats import NegativeMinOrZero
    from brevitas.graph.calibrate import bias_correction_mode, calibration_mode
    from brevitas.inject.enum import StatsOp
    from brevitas.quant.scaled_int import (
        Int8WeightPerChannelFloat,
        Int8WeightPerTensorFloat,
        Uint8ActPerTensorFloat,
    )
    from brevitas.quant.shifted_scaled_int import ShiftedUint8ActPerTensorFloat

# Its state_dict calls torch in a deprecated way whenever anybody reads a network's weights.
warnings.filterwarnings("ignore", category=FutureWarning, module=r"brevitas\.")

# (what, granularity) -> brevitas quantiser; bit width and percentile are set on top
_QUANTIZERS: dict[tuple[str, str], Any] = {
    ("weight", "channel"): Int8WeightPerChannelFloat,
    ("weight", "tensor"): Int8WeightPerTensorFloat,
    ("nonnegative activation", "tensor"): Uint8ActPerTensorFloat,
    ("activation", "tensor"): ShiftedUint8ActPerTensorFloat,
}
_LAYERS: dict[type[nn.Module], Any] = {
    nn.Conv1d: qnn.QuantConv1d,
    nn.Conv2d: qnn.QuantConv2d,
    nn.Conv3d: qnn.QuantConv3d,
    nn.ConvTranspose1d: qnn.QuantConvTranspose1d,
    nn.ConvTranspose2d: qnn.QuantConvTranspose2d,
    nn.ConvTranspose3d: qnn.QuantConvTranspose3d,
    nn.Linear: qnn.QuantLinear,
}
_GEOMETRY = (
    *("in_channels", "out_channels", "kernel_size", "stride", "padding", "output_padding"),
    *("dilation", "groups", "in_features", "out_features"),
)


def quantized_layer(layer: nn.Module, bits: int, per_channel: bool) -> nn.Module:
    """The layer with its weight quantised in every forward pass; the parameters are shared."""
    quantizer = _QUANTIZERS["weight", "channel" if per_channel else "tensor"].let(bit_width=bits)
    transposed = isinstance(layer, nn.modules.conv._ConvTransposeNd)
    names = [n for n in _GEOMETRY if hasattr(layer, n) and (transposed or n != "output_padding")]
    geometry = {name: getattr(layer, name) for name in names}
    quantized: nn.Module = _LAYERS[type(layer)](
        **geometry, bias=layer.bias is not None, weight_quant=quantizer, return_quant_tensor=False
    )
    quantized.weight, quantized.bias = layer.weight, layer.bias
    return quantized.train(layer.training)


def activation_quantizer(nonnegative: bool, percentile: float) -> nn.Module:
    """A per-tensor uint8 quantiser; with a zero point unless the tensor is never negative.

    Calibration makes it cover `percentile` per cent of the values on either side; 100: all.
    """
    kind = _QUANTIZERS["nonnegative activation" if nonnegative else "activation", "tensor"]
    if percentile < 100:
        kind = kind.let(high_percentile_q=percentile, low_percentile_q=100 - percentile)
    elif nonnegative:
        kind = kind.let(scaling_stats_op=StatsOp.MAX)
    else:
        kind = kind.let(scaling_stats_op=StatsOp.MIN_MAX, zero_point_stats_impl=NegativeMinOrZero)
    quantizer: nn.Module = qnn.QuantIdentity(act_quant=kind, return_quant_tensor=False)
    return quantizer.eval()


def calibrating(module: nn.Module) -> AbstractContextManager[None]:
    """Within it the network computes in fp32 and its quantisers collect statistics."""
    mode: AbstractContextManager[None] = calibration_mode(module)
    return mode


def correcting_biases(module: nn.Module) -> AbstractContextManager[None]:
    """Within it every layer measures the mean error of its quantised weight; leaving it corrects
    the biases (Nagel et al. 2019, section 4.2, with data). Layers without bias stay as they are.
    """
    mode: AbstractContextManager[None] = bias_correction_mode(module, skip_if_no_bias=True)
    return mode


@torch.no_grad()
def activation_encoding(quantizer: nn.Module) -> Encoding:
    """What a calibrated activation quantiser computes."""
    proxy: Any = quantizer.act_quant
    return Encoding(_array(proxy.scale()), np.rint(_array(proxy.zero_point())).astype(np.int64))


@torch.no_grad()
def weight_encoding(layer: nn.Module, axis: int) -> Encoding:
    """What a quantised layer does to its weight; `axis` counts in the initializer's layout."""
    weight: Any = layer.quant_weight()  # type: ignore[operator]
    scale = _array(weight.scale)
    per_channel = weight.scale.numel() > 1 or weight.scale.ndim > 0
    scale = scale.reshape(-1) if per_channel else scale
    zeros = np.zeros(scale.shape, np.int64)
    return Encoding(scale, zeros, axis if per_channel else None, int(weight.bit_width), signed=True)


def _array(value: Tensor) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.asarray(value.detach().cpu().numpy(), np.float32)
