"""Recovery: the slim network learns from the original what was lost."""

import onnx_graphsurgeon as gs

from hwprune.frontend.dataset import DataSet
from hwprune.graph.read import clone
from hwprune.network.twin import to_module, write_back
from hwprune.train.batchnorm import normalized
from hwprune.train.loop import Progress, fit
from hwprune.train.recipe import Recipe
from hwprune.train.snapshots import Snapshots


def recover(
    graph: gs.Graph,
    teacher: gs.Graph,
    data: DataSet,
    recipe: Recipe,
    seed: int,
    progress: Progress | None = None,
    snapshots: Snapshots | None = None,
) -> gs.Graph:
    """Trains a pruned graph to give the teacher's outputs; BatchNorm comes back for that time.

    Args:
        graph: Pruned, canonical; left unchanged.
        teacher: The original.
        data: Training part; labels are used where there are any.
        recipe: How to train.
        seed: Same seed, same result on the same machine and thread number.
        progress: Called with steps done, steps in all, and what is going on.
        snapshots: Where the training is kept, to go on with after the process was killed.

    Returns:
        A graph of the same shape with trained weights; on held-out samples its loss is at most that
        of the graph given.
    """
    student = to_module(graph)
    with normalized(student, data, seed):
        fit(student, to_module(teacher), data, recipe, seed, progress, snapshots=snapshots)
    trained = clone(graph)
    write_back(student, trained)
    return trained
