"""Chooses the range of every quantised tensor by the error that it makes in the outputs."""

from collections.abc import Callable, Collection, Mapping
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, fx

from hwprune.network.run import Inputs
from hwprune.quantize.ranges import Range, candidates, whole

T = TypeVar("T")


def observe(
    twin: fx.GraphModule, x: Inputs, tensors: Collection[str], look: Callable[[str, Tensor], T]
) -> dict[str, T]:
    """What `look` makes of each tensor's name and value; the network runs over `x` at once."""
    observer = _Observer(twin, frozenset(tensors), look)
    observer.run(*x)
    return observer.found


@torch.no_grad()
def whole_ranges(twin: fx.GraphModule, x: Inputs, tensors: Collection[str]) -> dict[str, Range]:
    """From the least to the greatest value of each tensor."""
    return observe(twin, x, tensors, lambda _, value: whole(value))


def best_ranges(
    twin: fx.GraphModule, x: Inputs, few: Inputs, tensors: Mapping[str, int], seed: int = 0
) -> dict[str, Range]:
    """Per tensor the method whose rounding moves the outputs least, to first order.

    An error e of a tensor moves the outputs by J e. With independent errors the expected square is
    the sum of e^2 times the diagonal of J'J, which is estimated by (J' n)^2 with random n: one pass
    backwards gives it for all tensors. A tensor that no gradient comes back to is judged by its own
    squared error.

    Args:
        twin: fp32.
        x: Samples that ranges are taken from.
        few: Samples that errors are weighed on.
        tensors: Those to be quantised, and their bits.
        seed: Draws n.
    """
    with torch.no_grad():
        found = observe(twin, x, tensors, lambda name, value: candidates(value, tensors[name]))
    wanted = [*tensors, *_outputs(twin)]
    values = observe(twin, tuple(map(_leaf, few)), wanted, lambda _, value: value)
    weights = _sensitivities(values, tensors, _outputs(twin), seed)

    def error(tensor: str, method: str) -> float:
        value = values[tensor].detach()
        squares = (found[tensor][method].rounded(value, tensors[tensor]) - value).square()
        return float((squares * weights[tensor]).sum())

    return {t: min(ranges.items(), key=lambda r: error(t, r[0]))[1] for t, ranges in found.items()}


def _sensitivities(
    values: Mapping[str, Tensor], tensors: Collection[str], outputs: Collection[str], seed: int
) -> dict[str, Tensor | float]:
    """The diagonal of J'J, each output counted relative to its power."""
    generator = torch.Generator().manual_seed(seed)
    live = [values[name] for name in outputs if values[name].requires_grad]
    scores = [_project(output, generator) for output in live]
    if not scores:
        return dict.fromkeys(tensors, 1.0)
    inner = {name: values[name] for name in tensors if values[name].requires_grad}
    if not inner:
        return dict.fromkeys(tensors, 1.0)
    found = torch.autograd.grad(torch.stack(scores).sum(), list(inner.values()), allow_unused=True)
    gradients = dict(zip(inner, found, strict=True))
    return {n: 1.0 if (g := gradients.get(n)) is None else g.square() for n in tensors}


def _project(output: Tensor, generator: torch.Generator) -> Tensor:
    noise = torch.randn(output.shape, generator=generator)
    power: Tensor = output.detach().square().sum()
    score: Tensor = (output * noise).sum() / power.sqrt().clamp_min(1e-12)
    return score


def _outputs(twin: fx.GraphModule) -> list[str]:
    """ONNX names of the graph's outputs."""
    last = next(n for n in twin.graph.nodes if n.op == "output")
    return [n.meta["tensor"] for n in last.all_input_nodes]


class _Observer(fx.Interpreter, Generic[T]):
    def __init__(
        self, twin: fx.GraphModule, wanted: frozenset[str], look: Callable[[str, Tensor], T]
    ) -> None:
        super().__init__(twin)
        self.wanted, self.look = wanted, look
        self.found: dict[str, T] = {}

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if n.op != "output" and n.meta["tensor"] in self.wanted:
            self.found[n.meta["tensor"]] = self.look(n.meta["tensor"], value)
        return value


def _leaf(x: Tensor) -> Tensor:
    """A copy that gradients may come back to, unless it holds indices."""
    return x.detach().clone().requires_grad_(x.is_floating_point())
