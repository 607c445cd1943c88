"""Data-parallel training: several processes, each with its share of every batch.

`torchrun` starts them. Without it there is one process, and nothing here does anything; nor does
it outside `together`, for what one of the processes does alone.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn

_PATIENCE = timedelta(days=7)  # of processes that wait for a search to come to its training
_together = False


def begin() -> tuple[int, int]:
    """Joins the processes that torchrun has started; this one's number, and how many there are."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return 0, 1
    if not dist.is_initialized():
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        backend = "nccl" if torch.cuda.is_available() else "gloo"
        dist.init_process_group(backend, timeout=_PATIENCE)
    return dist.get_rank(), dist.get_world_size()


@contextmanager
def together() -> Iterator[None]:
    """Within it all processes train one network."""
    global _together
    _together = dist.is_available() and dist.is_initialized()
    try:
        yield
    finally:
        _together = False


def place() -> tuple[int, int]:
    """This process's number in the training, and how many there are."""
    return (dist.get_rank(), dist.get_world_size()) if _together else (0, 1)


def send(text: str) -> None:
    """From the first process to all others, which `receive` it."""
    content = torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8)
    dist.broadcast(_placed(torch.tensor([len(content)])), 0)
    dist.broadcast(_placed(content), 0)


def receive() -> str:
    """What the first process has to say next."""
    length = _placed(torch.zeros(1, dtype=torch.long))
    dist.broadcast(length, 0)
    content = _placed(torch.zeros(int(length), dtype=torch.uint8))
    dist.broadcast(content, 0)
    return bytes(content.cpu().tolist()).decode()


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
    if place()[1] == 1:
        return value
    shared = _placed(torch.tensor([value], dtype=torch.float64))
    dist.broadcast(shared, 0)
    return float(shared)


def _placed(value: Tensor) -> Tensor:
    """Where the processes exchange tensors."""
    if dist.get_backend() == "nccl":
        return value.to(torch.device("cuda", torch.cuda.current_device()))
    return value
