#!/usr/bin/env python3
"""Writes docs/coverage.md: what can be pruned in the families of networks people deploy.

python tools/bench_coverage.py [--out docs/coverage.md] [--files DIR] [--only NAME]
"""

import argparse
import sys
import warnings
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_graphsurgeon as gs
import torch

from hwprune.errors import HwpruneError
from hwprune.frontend.module import graph_from_module
from hwprune.graph.cost import macs, params
from hwprune.graph.coupling import couple
from hwprune.graph.read import read_graph
from hwprune.graph.slim import slim
from hwprune.testing.configured import CONFIGURED
from hwprune.testing.families import WRITTEN_OUT, Family, randomize
from hwprune.testing.oracles import disagreement, parity, random_keep

_DRAWS = 3
HEAD = """# Coverage

Made by `python tools/bench_coverage.py`. Trained files first, then families with random weights,
small but of full structure. *MACs* and *params*: the share that goes when every group is cut to one
channel. *error*: the largest difference of the slim network from the full one whose layers do not
read what was removed, relative to the largest output, over {draws} draws of random widths of all
groups at once. *parity*: the same for the torch twin of the slim network against onnxruntime.

| network | nodes | groups | frozen | MACs | params | error | parity |
|---|--:|--:|--:|--:|--:|--:|--:|
"""


@dataclass(frozen=True)
class Row:
    """What was found of one network."""

    name: str
    nodes: int
    groups: int
    frozen: Counter[str]
    macs: float
    params: float
    error: float
    parity: float

    def cells(self) -> str:
        """A line of the table."""
        kept = sum(self.frozen.values())
        return (
            f"| {self.name} | {self.nodes} | {self.groups} | {kept} | {self.macs:.1%} "
            f"| {self.params:.1%} | {self.error:.0e} | {self.parity:.0e} |"
        )


def main() -> None:
    options = _options()
    warnings.simplefilter("ignore")
    families = [f for f in (*WRITTEN_OUT, *CONFIGURED) if options.only in (None, f.name)]
    files = sorted(options.files.glob("*.onnx")) if options.files and not options.only else []
    rows, failed = [], []
    for source in (*files, *families):
        name = source.name
        try:
            rows.append(judge(name, _graph(source)))
            print(rows[-1].cells(), flush=True)
            for reason, count in rows[-1].frozen.most_common():
                print(f"      {count} x {reason}")
        except HwpruneError as error:
            failed.append(f"- {name}: {error}")
            print(failed[-1], flush=True)
    if not options.only:
        options.out.write_text(document(rows, failed))
    sys.exit(bool(failed))


def _graph(source: Family | Path) -> gs.Graph:
    if isinstance(source, Path):
        return read_graph(source)
    torch.manual_seed(0)
    return graph_from_module(randomize(source.build()), source.inputs())


def judge(name: str, graph: gs.Graph) -> Row:
    """Cuts a network in several ways, and counts what cannot be cut."""
    coupling = couple(graph)
    least = slim(graph, coupling, {g.name: np.array([0]) for g in coupling.prunable})
    draws = [random_keep(coupling, seed) for seed in range(_DRAWS)]
    return Row(
        name,
        len(graph.nodes),
        len(coupling.prunable),
        Counter(g.frozen for g in coupling.groups if g.frozen),
        1 - macs(least) / max(1, macs(graph)),
        1 - params(least) / max(1, params(graph)),
        max(disagreement(graph, coupling, keep) for keep in draws),
        max(parity(slim(graph, coupling, keep)) for keep in draws),
    )


def document(rows: list[Row], failed: list[str]) -> str:
    """The page."""
    text = HEAD.format(draws=_DRAWS) + "\n".join(row.cells() for row in rows)
    text += "\n\n## Frozen groups, and why\n\n"
    for row in rows:
        if row.frozen:
            reasons = "; ".join(f"{n} x {reason}" for reason, n in row.frozen.most_common())
            text += f"- {row.name}: {reasons}\n"
    return text + ("\n## Refused\n\n" + "\n".join(failed) + "\n" if failed else "")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/coverage.md"))
    parser.add_argument("--files", type=Path, help="a folder of trained .onnx files")
    parser.add_argument("--only", help="one family, by name")
    return parser.parse_args()


if __name__ == "__main__":
    main()
