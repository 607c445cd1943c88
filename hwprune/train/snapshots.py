"""A training on disk: whatever kills the process, it goes on from there.

One safetensors file: the tensors, and as its metadata the JSON of everything around them.
"""

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from hwprune.store.files import write_atomic

Tensors = dict[str, Tensor]


class Snapshots:
    """The file that holds the state of one training.

    `inputs` names everything the training is made from: a file of another one is not seen.
    """

    def __init__(self, path: Path, inputs: str) -> None:
        self.path, self.inputs = path, inputs

    def take(self) -> dict[str, Any] | None:
        """The state, or None where there is none of this very training."""
        try:
            content = self.path.read_bytes()
            tensors = load(content)
            header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
            document = json.loads(header["__metadata__"]["state"])
        except (OSError, SafetensorError, ValueError, KeyError):
            return None  # none yet, or not one of ours
        if document["inputs"] != self.inputs:
            return None
        found: dict[str, Any] = _filled(document["state"], tensors)
        return found

    def keep(self, state: dict[str, Any]) -> None:
        """Replaces the file. Raises StoreError where it cannot be written."""
        tensors: Tensors = {}
        document = {"inputs": self.inputs, "state": _emptied(state, tensors)}
        write_atomic(self.path, save(tensors, {"state": json.dumps(document)}))


def _emptied(value: Any, tensors: Tensors) -> Any:
    """The value as JSON can hold it; its tensors go into `tensors`."""
    if isinstance(value, Tensor):
        name = str(len(tensors))
        tensors[name] = value.detach().cpu().clone().contiguous()
        return {"tensor": name}
    if isinstance(value, dict):
        return {"pairs": [[key, _emptied(v, tensors)] for key, v in value.items()]}
    if isinstance(value, list | tuple):
        return [_emptied(v, tensors) for v in value]
    return value


def _filled(value: Any, tensors: Tensors) -> Any:
    if isinstance(value, list):
        return [_filled(v, tensors) for v in value]
    if not isinstance(value, dict):
        return value
    if "tensor" in value:
        return tensors[value["tensor"]]
    return {key: _filled(v, tensors) for key, v in value["pairs"]}
