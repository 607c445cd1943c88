"""Puts an artefact together: after a crash the folder holds the old one or the new one.

All files are written into a staging folder beside the old ones. Renaming that folder commits;
moving its files into place can then be finished by whoever comes next.
"""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from onnx.external_data_helper import set_external_data
from safetensors.numpy import save

from hwprune.errors import StoreError
from hwprune.graph.read import to_proto
from hwprune.store.files import write_atomic

NETWORK = "network.onnx"
WEIGHTS = "model.safetensors"
_STAGING = ".artifact-incomplete"
_COMMITTED = ".artifact"


def write_artifact(out: Path, graph: gs.Graph, files: Mapping[str, bytes]) -> None:
    """Writes `files` and the slim network into `out`, all or nothing.

    Args:
        out: The folder; made if absent, other files in it stay.
        graph: The slim fp32 graph: its weights become `model.safetensors`, and `network.onnx` is
            its structure, an ordinary ONNX file whose external data are the safetensors file.
        files: Content by file name.

    Raises:
        StoreError: The disk is full or the folder cannot be written; the old artefact is whole.
    """
    try:
        finish(out)
        staging = out / _STAGING
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(parents=True)
        for name, data in {**files, **network_files(graph)}.items():
            write_atomic(staging / name, data)
        staging.rename(out / _COMMITTED)
        finish(out)
    except OSError as error:
        raise StoreError(f"cannot write the artefact into {out}: {error.strerror}") from error


def finish(out: Path) -> None:
    """Moves the files of a committed artefact into place, if a crash kept them from it."""
    committed = out / _COMMITTED
    if committed.is_dir():
        for path in sorted(committed.iterdir()):
            os.replace(path, out / path.name)
        committed.rmdir()


def network_files(graph: gs.Graph) -> dict[str, bytes]:
    """`model.safetensors`, and `network.onnx` that points into it."""
    model = to_proto(graph)
    floats = {t.name: t for t in model.graph.initializer if t.data_type == onnx.TensorProto.FLOAT}
    arrays = {name: onnx.numpy_helper.to_array(tensor) for name, tensor in floats.items()}
    weights = save({name: np.ascontiguousarray(array) for name, array in arrays.items()})
    for name, (start, end) in _offsets(weights).items():
        set_external_data(floats[name], WEIGHTS, start, end - start)
        floats[name].ClearField("raw_data")
    return {WEIGHTS: weights, NETWORK: model.SerializeToString()}


def _offsets(safetensors: bytes) -> dict[str, tuple[int, int]]:
    """Where each tensor's bytes stand in a safetensors file."""
    length = int.from_bytes(safetensors[:8], "little")
    header = json.loads(safetensors[8 : 8 + length])
    first = 8 + length
    return {
        name: (first + entry["data_offsets"][0], first + entry["data_offsets"][1])
        for name, entry in header.items()
        if name != "__metadata__"
    }
