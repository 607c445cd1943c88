#!/usr/bin/env python3
"""Lets atheris look for files that the reader answers with anything but a typed error.

    pip install atheris
    python tools/fuzz_guided.py [CORPUS_DIR] [-max_total_time=60] [other options of libFuzzer]

Coverage of our reader's Python code guides the mutations. The corpus begins with small networks of
every block; a file that ends in an untyped exception, takes 30 s or 2 GiB more is kept as crash-*.
"""

import contextlib
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["hwprune.graph"]):
    from hwprune.errors import HwpruneError
    from hwprune.graph.read import read_graph
from hwprune.testing.networks import BLOCKS, build_model

_LIMITS = ["-timeout=30", "-rss_limit_mb=4096", "-max_len=20000"]


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"

        def read(data: bytes) -> None:
            path.write_bytes(data)
            with contextlib.suppress(HwpruneError):
                read_graph(path)

        corpus = [a for a in sys.argv[1:] if not a.startswith("-")] or [f"{folder}/corpus"]
        _plant(Path(corpus[0]))
        flags = [a for a in sys.argv[1:] if a.startswith("-")] or ["-max_total_time=60"]
        atheris.Setup([sys.argv[0], *corpus, *_LIMITS, *flags], read)
        atheris.Fuzz()


def _plant(corpus: Path) -> None:
    corpus.mkdir(parents=True, exist_ok=True)
    for block in BLOCKS:
        (corpus / f"{block.__name__}.onnx").write_bytes(build_model(block).SerializeToString())


if __name__ == "__main__":
    main()
