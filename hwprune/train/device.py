"""Where a training computes, and in which precision."""

from contextlib import AbstractContextManager
from typing import Any

import torch


def training_device() -> torch.device:
    """The GPU that this process may use, or the CPU."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", torch.cuda.current_device())


def autocast(device: torch.device, wanted: bool) -> AbstractContextManager[object]:
    """bfloat16 where it is faster: on matrix units."""
    return torch.autocast(device.type, torch.bfloat16, enabled=wanted and _has_units(device))


def _has_units(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("amx_bf16", False))
