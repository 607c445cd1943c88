#!/usr/bin/env python3
"""Every method of pruning on one network at equal terms: same widths or budget, same training.

    python tools/bench_methods.py prepare --work DIR --model M [--weights W] --train-data T.npz
                                          --eval-data E.npz [--scale 1] --budget 0.5x
    python tools/bench_methods.py train   --work DIR [--protocol cpu|gpu] [--only increg ...]
                                          [--seeds 2] [--jobs 2] [--minutes 60]
    python tools/bench_methods.py table   --work DIR [--protocol cpu|gpu]

`prepare` profiles the network on this machine and finds plans that meet the budget here: by the
default search, which may take out whole branches, by the knapsack without that, and by the same
share of every group. `train` cuts and trains: one row for every
method and seed, each the same number of passes over the same images in the same order, the last of
them with integers. It uses a GPU where there is one, and needs no timing, so that it may run on
another machine; rows that are there are left alone, so that it goes on where it was stopped.
`table` times all files in turns with the original, and judges them on the evaluation images,
which nothing before has seen.

Protocols: `cpu` takes 18,000 images (20,000 with those held out for searches), two passes and one
with integers; `gpu` all images, 12 passes and 3 with integers. Schedules and criteria cut to the
widths of the knapsack; `bo` is the first plan as it is built by default, `torch-pruning` is cut by
that library to the widths of `uniform`. `dsa` finds widths of its own under the same table and
budget, `joint` widths and bits in as many bytes as the first plan takes with 8.
"""

import argparse
from pathlib import Path

from bench_methods_prepare import prepare
from bench_methods_rows import NAMES, PROTOCOLS, train
from bench_methods_table import table


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("step", choices=["prepare", "train", "table"])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--model")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--train-data")
    parser.add_argument("--eval-data")
    parser.add_argument("--scale", type=float)
    parser.add_argument("--budget", default="0.5x")
    parser.add_argument("--protocol", choices=list(PROTOCOLS), default="cpu")
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--minutes", type=float, default=1e6)
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    {"prepare": prepare, "train": train, "table": table}[args.step](args)


if __name__ == "__main__":
    main()
