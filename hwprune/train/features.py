"""Inner tensors of a network beside its outputs, for a student that is to have the teacher's."""

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from hwprune.train.loss import Outputs, as_tuple

Shapes = dict[str, tuple[int, ...]]


class Features(nn.Module):
    """Student and teacher, both giving the inner tensors that they have alike, too.

    Tensors go by their ONNX names, which stay when a network is pruned. Of each network the
    parameters are shared with the module given.
    """

    def __init__(self, student: fx.GraphModule, teacher: fx.GraphModule, x: Outputs) -> None:
        super().__init__()
        mine, theirs = shapes(student, x), shapes(teacher, x)
        self.tensors = [t for t, shape in mine.items() if theirs.get(t) == shape]
        self.student = with_tensors(student, self.tensors)
        self.teacher = with_tensors(teacher, self.tensors)

    def parts(self, out: Outputs) -> tuple[Outputs, Outputs]:
        """Outputs of the network, and its inner tensors."""
        end = len(out) - len(self.tensors)
        return out[:end], out[end:]

    def distance(self, student: Outputs, teacher: Outputs) -> Tensor:
        """Mean over the tensors of the squared error relative to the teacher's variance."""
        pairs = zip(student, teacher, strict=True)
        each = [F.mse_loss(s.float(), t) / t.var().clamp_min(1e-12) for s, t in pairs]
        return torch.stack(each).mean() if each else torch.zeros(())


@torch.no_grad()
def shapes(module: fx.GraphModule, x: Outputs) -> Shapes:
    """Of what every residual sum puts out: where the streams of a network come together."""
    found: Shapes = {}

    class Reader(fx.Interpreter):
        def run_node(self, n: fx.Node) -> object:
            value = super().run_node(n)
            if _is_sum(n) and isinstance(value, Tensor):
                found[n.meta["tensor"]] = tuple(value.shape[1:])
            return value

    Reader(module).run(*x)
    return found


def with_tensors(module: fx.GraphModule, tensors: list[str]) -> fx.GraphModule:
    """The same network, parameters shared, that gives the named tensors behind its outputs."""
    graph = fx.Graph()
    values: dict[fx.Node, fx.Node] = {}
    last = graph.graph_copy(module.graph, values)
    named = {n.meta["tensor"]: copied for n, copied in values.items() if n.meta.get("tensor")}
    graph.output((*as_tuple(last), *(named[t] for t in tensors)))  # type: ignore[arg-type]
    return fx.GraphModule(module, graph)


def _is_sum(node: fx.Node) -> bool:
    operands = [a for a in node.args if isinstance(a, fx.Node) and a.op != "get_attr"]
    name = getattr(node.target, "__name__", "")
    return bool(node.meta.get("tensor")) and name == "add" and len(operands) == 2
