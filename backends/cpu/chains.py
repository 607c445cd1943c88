"""From kernels to chains: models that hold one kernel many times over, as the runtime executes it.

The runtime's own optimised graph says which nodes a kernel is; those very nodes are then repeated,
each copy with weights of its own, and run without any further optimisation. One call of a chain
takes long enough that neither the clock nor the call tells on the time of a copy.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, prod
from typing import Any

import numpy as np
import onnx
from hwprune.backends.cpu.cost import expected_ns, size_bytes
from hwprune.backends.cpu.micro import build, stand_in
from hwprune.backends.cpu.model import MicroModel, Weight, declared
from onnx import TensorProto, helper

from hwprune.backend import Kernel

_CHAIN_NS = 250_000  # of a call, expected; the shorter, the likelier it is left alone
_MOST_COPIES = 48
_MOST_BYTES = 1 << 18  # of all weights: what stays in a cache in a network must do so in a chain
_GROUP_NODES, _GROUP_BYTES = 24, 1 << 26
_NAME = re.compile(r"\bk(\d+)/")
_LAYOUT = {"ReorderInput", "ReorderOutput", "Transpose"}

Shapes = Mapping[str, tuple[str, Sequence[int]]]  # tensor -> numpy type, shape
Optimise = Callable[[Sequence[MicroModel]], Iterable[onnx.ModelProto | None]]
Inspect = Callable[[Sequence["Chain"]], Iterable[Shapes | None]]


@dataclass(frozen=True, slots=True)
class Chain:
    """A model, the tensors in it that are to be made up, and how often it holds the kernel."""

    model: bytes
    weights: tuple[Weight, ...]
    copies: int
    expected_ns: float = 0.0  # of one call, roughly
    names: tuple[str, ...] = ()  # of the nodes that one copy is


def nothing() -> bytes:
    """A session that does nothing: what a call costs."""
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "nothing",
        [value("x", TensorProto.FLOAT, [1])],
        [value("y", TensorProto.FLOAT, [1])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    found: bytes = model.SerializeToString()
    return found


def chains_of(
    kernels: Sequence[Kernel], block: int, optimise: Optimise, inspect: Inspect
) -> list[Chain]:
    """One chain per kernel; one that cannot be built is replaced by its stand-in.

    Args:
        kernels: What is to be timed.
        block: Channels per block of the runtime's fp32 convolutions.
        optimise: Models as the runtime would run them, None for what it refuses.
        inspect: Type and shape of every output of a model, None for what fails to run.

    Raises:
        ValueError: The runtime refuses even a stand-in.
    """
    chains: dict[int, Chain] = {}
    refused: list[int] = []
    waiting = list(_groups(kernels))
    while waiting:
        models = [build([(f"k{i}/", kernels[i]) for i in group], block) for group in waiting]
        found = [
            {} if model is None else _dissected(model, group)
            for group, model in zip(waiting, optimise(models), strict=True)
        ]
        shapes = _shapes(found, inspect)
        for nodes, seen in zip(found, shapes, strict=True):
            if seen is not None:
                chains |= {i: n.chain(seen, kernels[i]) for i, n in nodes.items()}
        refused += [i for group in waiting if len(group) == 1 for i in group if i not in chains]
        waiting = [[i] for group in waiting if len(group) > 1 for i in group if i not in chains]
    replaced = [stand_in(kernels[i]) for i in refused]
    if any(kernels[i] == r for i, r in zip(refused, replaced, strict=True)):
        raise ValueError(f"onnxruntime refuses even {kernels[refused[0]].key()}")
    if refused:
        chains |= dict(zip(refused, chains_of(replaced, block, optimise, inspect), strict=True))
    return [chains[i] for i in range(len(kernels))]


def _shapes(groups: Sequence[Mapping[int, "_Nodes"]], inspect: Inspect) -> Iterator[Shapes | None]:
    """Of everything that the nodes of each group read; each group runs once."""
    probes = inspect([_probe(list(nodes.values())) for nodes in groups if nodes])
    answers = iter(probes)
    for nodes in groups:
        yield next(answers) if nodes else None


def _probe(parts: Sequence["_Nodes"]) -> Chain:
    """The model that all parts are of, with everything that they read among its outputs."""
    model = onnx.ModelProto()
    model.CopyFrom(parts[0].model)
    given = {v.name for v in (*model.graph.output, *model.graph.input)}
    for name in dict.fromkeys(n for part in parts for n in part.read()):
        if name not in given:
            model.graph.output.append(helper.make_empty_tensor_value_info(name))
    return Chain(model.SerializeToString(), parts[0].made_up(), 1)


def node_name(node: onnx.NodeProto) -> str:
    """The operator, with the domain it is from where that is not ONNX's own."""
    domain = node.domain.removeprefix("com.microsoft").removeprefix(".").upper()
    return f"{domain} {node.op_type}".strip()


def _groups(kernels: Sequence[Kernel]) -> Iterator[list[int]]:
    """Kernels that are optimised in one model."""
    group: list[int] = []
    size = 0
    for index, kernel in enumerate(kernels):
        more = size_bytes(kernel)
        if group and (len(group) >= _GROUP_NODES or size + more > _GROUP_BYTES):
            yield group
            group, size = [], 0
        group.append(index)
        size += more
    if group:
        yield group


def _copies(kernel: Kernel) -> int:
    wanted = ceil(_CHAIN_NS / expected_ns(kernel))
    fitting = _MOST_BYTES // max(1, 4 * sum(prod(s) for s in kernel.inputs[1:]))
    return max(1, min(_MOST_COPIES, wanted, fitting))


def _dissected(model: onnx.ModelProto, group: Sequence[int]) -> dict[int, "_Nodes"]:
    """The nodes of each kernel of a group, in order; what cannot be told is left out."""
    found: dict[int, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        if match := _NAME.search(node.name):
            found.setdefault(int(match[1]), []).append(node)
    if len(group) == 1 and not found:  # the optimiser renamed it: what else there is leads up to it
        rest = [n for n in model.graph.node if "lead/" not in n.name and n.op_type not in _LAYOUT]
        found = {group[0]: rest or list(model.graph.node)}
    return {i: _Nodes(model, nodes) for i, nodes in found.items() if i in group}


@dataclass(frozen=True, slots=True)
class _Nodes:
    """Some nodes of an optimised model."""

    model: onnx.ModelProto
    nodes: Sequence[onnx.NodeProto]

    def chain(self, shapes: Shapes, kernel: Kernel) -> Chain:
        """The nodes over and over, all copies reading the same inputs."""
        copies = _copies(kernel)
        known = {v.name: v for v in self.model.graph.input}
        inputs = [known[n] if n in known else _value(n, *shapes[n]) for n in self.read()]
        own = {name: (kind, shape) for name, kind, shape in self.made_up()}
        initializers = {t.name: t for t in self.model.graph.initializer}
        used = {n for node in self.nodes for n in node.input if n in initializers}
        inside = {o for node in self.nodes for o in node.output if o} | (used & own.keys())
        nodes = [
            _renamed(node, inside, f"{place}.{r}", r)
            for r in range(copies)
            for place, node in enumerate(self.nodes)
        ]
        weights = [(f"{n}.{r}", *own[n]) for n in sorted(used & own.keys()) for r in range(copies)]
        graph = helper.make_graph(
            nodes,
            "chain",
            inputs,
            [helper.make_empty_tensor_value_info(nodes[-1].output[0])],
            [initializers[n] for n in sorted(used - own.keys())] + [declared(*w) for w in weights],
        )
        opsets = [helper.make_opsetid(o.domain, o.version) for o in self.model.opset_import]
        ir = self.model.ir_version
        whole = helper.make_model(graph, opset_imports=opsets, ir_version=ir)
        expected = copies * expected_ns(kernel)
        names = tuple(node_name(n) for n in self.nodes)
        return Chain(whole.SerializeToString(), tuple(weights), copies, expected, names)

    def read(self) -> list[str]:
        """Tensors that come from elsewhere."""
        constants = {t.name for t in self.model.graph.initializer}
        made = {o for node in self.nodes for o in node.output}
        read = [n for node in self.nodes for n in node.input if n and n not in constants | made]
        return list(dict.fromkeys(read))

    def made_up(self) -> tuple[Weight, ...]:
        """The tensors of the model whose values do not matter."""
        return tuple(
            (t.name, helper.tensor_dtype_to_np_dtype(t.data_type).name, tuple(t.dims))
            for t in self.model.graph.initializer
            if t.data_location == TensorProto.EXTERNAL
        )


def _renamed(node: onnx.NodeProto, inside: set[str], name: str, copy: int) -> onnx.NodeProto:
    found = onnx.NodeProto()
    found.CopyFrom(node)
    found.name = name
    found.input[:] = [f"{n}.{copy}" if n in inside else n for n in node.input]
    found.output[:] = [f"{n}.{copy}" if n else n for n in node.output]
    return found


def _value(name: str, kind: str, shape: Sequence[int]) -> Any:
    element = helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    return helper.make_tensor_value_info(name, element, list(shape))
