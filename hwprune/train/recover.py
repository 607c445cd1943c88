"""Recovery: the slim network learns from the original what was lost."""

import onnx_graphsurgeon as gs
import torch

from hwprune.frontend.dataset import DataSet
from hwprune.graph.read import clone
from hwprune.network.twin import to_module, write_back
from hwprune.quantize.ptq import Quantized, reread
from hwprune.quantize.searched import anneal, begin, settle
from hwprune.train.batchnorm import fold_batchnorm, insert_batchnorm
from hwprune.train.loop import Progress, Recipe, batch_size, fit

_RATE = 0.03
_QAT_RATE, _LOW_BIT_RATE, _LOW_BITS = 0.001, 0.01, 4  # LSQ (Esser et al. 2020), section 2.3
_STATISTICS = 256  # samples that BatchNorm statistics are taken from


def recover(
    graph: gs.Graph,
    teacher: gs.Graph,
    data: DataSet,
    epochs: int,
    seed: int,
    progress: Progress | None = None,
) -> gs.Graph:
    """Trains a pruned graph to give the teacher's outputs; BatchNorm comes back for that time.

    Args:
        graph: Pruned, canonical; left unchanged.
        teacher: The original.
        data: Training part; labels are used where there are any.
        epochs: Passes over it.
        seed: Same seed, same result on the same machine and thread number.
        progress: Called with steps done, steps in all, and what is going on.

    Returns:
        A graph of the same shape with trained weights; on held-out samples its loss is at most that
        of the graph given.
    """
    student = to_module(graph)
    few = data.take(_STATISTICS, seed)
    sample = tuple(map(torch.from_numpy, few.inputs(slice(0, len(few)))))
    insert_batchnorm(student, sample, batch_size(tuple(sample[0].shape[1:])))
    fit(student, to_module(teacher), data, Recipe(epochs, _RATE), seed, progress)
    fold_batchnorm(student)
    trained = clone(graph)
    write_back(student, trained)
    return trained


def qat(
    quantized: Quantized,
    teacher: gs.Graph,
    data: DataSet,
    seed: int,
    progress: Progress | None = None,
    epochs: int = 1,
) -> Quantized:
    """Quantisation-aware training: the same loss, a small rate, the quantisers in place.

    Weights of few bits must move further to get to another level. Those that are searched for
    (SLB) are settled by the end. bfloat16 is coarser than the quantiser's steps, so this always
    computes in fp32.
    """
    begin(quantized.module)

    def annealed(done: int, total: int, text: str) -> None:
        anneal(quantized.module, done / total)
        if progress is not None:
            progress(done, total, text)

    fewest = min((e.bits for e in quantized.encodings.weights.values()), default=8)
    rate = _LOW_BIT_RATE if fewest <= _LOW_BITS else _QAT_RATE
    recipe = Recipe(epochs, rate, weight_decay=0.0, half=False)
    fit(quantized.module, to_module(teacher), data, recipe, seed, annealed)
    settle(quantized.module)
    return reread(quantized)
