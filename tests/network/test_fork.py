import pytest
import torch
from torch import fx

from hwprune.graph.coupling import couple
from hwprune.graph.slim import slim
from hwprune.network.fork import Tail, fork
from hwprune.network.twin import to_module
from hwprune.pruning.damage import changed
from hwprune.testing.networks import build, residual, separable


class Counting(fx.Interpreter):
    """Counts the layers that run."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.count = 0

    def call_module(self, *args):  # type: ignore[no-untyped-def]
        self.count += 1
        return super().call_module(*args)


@pytest.mark.parametrize("seed", range(4))
def test_a_tail_gives_what_the_whole_variant_gives(seed: int) -> None:
    graph = build(residual, separable, seed=seed)
    coupling = couple(graph)
    nodes = {node.name: node for node in graph.nodes}
    inputs = [(torch.randn(count, 3, 8, 8),) for count in (5, 3)]
    variants = [slim(graph, coupling, {g.name: range(1, g.width)}) for g in coupling.prunable]
    variants += [slim(graph, coupling, {}, frozenset([b.name])) for b in coupling.branches]
    twins = [to_module(variant) for variant in variants]
    tails = [Tail(t, changed(nodes, v)) for t, v in zip(twins, variants, strict=True)]
    seen = []
    for i, values in fork(to_module(graph), inputs, [tail.needs for tail in tails]):
        seen.append(i)
        for (x,), known in zip(inputs, values, strict=True):
            (found,) = tails[i].run(fx.Interpreter(twins[i]), known)
            torch.testing.assert_close(found, twins[i](x))
    assert sorted(seen) == list(range(len(variants)))


def test_what_is_shared_does_not_run_again() -> None:
    graph = build(residual)
    twin = to_module(graph)
    last = [node.name for node in graph.nodes if node.op == "Gemm"]
    tail = Tail(twin, last)
    counting = Counting(twin)
    ((_, (values,)),) = fork(twin, [(torch.randn(2, 3, 8, 8),)], [tail.needs])
    tail.run(counting, values)
    assert counting.count == 1
