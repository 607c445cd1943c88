"""BatchNorm behind convolutions: in without changing the function, and folded away again.

Canonical graphs hold no BatchNorm behind a convolution, whether the network was trained with it or
not. Training does far better with it, so it comes back for that time.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, fx, nn

from hwprune.frontend.dataset import DataSet
from hwprune.network.run import Data, split
from hwprune.quantize.quantizers import absorbs_factors, kind, scale_outputs
from hwprune.train.feed import batch_size

Norm = nn.modules.batchnorm._BatchNorm
_NORMS: dict[type[nn.Module], type[Norm]] = {
    nn.Conv1d: nn.BatchNorm1d,
    nn.Conv2d: nn.BatchNorm2d,
    nn.Conv3d: nn.BatchNorm3d,
}
_TINY = 1e-12
_STATISTICS = 256  # samples that statistics are taken from
_REFRESHED = 2048  # samples that they are taken from anew


@dataclass(slots=True)
class _Statistics:
    """Sums per channel of what a convolution puts out."""

    count: int
    total: Tensor
    squares: Tensor


@contextmanager
def normalized(module: fx.GraphModule, data: DataSet, seed: int) -> Iterator[None]:
    """Within it BatchNorm stands behind every convolution that can take it."""
    few = data.take(_STATISTICS, seed)
    sample = tuple(map(torch.from_numpy, few.inputs(slice(0, len(few)))))
    insert_batchnorm(module, sample, batch_size(tuple(sample[0].shape[1:])))
    yield
    fold_batchnorm(module)


def insert_batchnorm(module: fx.GraphModule, x: Data, batch: int) -> int:
    """Puts BatchNorm behind every convolution that has a bias and weights of its own, in place.

    Statistics come from `x`, so that in evaluation mode nothing changes. Each filter is
    scaled to length 1: the learning rate then means the same for every network.

    Returns:
        How many were put in.
    """
    places = [node for node in module.graph.nodes if _takes_norm(module, node)]
    statistics = _measure(module, [str(node.target) for node in places], x, batch)
    for node in places:
        path = str(node.target)
        conv = cast("nn.Conv2d", module.get_submodule(path))
        norm = _identity_norm(conv, statistics[path])
        module.add_submodule(_norm_path(path), norm)
        with module.graph.inserting_after(node):
            placed = module.graph.call_module(_norm_path(path), (node,))
        node.replace_all_uses_with(placed, lambda user, own=placed: user is not own)
        placed.meta |= node.meta
        node.meta["tensor"] = ""
    module.recompile()
    return len(places)


@torch.no_grad()
def fold_batchnorm(module: fx.GraphModule) -> None:
    """Takes what `insert_batchnorm` put in out again, folded into the convolutions, in place."""
    for node in list(module.graph.nodes):
        norm = module.get_submodule(str(node.target)) if node.op == "call_module" else None
        source = node.args[0] if node.args else None
        if not isinstance(norm, Norm) or not isinstance(source, fx.Node):
            continue
        if node.target != _norm_path(str(source.target)):
            continue
        _fold(cast("nn.Conv2d", module.get_submodule(str(source.target))), norm)
        node.replace_all_uses_with(source)
        source.meta |= node.meta
        module.graph.erase_node(node)
        module.delete_submodule(str(node.target))
    module.recompile()


@torch.no_grad()
def reestimate(module: nn.Module, data: DataSet, seed: int) -> None:
    """Running statistics of every norm as the network is now.

    Whatever changes weights at once (a mask, a rounding) leaves statistics of what was behind.
    """
    norms = [m for m in module.modules() if isinstance(m, Norm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean over the batches
        norm.train()
    few = data.take(_REFRESHED, seed)
    samples = tuple(map(torch.from_numpy, few.inputs(slice(0, len(few)))))
    for portion in split(samples, batch_size(tuple(samples[0].shape[1:]))):
        module(*portion)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.eval()


def norm_behind(module: nn.Module, path: str) -> Norm | None:
    """The norm that `insert_batchnorm` put behind the convolution at `path`, if it did."""
    owner, _, name = path.rpartition(".")
    found = dict(module.get_submodule(owner).named_children()).get(_norm_path(name))
    return found if isinstance(found, Norm) else None


def factors(norm: Norm) -> Tensor:
    """What a norm multiplies each channel by, in evaluation; double precision."""
    variance = cast("Tensor", norm.running_var)
    return norm.weight.double() / (variance.double() + norm.eps).sqrt()


def _norm_path(path: str) -> str:
    return f"{path}_batchnorm"


def _takes_norm(module: fx.GraphModule, node: fx.Node) -> bool:
    if node.op != "call_module":
        return False
    conv = module.get_submodule(str(node.target))
    if not absorbs_factors(conv) or kind(conv) not in _NORMS or conv.bias is None:
        return False
    owners = Counter(id(p) for m in module.modules() for p in m.parameters(recurse=False))
    calls = sum(other.target == node.target for other in module.graph.nodes)
    return calls == 1 and all(owners[id(p)] == 1 for p in conv.parameters())


@torch.no_grad()
def _measure(
    module: fx.GraphModule, paths: list[str], x: Data, batch: int
) -> dict[str, _Statistics]:
    found: dict[str, _Statistics] = {}

    def hook(path: str, out: Tensor) -> None:
        channels = out.double().transpose(0, 1).flatten(1)
        sums = _Statistics(channels.shape[1], channels.sum(1), channels.square().sum(1))
        if path in found:
            sums.count += found[path].count
            sums.total += found[path].total
            sums.squares += found[path].squares
        found[path] = sums

    handles = [
        module.get_submodule(path).register_forward_hook(
            lambda _module, _args, out, path=path: hook(path, out)
        )
        for path in paths
    ]
    try:
        for portion in split(x, batch):
            module(*portion)
    finally:
        for handle in handles:
            handle.remove()
    return found


@torch.no_grad()
def _identity_norm(conv: nn.Conv2d, statistics: _Statistics) -> Norm:
    """A norm that undoes itself: weight sqrt(var + eps), bias mean. Rescales the filters."""
    mean = statistics.total / statistics.count
    variance = (statistics.squares / statistics.count - mean.square()).clamp_min(0)
    length = conv.weight.double().flatten(1).norm(dim=1)
    length = torch.where(length > _TINY, length, 1.0)
    norm = _NORMS[kind(conv)](conv.out_channels).eval()
    cast("Tensor", norm.running_mean).copy_(mean / length)
    cast("Tensor", norm.running_var).copy_(variance / length.square())
    norm.weight.copy_((variance / length.square() + norm.eps).sqrt() * length)
    norm.bias.copy_(mean)
    scale_outputs(conv, 1 / length)
    return norm


def _fold(conv: nn.Conv2d, norm: Norm) -> None:
    mean, scale = cast("Tensor", norm.running_mean), factors(norm)
    scale_outputs(conv, scale)
    cast("Tensor", conv.bias).add_(norm.bias.double() - mean.double() * scale)
