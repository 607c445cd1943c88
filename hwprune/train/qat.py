"""Quantisation-aware training: the quantised network learns from the original."""

from collections.abc import Sequence
from dataclasses import replace

import onnx_graphsurgeon as gs
import torch
from torch import nn

from hwprune.frontend.dataset import DataSet
from hwprune.network.twin import to_module
from hwprune.quantize.ptq import Quantized, reread
from hwprune.quantize.quantizers import LEARNED_SCALE, weight_step
from hwprune.quantize.searched import anneal, begin, settle
from hwprune.train.batchnorm import Norm, normalized
from hwprune.train.hooks import Hook
from hwprune.train.loop import Progress, fit
from hwprune.train.recipe import Recipe
from hwprune.train.snapshots import Snapshots

RATE = 0.02  # of its unit: what a parameter moves in one step of training
_SCALE = 0.005  # of itself: the unit of scales, which move everything they stand before
_LEAST = 1e-3  # unit of parameters that start at zero


def qat(
    quantized: Quantized,
    teacher: gs.Graph,
    data: DataSet,
    recipe: Recipe,
    seed: int,
    progress: Progress | None = None,
    snapshots: Snapshots | None = None,
    hooks: Sequence[Hook] = (),
) -> Quantized:
    """Trains a quantised network, in place, to give the teacher's outputs.

    BatchNorm comes back for that time. Weights that are searched for (SLB) are settled by the end.
    The training is by Adam, and its rate follows each layer's quantisation step, so that it means
    the same for every network and number of bits. bfloat16 is coarser than those steps, so this
    always computes in fp32.

    Args:
        quantized: Of `hwprune.quantize.ptq.quantize`.
        teacher: The original.
        data: Training part; labels are used where there are any.
        recipe: How long to train, and on what; optimiser, rate and precision are those told above.
        seed: Same seed, same result on the same machine and thread number.
        progress: Called with steps done, steps in all, and what is going on.
        snapshots: Where the training is kept, to go on with after the process was killed.
        hooks: What happens around the steps.

    Returns:
        The network with trained weights and scales; on held-out samples its loss is at most that
        of the network given.
    """
    module = quantized.module
    with normalized(module, data, seed):
        begin(module)
        own = replace(recipe, rate=RATE, half=False, ema=0.0)
        fit(
            module,
            to_module(teacher),
            data,
            own,
            seed,
            progress,
            rounding_adam,
            [_Annealing(module), *hooks],
            snapshots,
        )
        settle(module)
    return reread(quantized)


class _Annealing(Hook):
    """Lets the weights that are searched for settle."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def progressed(self, done: int, total: int) -> None:
        """See `Hook`."""
        anneal(self.module, done / total)


def rounding_adam(module: nn.Module, rate: float) -> torch.optim.Optimizer:
    """Adam with a rate for every parameter, in that parameter's unit."""
    units = units_of(module)
    return torch.optim.Adam([{"params": [p], "lr": rate * unit} for p, unit in units.items()])


def units_of(module: nn.Module) -> dict[nn.Parameter, float]:
    """Of whatever a layer rounds its weights' steps, of other parameters their mean magnitude."""
    units = {p: max(_size(p), _LEAST) for p in module.parameters() if p.requires_grad}
    for layer in module.modules():
        if isinstance(layer, Norm):
            units[layer.bias] = _size(layer.weight)
        step = weight_step(layer)
        if step is not None:
            units |= dict.fromkeys(layer.parameters(), step)
    scales = [p for path, p in module.named_parameters() if path.endswith(LEARNED_SCALE)]
    return units | {p: _SCALE * _size(p) for p in scales}


def _size(parameter: nn.Parameter) -> float:
    return float(parameter.detach().abs().mean())
