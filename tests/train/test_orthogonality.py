"""Soft orthogonality against its formula."""

import numpy as np
import onnx_graphsurgeon as gs
import pytest
import torch

from hwprune.backend import Capabilities
from hwprune.frontend.dataset import DataSet
from hwprune.quantize.ptq import quantize
from hwprune.train.orthogonality import SoftOrthogonality, soft_orthogonality
from hwprune.train.qat import qat
from hwprune.train.recipe import Recipe

FEW = Capabilities(
    {"Conv": frozenset({"int8"})}, {"int8": frozenset({"Relu"})}, residual_fused=frozenset(),
    passthrough=frozenset(),
)  # fmt: skip


def test_it_is_the_formula_and_its_gradient() -> None:
    generator = torch.Generator().manual_seed(0)
    weights = [torch.randn(s, generator=generator, dtype=torch.float64, requires_grad=True)
               for s in ((4, 3, 3, 3), (5, 7))]  # fmt: skip
    found = soft_orthogonality(weights, beta=0.5)
    expected, by_fan = 0.0, 0.0
    for weight in weights:
        columns = weight.detach().numpy().reshape(len(weight), -1).T
        gram = columns.T @ columns
        expected += 0.5 * np.sqrt(np.square(gram - np.eye(len(weight))).sum())
        by_fan += 0.5 * np.sqrt(np.square(gram / len(columns) - np.eye(len(weight))).sum())
    assert found.item() == pytest.approx(expected)
    assert soft_orthogonality(weights, 0.5, by_fan=True).item() == pytest.approx(by_fan)
    assert torch.autograd.gradcheck(lambda *w: soft_orthogonality(w, 0.5), weights)


def test_orthogonal_filters_and_no_layers_cost_nothing() -> None:
    filters = torch.linalg.qr(torch.randn(18, 6))[0].T.reshape(6, 2, 3, 3)
    assert soft_orthogonality([filters]).item() == pytest.approx(0.0, abs=1e-9)
    signs = torch.tensor([[1.0, 1, 1, 1], [1, -1, 1, -1]], requires_grad=True)
    loss = soft_orthogonality([signs], by_fan=True)
    assert loss.item() == 0
    loss.backward()  # type: ignore[no-untyped-call]
    assert signs.grad is not None
    assert signs.grad.isfinite().all()
    assert soft_orthogonality([]).item() == 0


def test_descending_it_makes_filters_orthogonal() -> None:
    torch.manual_seed(0)
    weight = torch.randn(6, 12, requires_grad=True)
    optimizer = torch.optim.SGD([weight], 0.02)
    for _ in range(400):
        optimizer.zero_grad()
        soft_orthogonality([weight], beta=1.0).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    gram = (weight @ weight.T).detach()
    np.testing.assert_allclose(gram, np.eye(6), atol=0.1)


def test_as_a_hook_it_keeps_latent_weights_apart(original: gs.Graph, data: DataSet) -> None:
    """With a strength that a test can see; the paper's is a hundred thousandth."""
    degrees = []
    for beta in (0.0, 0.3):
        kernels = {n.name: "int8" for n in original.nodes if n.op == "Conv"}
        bits = dict.fromkeys(kernels, 2)
        x = torch.from_numpy(data.x[:256])
        found = quantize(original, kernels, FEW, x, bits, latent=True)
        hook = SoftOrthogonality(found.module, beta)
        assert len(hook.weights) == 3
        qat(found, original, data.select(slice(400)), Recipe(2, keeps_best=False), 0, hooks=[hook])
        rows = [torch.nn.functional.normalize(w.detach().flatten(1)) for w in hook.weights]
        shared = [(r @ r.T).fill_diagonal_(0.0).square().mean() for r in rows]
        degrees.append(float(torch.stack(shared).mean()))
    assert degrees[1] < 0.7 * degrees[0]
