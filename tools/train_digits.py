"""Trains the bundled digits network and writes models/digits.safetensors.

    python tools/train_digits.py [--out models/digits.safetensors] [--start WEIGHTS --phase 5]

Most epochs run on small images, the last ones at the network's 128 x 128 pixels. Only the training
part of the digits is trained on, the search part watches progress, and the eval part is scored
once, at the very end, with the weights as they were written (fp16).

The bundled weights went through these phases in several sittings, from one fp16 checkpoint to the
next with a fresh seed each (`--start` and `--phase` do the same), so a single run comes out alike
but not bit for bit.
"""

import argparse
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from hwprune.models.digits import INPUT_SHAPE, digits
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from hwprune.frontend.dataset import DataSet
from hwprune.frontend.digits import load_digits

# image size, epochs, batch, peak learning rate
PHASES = (
    (44, 40, 50, 0.1),
    (88, 10, 50, 0.04),
    (176, 3, 25, 0.01),
    (176, 6, 25, 0.05),
    (144, 2, 25, 0.01),
    (128, 2, 25, 0.01),
)
HAS_BFLOAT16 = "AVX512" in torch.backends.cpu.get_cpu_capability()
SIZE = (INPUT_SHAPE[2], INPUT_SHAPE[3])


def main() -> None:
    options = _options()
    torch.manual_seed(0)
    torch.set_num_threads(options.threads)
    train, search, held_out = _parts(load_digits(SIZE))
    module = digits().to(memory_format=torch.channels_last)
    if options.start:
        module.load_state_dict(load_file(options.start))
    for size, epochs, batch, rate in PHASES[options.phase - 1 :]:
        _train(module, train, size, epochs, batch, rate)
        print(f"{size} px: search part {_top1(module, search):.4f}", flush=True)
    state = module.state_dict()
    half = {k: v.half() if v.is_floating_point() else v for k, v in state.items()}
    save_file({k: v.contiguous() for k, v in half.items()}, options.out)
    module.load_state_dict(load_file(options.out))
    print(f"as written: search {_top1(module, search):.4f}, eval {_top1(module, held_out):.4f}")


def _train(
    module: nn.Module, data: DataSet, size: int, epochs: int, batch: int, rate: float
) -> None:
    images = torch.from_numpy(data.x)
    images = F.interpolate(images, (size, size), mode="bilinear", align_corners=False)
    assert data.y is not None
    labels = torch.from_numpy(data.y)
    optimizer = torch.optim.SGD(module.parameters(), rate, 0.9, weight_decay=5e-4, nesterov=True)
    steps = epochs * (len(data) // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, steps, pct_start=0.15)
    module.train()
    for epoch in range(epochs):
        total = 0.0
        for index in torch.randperm(len(data))[: steps // epochs * batch].view(-1, batch):
            x = _jitter(images[index]).to(memory_format=torch.channels_last)
            with torch.autocast("cpu", torch.bfloat16, enabled=HAS_BFLOAT16):
                logits = module(x)
            loss = F.cross_entropy(logits.float(), labels[index], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            total += loss.item()
        print(f"{size} px, epoch {epoch + 1}: loss {total * epochs / steps:.4f}", flush=True)


def _jitter(x: Tensor) -> Tensor:
    """Turns, scales and shifts every image a little; what comes in from outside is background."""
    n = len(x)
    angle = (torch.rand(n) * 2 - 1) * 0.2
    scale = 1 + (torch.rand(n) * 2 - 1) * 0.1
    shift = (torch.rand(n, 2, 1) * 2 - 1) * 0.15
    cos, sin = scale * angle.cos(), scale * angle.sin()
    rotation = torch.stack([torch.stack([cos, -sin], 1), torch.stack([sin, cos], 1)], 1)
    grid = F.affine_grid(torch.cat([rotation, shift], 2), list(x.shape), align_corners=False)
    background = x.amin()
    return F.grid_sample(x - background, grid, align_corners=False) + background


@torch.no_grad()
def _top1(module: nn.Module, data: DataSet) -> float:
    module.eval()
    batches = np.array_split(np.arange(len(data)), max(1, len(data) // 25))
    logits = torch.cat([module(torch.from_numpy(data.batch(index))) for index in batches])
    assert data.y is not None
    return float((logits.argmax(1).numpy() == data.y).mean())


def _parts(data: DataSet) -> list[DataSet]:
    assert data.parts is not None
    ends = np.cumsum((0, *data.parts))
    return [data.select(slice(a, b)) for a, b in pairwise(ends)]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    here = Path(__file__).parent.parent
    parser.add_argument("--out", type=Path, default=here / "models" / "digits.safetensors")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--start", type=Path, help="weights to go on from")
    parser.add_argument("--phase", type=int, default=1, help="the first phase to run, from 1")
    return parser.parse_args()


if __name__ == "__main__":
    main()
