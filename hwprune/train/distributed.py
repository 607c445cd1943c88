"""Data-parallel training: several processes, each with its share of every batch.

`torchrun` starts them; without it there is one process, and nothing here does anything.
"""

import torch
import torch.distributed as dist
from torch import nn


def place() -> tuple[int, int]:
    """This process's number, and how many there are."""
    if not (dist.is_available() and dist.is_initialized()):
        return 0, 1
    return dist.get_rank(), dist.get_world_size()


@torch.no_grad()
def mean_gradients(module: nn.Module) -> None:
    """Every process gets the mean of all processes' gradients."""
    _, world = place()
    if world == 1:
        return
    for parameter in module.parameters():
        if parameter.grad is not None:
            dist.all_reduce(parameter.grad)
            parameter.grad.div_(world)


@torch.no_grad()
def alike(module: nn.Module) -> None:
    """Weights as the first process has them, running statistics as all have seen them."""
    _, world = place()
    if world == 1:
        return
    for parameter in module.parameters():
        dist.broadcast(parameter.data, 0)
    for buffer in module.buffers():
        if buffer.is_floating_point():
            dist.all_reduce(buffer)
            buffer.div_(world)


def first_of_all(value: float) -> float:
    """The first process's figure, for all: clocks differ."""
    _, world = place()
    if world == 1:
        return value
    shared = torch.tensor([value], dtype=torch.float64)
    if dist.get_backend() == "nccl":
        shared = shared.to(torch.device("cuda", torch.cuda.current_device()))
    dist.broadcast(shared, 0)
    return float(shared)
