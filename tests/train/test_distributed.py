"""Training on several processes that torchrun has started."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

SCRIPT = """
import json, sys
import numpy as np, torch
from hwprune.frontend.dataset import DataSet
from hwprune.frontend.module import graph_from_module
from hwprune.network.twin import to_module
from hwprune.train.distributed import begin, place, receive, send, together
from hwprune.train.loop import fit
from hwprune.train.recipe import Recipe

rank, world = begin()
if world > 1:
    told = "from the first" if rank == 0 else None
    send(told) if rank == 0 else None
    assert rank == 0 or receive() == "from the first"
torch.manual_seed(0)
net = torch.nn.Sequential(torch.nn.Linear(6, 16), torch.nn.ReLU(), torch.nn.Linear(16, 3))
graph = graph_from_module(net, (torch.zeros(1, 6),))
data = DataSet(np.random.default_rng(0).normal(size=(600, 6)).astype(np.float32))
student = to_module(graph)
torch.manual_seed(rank)  # the first process's weights are everybody's
with torch.no_grad():
    for p in student.parameters():
        p.mul_(0.5 if rank == 0 else torch.rand(()))
assert place() == (0, 1)
with together():
    assert place() == (rank, world)
    loss = fit(student, to_module(graph), data, Recipe(3, mixup=float(sys.argv[2])), 0)
weights = [p.detach().flatten().tolist() for p in student.parameters()]
with open(f"{sys.argv[1]}-{rank}", "w") as file:
    json.dump({"loss": loss, "weights": sum(weights, [])}, file)
"""
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


@pytest.mark.parametrize("mixup", [0.3, pytest.param(0.0, marks=pytest.mark.slow)])
def test_two_processes_train_like_one(tmp_path: Path, mixup: float) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    alone = [sys.executable, str(script), str(tmp_path / "alone"), str(mixup)]
    subprocess.run(alone, check=True, capture_output=True)
    both = [*TORCHRUN, str(script), str(tmp_path / "both"), str(mixup)]
    done = subprocess.run(both, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    one, first, second = (
        json.loads((tmp_path / name).read_text()) for name in ("alone-0", "both-0", "both-1")
    )
    np.testing.assert_allclose(first["weights"], second["weights"], rtol=0, atol=0)
    np.testing.assert_allclose(first["weights"], one["weights"], rtol=1e-4, atol=1e-5)
    assert first["loss"] == pytest.approx(one["loss"], rel=1e-3)


@pytest.mark.slow
def test_a_compile_on_two_processes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(400, 3, 32, 32)).astype(np.float32), rng.integers(0, 10, 400)
    np.savez(tmp_path / "data.npz", x=x, y=y)
    out = tmp_path / "out"
    command = [
        *TORCHRUN, "-m", "hwprune", "compile", "resnet20",
        "--data", str(tmp_path / "data.npz"), "--target", "null", "--budget", "0.5x",
        "--epochs", "1", "--evaluations", "2", "--out", str(out),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    report = json.loads((out / "report.json").read_text())
    assert report["verdict"] == "met"
    assert any(stage["name"] == "recover" for stage in report["stages"])
