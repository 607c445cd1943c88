#!/usr/bin/env python3
"""What the exact rewrites are worth: each network as it came against its rewritten form.

    python tools/bench_rewrites.py [FILE ...] [--shared ../shared/data] [--only TEXT] [--threads 1]
                                   [--seconds 4] [--processes 5] [--target cpu] [--plain]

For every rewrite that applies: the nodes before and after, in the file and as the runtime runs
them, and the ratios of time that decide. Then
the network with all that were kept: time after over before, in fp32 and with everything in int8
that can be, files in turns, the 20th percentile of each process, the median over processes and
their range. `--plain` times nothing and shows what applies.
"""

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

import onnx_graphsurgeon as gs

from hwprune.frontend.arrays import inputs_of_graph, made_up
from hwprune.frontend.models import load_model
from hwprune.graph.coupling import couple
from hwprune.graph.read import to_proto
from hwprune.registry import get_backend
from hwprune.rewrites.table import REWRITES, alike
from hwprune.stages.rewriting import Gain, bound_macs, in_turns, is_worth_it
from hwprune.stages.subject import Subject
from hwprune.units import format_count
from hwprune.verify.equality import difference

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
FILES = {
    "resnet8": "cifar10_resnet8.onnx",
    "resnet_large": "cifar10_resnet_large.onnx",
    "vww_mobilenetv1": "vww_mobilenetv1_025_96.onnx",
    "vit_mnist": "vit_mnist.onnx",
    "face_slim": "face_slim_320.onnx",
}
WEIGHTS = {name: f"cifar10_{name}.safetensors" for name in ("resnet20", "resnet32")}


def main() -> None:
    options = _options()
    backend = get_backend(options.target)
    threads = options.threads or backend.default_threads()
    print("| network | rewrite | nodes | run | difference | bound MACs | fp32 | int8 | kept |")
    print("|---|---|--:|--:|--:|--:|--:|--:|---|")
    for name, graph in given(options.files) or networks(options.shared, options.only):
        start = Subject(backend, backend.capabilities(), threads, graph, graph, couple(graph))
        for cells in rows(start, options):
            print(f"| {name} | {' | '.join(cells)} |", flush=True)


def networks(shared: Path, only: str) -> Iterator[tuple[str, gs.Graph]]:
    """Name and canonical graph."""
    for name in [*FILES, *WEIGHTS]:
        if only in name:
            model = str(shared / FILES[name]) if name in FILES else name
            weights = shared / WEIGHTS[name] if name in WEIGHTS else None
            yield name, load_model(model, weights, {}, 1).graph


def given(files: list[Path]) -> list[tuple[str, gs.Graph]]:
    """The same of files that are named."""
    return [(path.stem, load_model(str(path), None, {}, 1).graph) for path in files]


def rows(start: Subject, options: argparse.Namespace) -> Iterator[tuple[str, ...]]:
    """A row for each rewrite on what those before it left, then one for all that were kept."""
    current = start
    for rewrite in REWRITES:
        graph = rewrite.apply(current.graph)
        if alike(current.graph, graph):
            continue
        new = current.with_graph(graph)
        gains = {} if options.plain else in_turns(current, new, options.seconds, options.processes)
        kept = options.plain or is_worth_it(gains)
        yield rewrite.name, *_figures(current, new, gains), "yes" if kept else "no"
        current = new if kept else current
    if current is start:
        yield "none", str(len(start.graph.nodes)), *[""] * 6
        return
    gains = {} if options.plain else in_turns(start, current, options.seconds, options.processes)
    yield "**all kept**", *_figures(start, current, gains), ""


def _figures(before: Subject, after: Subject, gains: dict[str, Gain]) -> tuple[str, ...]:
    x = made_up(inputs_of_graph(before.graph), 8, 0)
    apart = difference(before.graph, after.graph, x.inputs(slice(0, len(x))))
    bound = (format_count(bound_macs(s.graph, s.coupling)) for s in (before, after))
    return (
        f"{len(before.graph.nodes)} -> {len(after.graph.nodes)}",
        f"{_run(before)} -> {_run(after)}",
        f"{apart:.1g}",
        " -> ".join(bound),
        *(_ratio(gains[form]) if form in gains else "-" for form in ("fp32", "int8")),
    )


def _run(subject: Subject) -> int:
    """How many nodes the runtime runs, in fp32."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        path.write_bytes(to_proto(subject.graph).SerializeToString())
        return len(subject.backend.executed(path))


def _ratio(gain: Gain) -> str:
    return f"{gain.ratio:.3f} ({min(gain.ratios):.3f} to {max(gain.ratios):.3f})"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("files", type=Path, nargs="*", help="networks, rather than the shared ones")
    parser.add_argument("--shared", type=Path, default=SHARED)
    parser.add_argument("--only", default="", help="networks whose name holds this text")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=4.0, help="per process and comparison")
    parser.add_argument("--processes", type=int, default=5)
    parser.add_argument("--target", default="cpu")
    parser.add_argument("--plain", action="store_true", help="show what applies, time nothing")
    return parser.parse_args()


if __name__ == "__main__":
    main()
