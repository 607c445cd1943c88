"""What the criteria know about a network: second moments of inputs, sensitivity of outputs."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import onnx_graphsurgeon as gs
import torch
import torch.nn.functional as F
from torch import Tensor, fx

from hwprune.errors import DataError
from hwprune.network import linear
from hwprune.network.run import Data, Inputs, batches, inputs_of
from hwprune.network.twin import to_module

_LEAST_ROWS, _MOST_ROWS, _ROWS_PER_COLUMN = 6000, 16384, 8


@dataclass(slots=True)
class LayerStatistics:
    """One layer on calibration data; float64.

    Attributes:
        count: Sampled rows so far.
        total: Sum of the input rows, groups x columns.
        moment: Sum of their outer products, groups x columns x columns.
        fisher: Per output channel, the sum over all positions of the squared loss gradient.
        variance: Per output channel, the variance over all positions, summed batch by batch.
        samples: Samples seen.
        positions: Output positions per sample.
    """

    layer: linear.Layer
    total: Tensor
    moment: Tensor
    fisher: Tensor
    variance: Tensor
    count: int = 0
    samples: int = 0
    positions: int = 0

    @property
    def covariance(self) -> Tensor:
        """Covariance of the input columns, groups x columns x columns."""
        mean = self.total / self.count
        return self.moment / self.count - mean[:, :, None] * mean[:, None, :]

    @property
    def sensitivity(self) -> Tensor:
        """Per output channel: loss (nats per sample) per mean squared error of the channel.

        Half the diagonal of the Fisher matrix, summed over the positions of a sample. Where no
        gradient came back (behind is what torch cannot compute), all channels count alike, each
        relative to its own variance.
        """
        if not self.fisher.any():
            spread = (self.variance / self.samples).clamp_min(1e-12)
            return 0.5 / (spread * len(spread))
        return 0.5 * self.fisher / self.samples

    @property
    def silencing(self) -> Tensor:
        """Per output channel: loss when the channel is replaced by its mean."""
        return self.sensitivity * self.variance / self.samples


def collect(graph: gs.Graph, x: Data, seed: int) -> dict[str, LayerStatistics]:
    """Statistics of every convolution and linear layer, by node name.

    The loss is the cross-entropy with labels drawn from the network's own softmax, so that its
    squared gradient estimates the Fisher information (no labels are needed); for a network that
    is no classifier, half the squared error relative to the spread of the outputs.

    Raises DataError where a layer's outputs are not finite.
    """
    generator = torch.Generator().manual_seed(seed)
    samples = inputs_of(x)
    collector = _Collector(graph, generator, len(samples[0]))
    for batch in batches(collector.twin, samples):
        collector.add(batch)
    return collector.found


class _Collector(fx.Interpreter):
    def __init__(self, graph: gs.Graph, generator: torch.Generator, samples: int) -> None:
        self.twin = to_module(graph)
        super().__init__(self.twin.requires_grad_(False))
        self.extra_traceback = False  # torch's, in the middle of our messages
        self.generator, self.samples, self.batch = generator, samples, 0
        self.layers = linear.layers(self.module)
        self.is_probability = [t.inputs and t.inputs[0].op == "Softmax" for t in graph.outputs]
        self.found: dict[str, LayerStatistics] = {}
        self.live: list[tuple[LayerStatistics, Tensor]] = []

    def add(self, x: Inputs) -> None:
        self.live.clear()
        self.batch = len(x[0])  # a layer may see the places of several samples as so many rows
        result = self.run(*map(_leaf, x))
        outputs = result if isinstance(result, tuple) else (result,)
        if not any(output.requires_grad for output in outputs):
            return
        gradients = torch.autograd.grad(
            self._loss(outputs), [output for _, output in self.live], allow_unused=True
        )
        for (statistics, _), gradient in zip(self.live, gradients, strict=True):
            if gradient is not None:
                axis = linear.channel_axis(statistics.layer)
                rows = gradient.movedim(axis, -1).flatten(0, -2)
                statistics.fisher += rows.double().square().sum(0)

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        name = n.meta["node"]
        if n.op == "call_module" and name in self.layers:
            (x, *_), _ = self.fetch_args_kwargs_from_env(n)
            statistics = self._record(name, x.detach(), value.detach(), self.batch)
            self.live.append((statistics, value))
        return value

    def _record(self, name: str, x: Tensor, output: Tensor, batch: int) -> LayerStatistics:
        layer = self.layers[name]
        if not bool(torch.isfinite(output).all()):
            raise DataError(
                f"layer {name!r} gives values that are NaN or infinite on this data",
                "check the scale of the data (--mean, --std, --scale), and the weights",
            )
        if name not in self.found:
            split, columns, outputs = (
                linear.groups(layer),
                linear.columns(layer),
                layer.weight.shape[0],
            )
            self.found[name] = LayerStatistics(
                layer,
                torch.zeros(split, columns, dtype=torch.float64),
                torch.zeros(split, columns, columns, dtype=torch.float64),
                torch.zeros(outputs, dtype=torch.float64),
                torch.zeros(outputs, dtype=torch.float64),
            )
        found, count = self.found[name], linear.positions(layer, output)
        most = min(max(_ROWS_PER_COLUMN * linear.columns(layer), _LEAST_ROWS), _MOST_ROWS)
        share = -(-most * batch // self.samples)
        rows = linear.input_rows(layer, x, torch.randperm(count, generator=self.generator)[:share])
        found.total += rows.sum(1).double()
        found.moment += (rows.mT @ rows).double()
        found.count += rows.shape[1]
        spread = output.movedim(linear.channel_axis(layer), -1).flatten(0, -2).var(0, correction=0)
        found.variance += batch * spread.double()
        found.samples += batch
        found.positions = count // batch
        return found

    def _loss(self, outputs: tuple[Tensor, ...]) -> Tensor:
        """Summed over the samples: gradients stay those of single samples."""
        if len(outputs) == 1 and outputs[0].ndim == 2 and outputs[0].shape[1] > 1:
            logits = outputs[0].clamp_min(1e-12).log() if self.is_probability[0] else outputs[0]
            labels = torch.multinomial(logits.detach().softmax(1), 1, generator=self.generator)
            return F.cross_entropy(logits, labels.squeeze(1), reduction="sum")
        return torch.stack(list(self._gaussian(outputs))).sum()

    def _gaussian(self, outputs: tuple[Tensor, ...]) -> Iterator[Tensor]:
        """Scores of targets drawn around the outputs: their squared gradient is the Fisher."""
        for output in (o for o in outputs if o.requires_grad):
            noise = torch.randn(output.shape, generator=self.generator)
            size = output[0].numel() ** 0.5 * output.detach().std().clamp_min(1e-6)
            yield (output * noise).sum() / size


def _leaf(x: Tensor) -> Tensor:
    """A copy that gradients may come back to, unless it holds indices."""
    return x.detach().clone().requires_grad_(x.is_floating_point())
