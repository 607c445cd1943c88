#!/usr/bin/env python3
"""How many plans a second are predicted: ResNet-56 on rows made up by rule, nothing is measured.

python tools/bench_estimate.py [--plans 20000]
"""

import argparse
import time

import numpy as np
import torch
from hwprune.backends.null.rules import kernel_ns
from hwprune.models.resnet import cifar_resnet

from hwprune.frontend.module import graph_from_module
from hwprune.graph.coupling import couple
from hwprune.latency import Predictor
from hwprune.latency.calibrate import Calibration
from hwprune.latency.estimator import Estimator
from hwprune.latency.kernels import KernelGraph
from hwprune.latency.space import build_space
from hwprune.registry import get_backend


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--plans", type=int, default=20_000)
    count = parser.parse_args().plans
    graph = graph_from_module(cifar_resnet(56).eval(), (torch.zeros(1, 3, 32, 32),))
    network = KernelGraph(graph, couple(graph), get_backend("cpu").capabilities())
    begin = time.perf_counter()
    estimator = Estimator(network, build_space(network, 4, 8))
    estimator.load({k: kernel_ns(k) for k in estimator.wanted()})
    predictor = Predictor(estimator, Calibration())
    print(f"tables made in {time.perf_counter() - begin:.1f} s")
    rng, sizes = np.random.default_rng(0), list(estimator.space.sizes.values())
    chosen = np.stack([rng.integers(n, size=count) for n in sizes], axis=1)
    begin = time.perf_counter()
    predictor.estimate_many(chosen)
    print(f"in batches: {count / (time.perf_counter() - begin):,.0f} plans a second")
    names = predictor.variables
    some = [estimator.space.configuration(dict(zip(names, row))) for row in chosen[:400].tolist()]
    known = [c for c in some if not estimator.unknown(c)]
    first, later = known[:200], known[200:]
    for label, plans in (("the first ones", first), ("later", later), ("those again", later)):
        begin = time.perf_counter()
        for c in plans:
            predictor.estimate(c)
        spent = 1e3 * (time.perf_counter() - begin) / len(plans)
        print(f"one by one, exact, {label}: {spent:.2f} ms a plan")


if __name__ == "__main__":
    main()
