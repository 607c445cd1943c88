#!/usr/bin/env python3
"""Bytes against distortion and against top-1, for every codec, beside what people use today.

    python tools/bench_codec.py files FILE ...
    python tools/bench_codec.py laplacian [--weights 4000000] [--rates 0.5 1 2 3 4]
    python tools/bench_codec.py speed [--weights 25000000]
    python tools/bench_codec.py network MODEL --train-data T.npz --eval-data E.npz [--scale 1]
                                        [--weights-file W] [--rates 1.5 2 3 4] [--drop 0.3]
    python tools/bench_codec.py parts ...

`files`: whole files to the last bit, beside zip, zstd -19 and xz. `laplacian`: bits of the whole
file for each weight of a network whose weights are Laplacian, errors with mean magnitude 1, and how
much more that is than R(D). `speed`: seconds of one thread, MB of fp32 weights a second, and the
most memory of a process of its own. `network`: the same bytes for all codecs, calibrated on the
training images, top-1 on the evaluation images, which nothing before has seen; int8 is this
package's own. `parts`: the default codec without what makes it good.
"""

import argparse
import json
import lzma
import re
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import zstandard
from bench_codec_bounds import SquaredBound, absolute_bound
from bench_codec_networks import Network, laplacian, read_network

from hwprune.codec.decoder import decode
from hwprune.codec.dials import DeadZone
from hwprune.codec.packing import pack_exact
from hwprune.codec.rate import Dial, Packed, finest_within
from hwprune.codec.shac import Sharing
from hwprune.codec.skeleton import holes
from hwprune.codec.surp import Surp
from hwprune.codec.weights import Weight, weights

Compress = Callable[[bytes], bytes]
RIVALS: dict[str, Compress] = {
    "zip": lambda data: zlib.compress(data, 9),
    "zstd -19": lambda data: zstandard.ZstdCompressor(19).compress(data),
    "xz": lambda data: lzma.compress(data, preset=9 | lzma.PRESET_EXTREME),
}
LOSSY = ("deadzone", "shac", "ham", "surp")


def files(args: argparse.Namespace) -> None:
    print(f"| file | kB | {' | '.join(RIVALS)} | .hwp | of the best other |")
    print("|---|" + "--:|" * (len(RIVALS) + 3))
    for path in args.files:
        data = path.read_bytes()
        sizes = [len(compress(data)) for compress in RIVALS.values()]
        own = len(pack_exact(data).file)
        cells = " | ".join(f"{size / 1e3:.1f}" for size in (len(data), *sizes, own))
        print(f"| {path.name} | {cells} | {own / min(sizes):.3f} |", flush=True)


def laplacian_table(args: argparse.Namespace) -> None:
    bound = SquaredBound()
    model = laplacian(args.weights)
    found = weights(onnx.load_from_string(model), model, holes(model))
    print("| codec | asked | bits | abs. error | bits / R | sq. error | bits / R | zeros |")
    print("|---|--:|--:|--:|--:|--:|--:|--:|")
    for codec in LOSSY:
        dial = dial_of(codec, model, found, {})
        for rate in args.rates:
            packed, _ = finest_within(dial, rate)
            absolute, squared, zeros = distortions(packed, found)
            print(
                f"| {codec} | {rate:g} | {packed.rate:.3f} "
                f"| {absolute:.3f} | {packed.rate / max(absolute_bound(absolute), 1e-9):.3f} "
                f"| {squared:.4f} | {packed.rate / bound(squared):.3f} | {zeros:.2f} |",
                flush=True,
            )


def dial_of(codec: str, model: bytes, found: list[Weight], steps: dict[int, float]) -> Dial:
    """A codec for weights whose errors count alike, but for `steps`."""
    scales = steps or {w.index: float(w.values.std()) for w in found}
    if codec == "deadzone":
        return DeadZone(model, found, scales)
    if codec == "surp":
        return Surp(model, found, scales=scales)
    return Sharing(model, found, codec, steps=scales)


def distortions(packed: Packed, found: list[Weight]) -> tuple[float, float, float]:
    """Mean absolute and square error of weights of mean magnitude 1, and how many are zero."""
    after = weights(onnx.load_from_string(packed.model), packed.model, holes(packed.model))
    before = np.concatenate([w.values.reshape(-1) for w in found])
    decoded = np.concatenate([w.values.reshape(-1) for w in after])
    error, mean = np.abs(before - decoded).astype(np.float64), np.abs(before).mean()
    return error.mean() / mean, np.square(error / mean).mean(), float((decoded == 0).mean())


def speed(args: argparse.Namespace) -> None:
    model = laplacian(args.weights)
    print(
        "| codec | bits | encode s | decode s | MB/s of fp32 | encoder MB | decoder MB | model MB |"
    )
    print("|---|--:|--:|--:|--:|--:|--:|--:|")
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "model.onnx", Path(folder) / "model.hwp"
        source.write_bytes(model)
        for codec in ("exact", *LOSSY):
            encoded = in_process("encode", codec, source, target)
            decoded = in_process("decode", codec, target, source)
            rate = 8 * target.stat().st_size / args.weights
            print(
                f"| {codec} | {rate:.2f} | {encoded['seconds']:.1f} | {decoded['seconds']:.2f} "
                f"| {len(model) / decoded['seconds'] / 1e6:.0f} | {encoded['memory'] / 1e6:.0f} "
                f"| {decoded['memory'] / 1e6:.0f} | {len(model) / 1e6:.0f} |",
                flush=True,
            )


def in_process(what: str, codec: str, source: Path, target: Path) -> dict[str, float]:
    """Seconds and memory above that of the imports, in a process of one thread."""
    command = [sys.executable, __file__, what, codec, str(source), str(target)]
    environment = {"OMP_NUM_THREADS": "1", "PYTHONPATH": ":".join(sys.path)}
    found = subprocess.run(command, env=environment, capture_output=True, check=True, text=True)
    measured: dict[str, float] = json.loads(found.stdout)
    return measured


def peak() -> int:
    """Bytes that this process has had at once (ru_maxrss would count who started it, too)."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024


def one_process(args: argparse.Namespace) -> None:
    """What `in_process` has measured."""
    before, data = peak(), args.source.read_bytes()
    begin = time.perf_counter()
    if args.what == "decode":
        decode(data)
    elif args.codec == "exact":
        args.target.write_bytes(pack_exact(data).file)
    else:
        found = weights(onnx.load_from_string(data), data, holes(data))
        packed = dial_of(args.codec, data, found, {}).at(SETTINGS[args.codec])
        args.target.write_bytes(packed.file)
    print(json.dumps({"seconds": time.perf_counter() - begin, "memory": peak() - before}))


SETTINGS = {"deadzone": 0.54, "shac": 0.5, "ham": 0.5, "surp": 0.5}  # of 2 to 3 bits a weight


def network(args: argparse.Namespace) -> None:
    subject = read_network(args)
    print(f"{args.model}: {subject.parameters} numbers, top-1 {subject.top1(subject.model):.2f} %")
    print("| form | kB | bits | top-1 |")
    print("|---|--:|--:|--:|")
    for name, size, model in rows(subject, args):
        bits = 8 * size / subject.parameters
        print(f"| {name} | {size / 1e3:.1f} | {bits:.2f} | {subject.top1(model):.2f} |", flush=True)


def rows(subject: Network, args: argparse.Namespace) -> Iterator[tuple[str, int, bytes]]:
    """Name, bytes, and the ONNX file that is judged."""
    for name, model in subject.stored().items():
        yield name, len(model), model
        for rival, compress in RIVALS.items():
            yield f"{name}, {rival}", len(compress(model)), model
        yield f"{name}, exact", len(pack_exact(model).file), model
    for codec in (*LOSSY, "levels"):
        dial = subject.dial(codec)
        for rate in args.rates:
            packed, fits = finest_within(dial, rate)
            if fits:
                yield f"{codec} at {rate:g} bits", len(packed.file), packed.model
    packed = subject.within(args.drop)
    yield f"deadzone --max-drop {args.drop:g}", len(packed.file), packed.model
    packed = subject.within(args.drop, int8=True)
    yield f"int8, deadzone --max-drop {args.drop:g}", len(packed.file), packed.model


def parts(args: argparse.Namespace) -> None:
    subject = read_network(args)
    print(f"| {args.model}, top-1 {subject.top1(subject.model):.2f} % | bits | top-1 |")
    print("|---|--:|--:|")
    for name, dial in subject.variants().items():
        for rate in args.rates:
            packed, _ = finest_within(dial, rate)
            print(f"| {name} | {packed.rate:.2f} | {subject.top1(packed.model):.2f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    verbs = parser.add_subparsers(required=True)
    verb = verbs.add_parser("files")
    verb.add_argument("files", type=Path, nargs="+")
    verb.set_defaults(run=files)
    verb = verbs.add_parser("laplacian")
    verb.add_argument("--weights", type=int, default=4_000_000)
    verb.add_argument("--rates", type=float, nargs="+", default=[0.5, 1, 2, 3, 4])
    verb.set_defaults(run=laplacian_table)
    verb = verbs.add_parser("speed")
    verb.add_argument("--weights", type=int, default=25_000_000)
    verb.set_defaults(run=speed)
    for what in ("encode", "decode"):
        verb = verbs.add_parser(what)
        verb.add_argument("codec")
        verb.add_argument("source", type=Path)
        verb.add_argument("target", type=Path)
        verb.set_defaults(run=one_process, what=what)
    for name, run, rates in (("network", network, [1.5, 2, 3, 4]), ("parts", parts, [2, 3])):
        verb = verbs.add_parser(name)
        verb.add_argument("model")
        for option in ("--weights-file", "--train-data", "--eval-data"):
            verb.add_argument(option)
        verb.add_argument("--scale", type=float)
        verb.add_argument("--drop", type=float, default=0.3)
        verb.add_argument("--rates", type=float, nargs="+", default=rates)
        verb.set_defaults(run=run)
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
