"""The one table from kind and granularity to a brevitas quantiser."""

import warnings
from typing import Any

from hwprune.errors import UsageError
from hwprune.quantize.formulas import Binary, ChannelBits, DoReFa, LeastError, Ternary
from hwprune.quantize.kinds import WeightKind
from hwprune.quantize.searched import Searched

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # optional extras that we do not use
    from brevitas.core.stats import NegativeMinOrZero
    from brevitas.inject.enum import ScalingImplType, ScalingPerOutputType, StatsOp
    from brevitas.proxy.groupwise_int_parameter_quant import GroupwiseWeightQuantProxyFromInjector
    from brevitas.quant.fixed_point import (
        Int8WeightPerChannelFixedPoint,
        Int8WeightPerTensorFixedPoint,
    )
    from brevitas.quant.scaled_int import (
        Int8WeightPerChannelFloat,
        Int8WeightPerTensorFloat,
        Uint8ActPerTensorFloat,
    )
    from brevitas.quant.shifted_scaled_int import (
        ShiftedUint8ActPerTensorFloat,
        ShiftedUint8WeightGroupQuantFloat,
        ShiftedUint8WeightPerChannelFloat,
        ShiftedUint8WeightPerTensorFloat,
    )

GROUP = 32  # inputs of one output that share a scale

_BY_GROUP = {
    "group_size": GROUP,
    "scaling_per_output_type": ScalingPerOutputType.GROUP,
    "proxy_class": GroupwiseWeightQuantProxyFromInjector,
}
_LEARNED = {
    "scaling_impl_type": ScalingImplType.PARAMETER_FROM_STATS,
    "scaling_stats_impl": LeastError,
}
_Tensor = Int8WeightPerTensorFloat.let(each_output=False)
_Channel = Int8WeightPerChannelFloat.let(each_output=True)
WEIGHTS: dict[tuple[str, str], Any] = {
    # the scale follows the largest magnitude
    ("max", "tensor"): Int8WeightPerTensorFloat,
    ("max", "channel"): Int8WeightPerChannelFloat,
    ("max", "group"): Int8WeightPerChannelFloat.let(**_BY_GROUP),
    # the scale errs least and is learned from then on (LSQ, Esser et al. 2020)
    ("mse", "tensor"): Int8WeightPerTensorFloat.let(**_LEARNED),
    ("mse", "channel"): Int8WeightPerChannelFloat.let(**_LEARNED),
    # scale and zero point from the least to the greatest value
    ("asymmetric", "tensor"): ShiftedUint8WeightPerTensorFloat,
    ("asymmetric", "channel"): ShiftedUint8WeightPerChannelFloat,
    ("asymmetric", "group"): ShiftedUint8WeightGroupQuantFloat.let(group_size=GROUP),
    # scales are powers of two: a shift
    ("power-of-two", "tensor"): Int8WeightPerTensorFixedPoint,
    ("power-of-two", "channel"): Int8WeightPerChannelFixedPoint,
    # formulas of their papers
    ("binary", "tensor"): _Tensor.let(tensor_quant=Binary, scaled=False),
    ("xnor", "tensor"): _Tensor.let(tensor_quant=Binary, scaled=True),
    ("xnor", "channel"): _Channel.let(tensor_quant=Binary, scaled=True),
    ("ternary", "tensor"): _Tensor.let(tensor_quant=Ternary),
    ("ternary", "channel"): _Channel.let(tensor_quant=Ternary),
    # searched for while training (Yang et al. 2020)
    ("slb", "channel"): _Channel.let(tensor_quant=Searched),
    ("dorefa", "tensor"): _Tensor.let(tensor_quant=DoReFa),
    ("dorefa", "channel"): _Channel.let(tensor_quant=DoReFa),
}
_ACTIVATIONS: dict[bool, Any] = {
    True: Uint8ActPerTensorFloat.let(scaling_stats_op=StatsOp.MAX),
    False: ShiftedUint8ActPerTensorFloat.let(
        scaling_stats_op=StatsOp.MIN_MAX, zero_point_stats_impl=NegativeMinOrZero
    ),
}


def weight_quantizer(kind: WeightKind) -> Any:
    """Brevitas' quantiser of that kind, to be given to a layer. Raises UsageError."""
    row = (kind.name, kind.granularity)
    if row not in WEIGHTS:
        known = ", ".join(f"{name} per {granularity}" for name, granularity in sorted(WEIGHTS))
        raise UsageError(f"there is no weight quantiser {kind.name} per {kind.granularity}", known)
    if kind.channels:
        return WEIGHTS[row].let(bit_width=kind.channels, bit_width_impl=ChannelBits)
    return WEIGHTS[row].let(bit_width=kind.bits)


def activation_quantizer(nonnegative: bool, bits: int = 8) -> Any:
    """Brevitas' unsigned quantiser; with a zero point unless values are never negative.

    Its range is a parameter, learned in training (PACT, Choi et al. 2018; LSQ+).
    """
    return _ACTIVATIONS[nonnegative].let(bit_width=bits)
