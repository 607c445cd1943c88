"""What the codecs are compared on: a network of Laplacian weights, and trained ones."""

import argparse
import warnings
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper

from hwprune.codec.allocation import relative_steps
from hwprune.codec.dials import DeadZone
from hwprune.codec.moments import moments
from hwprune.codec.rate import Dial, Packed
from hwprune.codec.skeleton import elements, holes
from hwprune.export.lower import lower
from hwprune.frontend.models import load_model
from hwprune.graph.read import canonical, to_proto
from hwprune.progress import Silent
from hwprune.quantize.ptq import quantize
from hwprune.registry import get_backend
from hwprune.stages.options import DataOptions
from hwprune.stages.pack_bounds import fitted
from hwprune.stages.pack_dials import dial_of, inverses, probed
from hwprune.stages.pack_options import PackOptions
from hwprune.stages.pack_subject import Subject, subject
from hwprune.verify.outputs import file_outputs

WIDTH = 1000  # of the layers of the Laplacian network


def laplacian(weights: int, seed: int = 0) -> bytes:
    """Layers of WIDTH x WIDTH Laplacian weights, so many weights in all."""
    rng = np.random.default_rng(seed)
    layers = max(1, round(weights / WIDTH**2))
    tensors = [
        numpy_helper.from_array(
            rng.laplace(0, 0.02, (WIDTH, WIDTH)).astype(np.float32), f"weight{i}"
        )
        for i in range(layers)
    ]
    names = ["x", *(f"y{i}" for i in range(layers))]
    nodes = [
        helper.make_node("MatMul", [names[i], f"weight{i}"], [names[i + 1]], f"layer{i}")
        for i in range(layers)
    ]
    ends = [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, WIDTH])
        for name in (names[0], names[-1])
    ]
    graph = helper.make_graph(nodes, "laplacian", ends[:1], ends[1:], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


@dataclass(frozen=True)
class Network:
    """A trained network, and data to calibrate on and to judge by."""

    model: bytes
    options: PackOptions

    @cached_property
    def subject(self) -> Subject:
        """With its data."""
        return subject(self.model, self.options)

    @property
    def parameters(self) -> int:
        """Numbers in its tensors."""
        return elements(holes(self.model))

    def top1(self, model: bytes) -> float:
        """Percent of the evaluation images."""
        data = self.subject.splits.eval
        x = data.inputs(slice(0, len(data)))
        found = file_outputs(model, x, self.options.threads)[0].argmax(1).numpy()
        return float(100 * (found == data.y).mean())

    def stored(self) -> dict[str, bytes]:
        """The network in the forms that people deploy."""
        return {"fp32": self.model, "fp16": self._half(), "int8": self.int8}

    @cached_property
    def int8(self) -> bytes:
        """Every layer that can be, by this package."""
        graph = canonical(onnx.load_from_string(self.model))
        able = get_backend("cpu").capabilities()
        kernels = {node.name: "int8" for node in graph.nodes}
        x = tuple(torch.from_numpy(a) for a in self.subject.samples(256))
        found = quantize(graph, kernels, able, x)
        return bytes(lower(found.graph, kernels, found.encodings, able).SerializeToString())

    def dial(self, codec: str) -> Dial:
        """A codec, set up for the network."""
        plain = codec == "levels"
        options = replace(self.options, codec=codec, plain=plain)
        return dial_of(replace(self.subject, options=options), Silent())

    def variants(self) -> dict[str, Dial]:
        """`deadzone` without what makes it good, one thing after the other."""
        data, probe = self.subject.data, probed(self.subject, 256)
        found = probe.weights
        known = inverses(found, moments(probe))
        alike = {w.index: 0.5 * float(w.values.std()) for w in found}
        measured = relative_steps(found, probe, {})
        together = relative_steps(found, probe, known)
        blind = replace(self.options, codec="deadzone", data=DataOptions())
        return {
            "steps alike, to the nearest": DeadZone(data, found, alike),
            "steps alike, for the output": DeadZone(data, found, alike, known),
            "steps by effect, to the nearest": DeadZone(data, found, measured),
            "steps by effect, for the output": DeadZone(data, found, together, known),
            "the same, on made-up inputs": dial_of(subject(data, blind), Silent()),
        }

    def within(self, drop: float, int8: bool = False) -> Packed:
        """The coarsest file of `deadzone` that loses no more points."""
        model = self.int8 if int8 else self.model
        found = subject(model, replace(self.options, codec="deadzone", max_drop=drop))
        return fitted(found, dial_of(found, Silent()), Silent())

    def _half(self) -> bytes:
        """Weights in fp16 behind a Cast, as anybody can."""
        model = onnx.load_from_string(self.model)
        for tensor in model.graph.initializer:
            if tensor.data_type == onnx.TensorProto.FLOAT and len(tensor.dims) > 1:
                values = numpy_helper.to_array(tensor).astype(np.float16)
                name = tensor.name
                tensor.CopyFrom(numpy_helper.from_array(values, f"{name}/half"))
                to = int(onnx.TensorProto.FLOAT)
                node = helper.make_node("Cast", [f"{name}/half"], [name], to=to)
                model.graph.node.insert(0, node)
        return bytes(model.SerializeToString())


def read_network(args: argparse.Namespace) -> Network:
    """The network that the command line names."""
    warnings.simplefilter("ignore")
    if Path(args.model).suffix == ".onnx":
        model, normalization = Path(args.model).read_bytes(), None
    else:
        weights = None if args.weights_file is None else Path(args.weights_file)
        loaded = load_model(args.model, weights)
        model, normalization = to_proto(loaded.graph).SerializeToString(), loaded.normalization
    mean, std = (None, None) if normalization is None else (normalization.mean, normalization.std)
    data = DataOptions(None, args.train_data, args.eval_data, mean, std, args.scale)
    return Network(model, PackOptions(data=data))
