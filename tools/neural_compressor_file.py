#!/usr/bin/env python3
"""A file quantised by neural-compressor's post-training quantisation (QDQ), with its defaults.

    PYTHON tools/neural_compressor_file.py SOURCE.onnx TARGET.onnx SAMPLES.npy

Its releases that quantise ONNX (2.x) need an older onnx than hwprune, so this runs in an
environment of its own, of which `bench_quantize.py --neural-compressor PYTHON` is told:
`pip install neural-compressor==2.6 onnx==1.16.2 onnxruntime==1.20.1 'protobuf<6' 'setuptools<80'
six torch`.
"""

import sys
from collections.abc import Iterator

import numpy as np
import onnx
from neural_compressor import PostTrainingQuantConfig, quantization


class Samples:
    """What neural-compressor takes for a data loader: one sample at a time, no labels."""

    batch_size = 1

    def __init__(self, path: str) -> None:
        self.x = np.load(path)

    def __iter__(self) -> Iterator[tuple[np.ndarray, int]]:
        return ((sample[None], 0) for sample in self.x)


def main() -> None:
    source, target, samples = sys.argv[1:]
    loader = Samples(samples)
    how = PostTrainingQuantConfig(quant_format="QDQ", calibration_sampling_size=[len(loader.x)])
    found = quantization.fit(source, how, calib_dataloader=loader)
    if found is None:
        sys.exit("neural-compressor found no quantised network")
    onnx.save(found.model, target)


if __name__ == "__main__":
    main()
