"""What a written file really answers, asked through onnxruntime."""

from pathlib import Path

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray


def file_outputs(model: Path, x: NDArray[np.float32], threads: int = 0) -> list[torch.Tensor]:
    """Outputs of the file for every sample of `x`, in portions of the batch it was written for.

    Args:
        model: ONNX file with one input `B x ...`; an open batch is fed one by one.
        x: `N x ...`; the last portion is filled up by repetition, and cut again.
        threads: 0 is the runtime's own choice.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    feed = session.get_inputs()[0]
    batch = feed.shape[0] if isinstance(feed.shape[0], int) else 1
    found: list[list[NDArray[np.float32]]] = []
    for start in range(0, len(x), batch):
        portion = np.resize(x[start : start + batch], (batch, *x.shape[1:]))
        found.append(session.run(None, {feed.name: np.ascontiguousarray(portion)}))
    joined = [
        _joined([answers[i] for answers in found], len(x), batch) for i in range(len(found[0]))
    ]
    return [torch.from_numpy(answer) for answer in joined]


def _joined(portions: list[NDArray[np.float32]], samples: int, batch: int) -> NDArray[np.float32]:
    """Cuts what was repeated; a leading axis longer than the batch holds several rows a sample."""
    whole = np.concatenate(portions)
    return whole[: samples * max(1, len(portions[0]) // batch)]
