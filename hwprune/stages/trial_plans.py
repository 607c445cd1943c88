"""Plans made up to be timed: right in time, meaningless in values."""

import random

import onnx
import onnx_graphsurgeon as gs

from hwprune.backend import Capabilities
from hwprune.export.lower import lower
from hwprune.export.placeholder import placeholder_encodings
from hwprune.graph.channels import Coupling
from hwprune.graph.slim import slim
from hwprune.latency.kernels import KernelGraph
from hwprune.latency.space import SearchSpace
from hwprune.plan import Configuration
from hwprune.precision import INT8


def extremes(space: SearchSpace) -> list[Configuration]:
    """The untouched network in fp32, and with as much as possible in each other precision."""
    others = dict.fromkeys(k for options in space.kernels.values() for k in options[1:])
    plans = [{n: k for n, options in space.kernels.items() if k in options} for k in others]
    return [Configuration(), *(Configuration(kernels=kernels) for kernels in plans)]


def quantised_everywhere(network: KernelGraph) -> Configuration:
    """The untouched network with everything in int8 that can be; without kernels if nothing can."""
    able = [step.node for step in network.steps if INT8 in step.precisions]
    return network.settled(Configuration(kernels=dict.fromkeys(able, INT8)))


def drawn(space: SearchSpace, rng: random.Random) -> Configuration:
    """A plan of the space: its widths by chance, its kernels fp32, others or mixed.

    A third of the options, the narrowest, are left out: what is left of such a network is calls.
    """
    assignment = {f"width:{v}": rng.randrange(len(o) // 3, len(o)) for v, o in space.widths.items()}
    share = rng.choice((0.0, 0.2, 0.8, 1.0))
    for node, options in space.kernels.items():
        chosen = rng.randrange(1, len(options)) if rng.random() < share else 0
        assignment[f"kernel:{node}"] = chosen
    return space.configuration(assignment)


def scattered(network: KernelGraph, rng: random.Random) -> Configuration:
    """A plan of any widths down to a quarter, on multiples of 8, of 4 or anywhere, its kernels
    fp32, others or mixed.
    """
    least, multiple = rng.choice((0.25, 0.5, 0.75)), rng.choice((8, 4, 1))
    widths = {}
    for group in network.coupling.prunable:
        width = round(group.width * rng.uniform(least, 1) / multiple) * multiple
        widths[group.name] = min(group.width, max(multiple, width))
    share = rng.choice((0.0, 0.5, 0.5, 1.0))
    able = [s for s in network.steps if len(s.precisions) > 1]
    kernels = {s.node: rng.choice(s.precisions[1:]) for s in able if rng.random() < share}
    return Configuration(widths, frozenset(), kernels)


def as_built(
    graph: gs.Graph, network: KernelGraph, c: Configuration, capabilities: Capabilities
) -> onnx.ModelProto:
    """The file that a plan becomes, with the first channels kept and made-up ranges."""
    coupling: Coupling = network.coupling
    keep = {g: range(w) for g, w in c.widths.items() if w < coupling.full[g]}
    slimmed = slim(graph, coupling, keep, c.dropped)
    left = {node.name for node in slimmed.nodes}
    settled = network.settled(c)
    kernels = {n: k for n, k in settled.kernels.items() if n in left}
    encodings = placeholder_encodings(slimmed, kernels, capabilities, settled.weight_bits)
    return lower(slimmed, kernels, encodings, capabilities)
