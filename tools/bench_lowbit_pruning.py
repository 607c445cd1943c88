#!/usr/bin/env python3
"""Which channels a network of few bits can spare: every criterion at the same share.

    python tools/bench_lowbit_pruning.py --work DIR [--kinds xnor:1 dorefa:2] [--keep 0.8]
                                         [--criteria angle angle-own ...] [--seeds 2]
                                         [--images 4000] [--epochs 8] [--retraining 4]
                                         [--test 10000] [--act-bits 8] [--shared ../shared/data]

ResNet-20 on CIFAR-10, in int8 but for the weights of the inner layers, which have the kind and bits
given (first and last layer: 8 bits, as in Guerra et al. 2020). It is trained so once per kind, from
the fp32 weights; then every criterion cuts the same share of every group, and all are retrained in
the same way. Seeds draw what is random and shuffle the retraining. Top-1 is that of test images,
which nothing is chosen by: mean over the seeds, and least to most. Trained networks and finished
rows are kept in DIR, one line of JSON each, and not made again: other settings need another DIR.
"""

import argparse
import json
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

import onnx_graphsurgeon as gs
import torch
from bench_ptq import EVERYTHING, images
from safetensors.torch import load_file, save_file
from torch import Tensor

from hwprune.frontend.dataset import DataSet
from hwprune.frontend.models import load_model
from hwprune.network.run import outputs, top1
from hwprune.network.twin import to_module
from hwprune.quantize.catalogue import WEIGHTS
from hwprune.quantize.instrument import frozen_twin
from hwprune.quantize.placement import place, products
from hwprune.quantize.ptq import Quantized, reread
from hwprune.stages.lowbit import Form, cut_few_bits, train_few_bits
from hwprune.train.qat import qat
from hwprune.train.recipe import Recipe

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
CRITERIA = ("angle", "angle-own", "distance", "distance-own", "magnitude", "random")
Row = dict[str, Any]
Test = tuple[Tensor, Tensor]


def main() -> None:
    options = _options()
    warnings.simplefilter("ignore")
    options.work.mkdir(parents=True, exist_ok=True)
    graph = load_model("resnet20", options.shared / "cifar10_resnet20.safetensors").graph
    x, y = images(options.shared, "train", -(-options.images // 1000))
    data = DataSet(x[: options.images].numpy(), y[: options.images].numpy())
    test = tuple(
        t[: options.test] for t in images(options.shared, "test", -(-options.test // 1000))
    )
    print(f"fp32: {_right(to_module(graph), test):.2f} %; {len(data)} training images\n")
    print("| weights | criterion | before | cut | retrained |\n|---|---|--:|--:|--:|", flush=True)
    for kind in options.kinds:
        for criterion in options.criteria:
            rows = [row for row in _finished(options.work) if _is(row, kind, criterion)]
            missing = sorted(set(range(options.seeds)) - {row["seed"] for row in rows})
            rows += _made(graph, data, test, kind, criterion, missing, options)
            cells = (_cell([row[c] for row in rows]) for c in ("before", "cut", "retrained"))
            print(f"| {kind} | {criterion} | {' | '.join(cells)} |", flush=True)


def _made(
    graph: gs.Graph,
    data: DataSet,
    test: Test,
    kind: str,
    criterion: str,
    seeds: Sequence[int],
    options: argparse.Namespace,
) -> Iterator[Row]:
    """The rows of a criterion that are not there yet; each is kept as soon as it is."""
    if not seeds:
        return
    form = form_of(graph, kind, options.act_bits)
    whole = trained(graph, data, form, options.work / f"{kind.replace(':', '-')}.safetensors",
                    options.epochs)  # fmt: skip
    before = _right(frozen_twin(whole.module), test)
    for seed in seeds:
        narrow = cut_few_bits(whole, data, form, options.keep, criterion, seed)
        cut = _right(frozen_twin(narrow.module), test)
        found = qat(narrow, graph, data, Recipe(options.retraining), seed)
        right = _right(frozen_twin(found.module), test)
        row = {"kind": kind, "criterion": criterion, "seed": seed}
        row |= {"before": before, "cut": cut, "retrained": right}
        with (options.work / "rows.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        yield row


def form_of(graph: gs.Graph, kind: str, act_bits: int) -> Form:
    """Everything in int8; the inner products' weights in so many bits of that kind."""
    name, bits = kind.split(":")
    target = replace(EVERYTHING, per_channel=(name, "channel") in WEIGHTS)
    kernels = dict.fromkeys((node.name for node in graph.nodes), "int8")
    inner = [node.name for node in products(graph, place(graph, kernels, target))][1:-1]
    few = dict.fromkeys(inner, int(bits))
    return Form(kernels, target, few, dict.fromkeys(inner, act_bits), name)


def trained(graph: gs.Graph, data: DataSet, form: Form, path: Path, epochs: int) -> Quantized:
    """The whole network after its training, which is done once."""
    if not path.exists():
        found = train_few_bits(graph, data, form, epochs=epochs)
        state = {n: t.clone().contiguous() for n, t in found.module.state_dict().items()}
        partial = path.with_suffix(".partial")
        save_file(state, partial)
        partial.rename(path)
        return found
    found = train_few_bits(graph, data, form, epochs=0)
    found.module.load_state_dict(load_file(path))
    return reread(found)


def _finished(work: Path) -> list[Row]:
    path = work / "rows.jsonl"
    lines = path.read_text("utf-8").splitlines() if path.exists() else []
    return [json.loads(line) for line in lines]


def _is(row: Row, kind: str, criterion: str) -> bool:
    return bool(row["kind"] == kind and row["criterion"] == criterion)


def _right(module: torch.fx.GraphModule, test: Test) -> float:
    """Top-1, per cent."""
    return 100 * top1(outputs(module, test[0])[0], test[1])


def _cell(values: Sequence[float]) -> str:
    return f"{mean(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--shared", type=Path, default=SHARED)
    parser.add_argument("--kinds", nargs="+", default=["xnor:1", "dorefa:2"])
    parser.add_argument("--keep", type=float, default=0.8, help="share of the channels that stays")
    parser.add_argument("--criteria", nargs="+", default=list(CRITERIA))
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--images", type=int, default=4000, help="to train with")
    parser.add_argument("--epochs", type=int, default=8, help="of the training before the cut")
    parser.add_argument("--retraining", type=int, default=4, help="epochs after it")
    parser.add_argument("--test", type=int, default=10000, help="images")
    parser.add_argument("--act-bits", type=int, default=8, help="of what the inner layers read")
    return parser.parse_args()


if __name__ == "__main__":
    main()
