from pathlib import Path

import numpy as np
import pytest
import torch
from hwprune.models import CIFAR10, MODELS
from hwprune.models.resnet import SubsampleAndPad
from torch import nn

from hwprune.frontend.data import DataSet, load_data, split
from hwprune.frontend.models import load_model
from hwprune.frontend.module import graph_from_module
from hwprune.network.run import outputs, top1
from hwprune.network.twin import to_module

PARAMETERS = {  # millions, as the papers state them
    "resnet20": 0.27,
    "resnet32": 0.46,
    "resnet44": 0.66,
    "resnet56": 0.85,
    "resnet110": 1.7,
    "densenet40": 1.0,
    "vgg16-bn": 14.7,
    "mobilenetv2": 2.2,
}


def randomised(module: nn.Module) -> nn.Module:
    """Statistics away from 0 and 1, so that a BatchNorm that got lost shows."""
    torch.manual_seed(1)
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.uniform_(-0.2, 0.2)  # type: ignore[union-attr]
            layer.running_var.uniform_(0.5, 1.5)  # type: ignore[union-attr]
            nn.init.uniform_(layer.weight, 0.8, 1.2)
            nn.init.uniform_(layer.bias, -0.2, 0.2)
    return module.eval()


@pytest.mark.parametrize("name", PARAMETERS)
def test_size_is_the_published_one(name: str) -> None:
    count = sum(p.numel() for p in MODELS[name].factory().parameters()) / 1e6
    assert count == pytest.approx(PARAMETERS[name], rel=0.04)


@pytest.mark.parametrize(
    "name",
    [
        "resnet20",
        "resnet20-b",
        "vgg16-bn",
        pytest.param("mobilenetv2", marks=pytest.mark.slow),
        pytest.param("densenet40", marks=pytest.mark.slow),
    ],
)
def test_graph_computes_what_the_module_does(name: str) -> None:
    module = randomised(MODELS[name].factory())
    x = torch.randn(2, 3, 32, 32)
    graph = graph_from_module(module, (torch.zeros(1, 3, 32, 32),))
    expected = module(x).detach()
    (got,) = outputs(to_module(graph), x)
    assert float(expected.std()) > 1e-3
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


def test_option_a_takes_every_second_pixel_and_pads_both_sides() -> None:
    x = torch.arange(2 * 4 * 4, dtype=torch.float32).view(1, 2, 4, 4)
    y = SubsampleAndPad(2, 4, 2)(x)
    assert y.shape == (1, 4, 2, 2)
    assert not y[:, 0].any()
    assert not y[:, 3].any()
    np.testing.assert_array_equal(y[0, 1], [[0, 2], [8, 10]])


def evaluate(name: str, weights: Path, data: DataSet) -> float:
    module = to_module(load_model(name, weights).graph)
    logits = torch.cat(
        [outputs(module, data.batch(slice(i, i + 250)))[0] for i in range(0, len(data), 250)]
    )
    assert data.y is not None
    return top1(logits, data.y)


@pytest.fixture(scope="session")
def cifar_test(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The lossless sheets (40 rows of 25 images) as a plain .npz."""
    import io

    from PIL import Image

    with np.load(shared_data / "cifar10_test.npz") as archive:
        sheets = [archive[f"sheet_{k:02d}"] for k in range(int(archive["n_sheets"]))]
        labels = archive["labels"].astype(np.int64)
    images = [np.asarray(Image.open(io.BytesIO(sheet.tobytes()))) for sheet in sheets]
    tiles = [i.reshape(-1, 32, 25, 32, 3).swapaxes(1, 2).reshape(-1, 32, 32, 3) for i in images]
    path = tmp_path_factory.mktemp("cifar") / "test.npz"
    np.savez(path, x=np.concatenate(tiles), y=labels)
    return str(path)


@pytest.mark.shared
@pytest.mark.parametrize(("depth", "first_1000"), [(20, 0.914), (32, 0.928)])
def test_trained_resnets_on_1000_images(
    shared_data: Path, cifar_test: str, depth: int, first_1000: float
) -> None:
    data = load_data(cifar_test, (1, 3, 32, 32), CIFAR10, 10).select(slice(1000))
    weights = shared_data / f"cifar10_resnet{depth}.safetensors"
    assert evaluate(f"resnet{depth}", weights, data) == pytest.approx(first_1000, abs=1e-6)


@pytest.mark.shared
@pytest.mark.slow
@pytest.mark.parametrize(("depth", "published"), [(20, 0.9173), (32, 0.9263)])
def test_trained_resnets_reach_the_published_accuracy(
    shared_data: Path, cifar_test: str, depth: int, published: float
) -> None:
    data = load_data(cifar_test, (1, 3, 32, 32), CIFAR10, 10)
    weights = shared_data / f"cifar10_resnet{depth}.safetensors"
    assert evaluate(f"resnet{depth}", weights, data) == pytest.approx(published, abs=1e-6)


def test_digits_weights_are_good_and_small() -> None:
    entry = MODELS["digits"]
    assert entry.weights is not None
    assert entry.weights.stat().st_size <= 2_000_000
    parts = split(load_data("digits", entry.input_shape, entry.normalization, 10))
    data = parts.eval.select(slice(0, 360, 9))
    assert evaluate("digits", entry.weights, data) >= 0.97  # one error in 40


@pytest.mark.slow
def test_digits_accuracy_on_the_whole_eval_part() -> None:
    entry = MODELS["digits"]
    assert entry.weights is not None
    parts = split(load_data("digits", entry.input_shape, entry.normalization, 10))
    assert evaluate("digits", entry.weights, parts.eval) >= 0.985
