"""What a written file really answers, asked through onnxruntime."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray

Array = NDArray[Any]


def file_outputs(
    model: Path | bytes, x: Array | tuple[Array, ...], threads: int = 1
) -> list[torch.Tensor]:
    """Outputs of the file for every sample of `x`, in portions of the batch it was written for.

    Args:
        model: ONNX file, or what stands in one, with inputs `B x ...`; an open batch is fed one
            by one.
        x: `N x ...`, one array for each input; the last portion is filled up by repetition, and
            cut again.
        threads: So many portions run side by side, each in one thread: sooner done than one
            portion after another in all threads.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3  # older files list every weight as an input: a warning for each
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    feeds, given = session.get_inputs(), x if isinstance(x, tuple) else (x,)
    count, batch = len(given[0]), feeds[0].shape[0] if isinstance(feeds[0].shape[0], int) else 1

    def answers_from(start: int) -> list[Array]:
        portion = (np.resize(a[start : start + batch], (batch, *a.shape[1:])) for a in given)
        answers: list[Array] = session.run(
            None, {f.name: a for f, a in zip(feeds, portion, strict=True)}
        )
        return answers

    with ThreadPoolExecutor(threads) as pool:
        found = list(pool.map(answers_from, range(0, count, batch)))
    joined = [
        _joined([answers[i] for answers in found], count, batch) for i in range(len(found[0]))
    ]
    return [torch.from_numpy(answer) for answer in joined]


def _joined(portions: list[Array], samples: int, batch: int) -> Array:
    """Cuts what was repeated; a leading axis longer than the batch holds several rows a sample."""
    whole = np.concatenate(portions)
    return whole[: samples * max(1, len(portions[0]) // batch)]
