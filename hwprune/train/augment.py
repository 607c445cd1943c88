"""Random views of photographs."""

import torch
import torch.nn.functional as F
from torch import Tensor

_LEAST = 32  # pixels; smaller images and grey ones (digits, characters) are not flipped or cropped


def suits(x: Tensor) -> bool:
    """Whether N x C x H x W inputs are colour images large enough to be photographs."""
    return x.ndim == 4 and x.shape[1] == 3 and min(x.shape[2:]) >= _LEAST


def flip_and_crop(x: Tensor, generator: torch.Generator) -> Tensor:
    """Each image mirrored or not, and shifted by up to an eighth, reflected at the border."""
    n, _, height, width = x.shape
    margin = min(height, width) // 8
    padded = F.pad(x, (margin,) * 4, mode="reflect")
    top, left = (torch.randint(2 * margin + 1, (n, 1), generator=generator) for _ in "yx")
    rows = top + torch.arange(height)
    columns = left + torch.arange(width)
    mirrored = torch.rand((n, 1), generator=generator) < 0.5
    columns = torch.where(mirrored, columns.flip(1), columns)
    index = torch.arange(n).view(-1, 1, 1)
    # advanced indices around a slice put the channels last; bring them back
    return padded[index, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
