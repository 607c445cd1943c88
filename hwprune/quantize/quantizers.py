"""The modules that quantise: made of brevitas', calibrated, read out."""

import warnings
from contextlib import AbstractContextManager
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from hwprune.quantize.catalogue import activation_quantizer, weight_quantizer
from hwprune.quantize.encodings import Encoding
from hwprune.quantize.grids import Grid, grid
from hwprune.quantize.kinds import WeightKind

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # optional extras that we do not use
    import brevitas.config
    import brevitas.nn as qnn
    from brevitas.graph.calibrate import bias_correction_mode, calibration_mode

# Its state_dict calls torch in a deprecated way whenever anybody reads a network's weights.
warnings.filterwarnings("ignore", category=FutureWarning, module=r"brevitas\.")

# Or loading a state would put new parameters into a network: an optimiser holds the ones it had.
brevitas.config.REINIT_ON_STATE_DICT_LOAD = False

_LAYERS: dict[type[nn.Module], Any] = {
    nn.Conv1d: qnn.QuantConv1d,
    nn.Conv2d: qnn.QuantConv2d,
    nn.Conv3d: qnn.QuantConv3d,
    nn.ConvTranspose1d: qnn.QuantConvTranspose1d,
    nn.ConvTranspose2d: qnn.QuantConvTranspose2d,
    nn.ConvTranspose3d: qnn.QuantConvTranspose3d,
    nn.Linear: qnn.QuantLinear,
}
LEARNED_SCALE = "scaling_impl.value"  # how the paths of such parameters end
_SCALES = LEARNED_SCALE, "tensor_quant.scale"
_MATRIX = ("in_features", "out_features")
_WINDOW = "in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups"


class _Rounded(nn.Module):
    """What a calibrated activation quantiser computes, in one operation."""

    def __init__(self, encoding: Encoding) -> None:
        super().__init__()
        self.scale, self.zero_point = float(encoding.scale), int(encoding.zero_point)
        self.ends = encoding.lowest, encoding.highest

    def forward(self, x: Tensor) -> Tensor:
        """Any shape in, the same out."""
        return torch.fake_quantize_per_tensor_affine(x, self.scale, self.zero_point, *self.ends)


def quantized_layer(layer: nn.Module, kind: WeightKind) -> nn.Module:
    """The layer with its weight quantised in every forward pass; the parameters are shared."""
    quantized: Any = _rebuilt(
        layer, _LAYERS[type(layer)], weight_quant=weight_quantizer(kind), return_quant_tensor=False
    )
    quantized.weight_kind = kind
    with torch.no_grad():
        quantized.quant_weight()  # scales of their own start here
    module: nn.Module = quantized
    return module


def kind(layer: nn.Module) -> type[nn.Module]:
    """What a layer, quantised or not, is in `torch.nn`."""
    return next((plain for plain, q in _LAYERS.items() if type(layer) is q), type(layer))


def weight_kind(layer: nn.Module) -> WeightKind | None:
    """How a quantised layer's weight is quantised; None for others."""
    return cast("WeightKind | None", getattr(layer, "weight_kind", None))


def absorbs_factors(layer: nn.Module) -> bool:
    """Whether `scale_outputs` leaves the integers of the layer's weight, if any, as they are."""
    found = weight_kind(layer)
    return found is None or found.absorbs_factors


@torch.no_grad()
def scale_outputs(layer: Any, factors: Tensor) -> None:
    """Multiplies what a convolution puts out by a factor for each channel, in place."""
    shape = -1, *[1] * (layer.weight.ndim - 1)
    found = weight_kind(layer)
    signs = torch.where(factors < 0, -1.0, 1.0)
    latent = signs if found is not None and found.scales_apart else factors
    layer.weight.copy_(layer.weight.double() * latent.view(shape))
    layer.bias.copy_(layer.bias.double() * factors)
    for scale in weight_scales(layer):
        scale.copy_(scale.double() * factors.abs().view(shape))


def weight_scales(layer: Any) -> list[Tensor]:
    """The scales of a quantised layer that do not follow from its weight as it is."""
    if not hasattr(layer, "weight_kind"):
        return []
    own = layer.weight_quant.state_dict(keep_vars=True)
    return [value for path, value in own.items() if path.endswith(_SCALES)]


@torch.no_grad()
def quantized_weight(layer: Any) -> Tensor | None:
    """What a quantised layer computes with instead of its latent weight; None for others."""
    if not hasattr(layer, "weight_kind"):
        return None
    found: Tensor = layer.quant_weight().value
    return found.detach()


def weight_step(layer: Any) -> float | None:
    """What lies between two values of a quantised layer's weight, in the mean; None for others."""
    if not hasattr(layer, "weight_kind"):
        return None
    with torch.no_grad():
        return float(layer.quant_weight().scale.mean())


@torch.no_grad()
def frozen(quantizer: nn.Module) -> nn.Module:
    """A quantised layer or activation quantiser as it is now, several times as fast."""
    if isinstance(quantizer, qnn.QuantIdentity):
        return _Rounded(activation_encoding(quantizer))
    layer: Any = plain_layer(quantizer)
    layer.weight = nn.Parameter(quantizer.quant_weight().value)  # type: ignore[operator]
    plain: nn.Module = layer
    return plain


def plain_layer(layer: nn.Module) -> nn.Module:
    """The layer, quantised or not, as `torch.nn` has it; the parameters are shared."""
    return _rebuilt(layer, kind(layer))


def _rebuilt(layer: nn.Module, kind: type[nn.Module], **options: Any) -> nn.Module:
    """A layer of the same geometry, of another kind, with the same parameters."""
    names = _MATRIX if isinstance(layer, nn.Linear) else _WINDOW
    if isinstance(layer, nn.modules.conv._ConvTransposeNd):
        names = (*names, "output_padding")
    geometry = {name: getattr(layer, name) for name in names}
    rebuilt = kind(**geometry, bias=layer.bias is not None, **options)
    rebuilt.weight, rebuilt.bias = layer.weight, layer.bias
    return rebuilt.train(layer.training)


def nearest(layer: nn.Module) -> Grid:
    """What rounds to the grid of a quantised layer: groups x outputs per group x any."""
    encoding = weight_encoding(layer, 0)
    scale = torch.from_numpy(encoding.scale)
    if encoding.axis is None:
        return grid(scale, encoding.bits)
    shape = getattr(layer, "groups", 1), -1, 1
    bits = torch.tensor(encoding.channel_bits).reshape(shape) if encoding.channel_bits else None
    return grid(scale.reshape(shape), encoding.bits if bits is None else bits)


def activation_module(nonnegative: bool, low: float, high: float, bits: int = 8) -> nn.Module:
    """A per-tensor quantiser of the range `low` to `high`, widened to hold zero."""
    quantizer: nn.Module = qnn.QuantIdentity(
        act_quant=activation_quantizer(nonnegative, bits), return_quant_tensor=False
    )
    with torch.no_grad(), calibration_mode(quantizer):
        quantizer(torch.tensor([min(low, 0.0), max(high, 0.0)]))
    return quantizer.eval()


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
    zero_point = np.rint(_array(proxy.zero_point())).astype(np.int64)
    return Encoding(_array(proxy.scale()), zero_point, bits=int(proxy.bit_width()))


@torch.no_grad()
def weight_encoding(layer: nn.Module, axis: int) -> Encoding:
    """What a quantised layer does to its weight; `axis` counts in the initializer's layout."""
    weight: Any = layer.quant_weight()  # type: ignore[operator]
    scale = _array(weight.scale)
    per_channel = weight.scale.numel() > 1 or weight.scale.ndim > 0
    scale = scale.reshape(-1) if per_channel else scale
    zeros = np.zeros(scale.shape, np.int64)
    bits = weight.bit_width.int().flatten().tolist()
    each = tuple(bits) if len(bits) > 1 else ()
    at = axis if per_channel else None
    return Encoding(scale, zeros, at, max(bits), signed=True, channel_bits=each)


def _array(value: Tensor) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.asarray(value.detach().cpu().numpy(), np.float32)
