"""A network with an operator that torch cannot compute: the rest is compiled, and it is said."""

import numpy as np
import onnxruntime as ort
import pytest
import torch

import hwprune
from hwprune.errors import UnsupportedModelError
from hwprune.testing.networks import Builder, pooled_head

pytestmark = pytest.mark.ort


@pytest.fixture
def shrinking(tmp_path):
    b = Builder(0, (3, 12, 12))
    x = b.relu(b.conv(b.relu(b.conv("x", 32)), 32))
    x = b.add("Shrink", [x], b.sizes[x], lambd=0.05)
    for _ in range(2):
        x = b.relu(b.conv(x, 48))
    path = tmp_path / "shrinking.onnx"
    path.write_bytes(b.model(pooled_head(b, x), classes=5).SerializeToString())
    return str(path)


def test_the_rest_is_compiled(ask, shrinking, tmp_path):
    out = tmp_path / "out"
    report = hwprune.compile(ask(out, "0.6x", model=shrinking))
    assert report.verdict == "met"
    assert any("run by onnxruntime as they are: shrink" in w for w in report.warnings)
    assert any("'shrink" in f.why and "no pruning rule" in f.why for f in report.frozen)
    x = np.random.default_rng(1).standard_normal((1, 3, 12, 12)).astype(np.float32)
    with torch.no_grad():
        found = hwprune.load(out)(torch.from_numpy(x)).numpy()
    expected = ort.InferenceSession(out / "network.onnx").run(None, {"x": x})[0]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_training_is_refused_before_anything_is_spent(ask, shrinking, tmp_path):
    with pytest.raises(UnsupportedModelError, match=r"'shrink\d+' \(Shrink\).*no torch twin") as e:
        hwprune.compile(ask(tmp_path / "out", "0.6x", model=shrinking, epochs=1))
    assert "--epochs" in e.value.hint
    assert not (tmp_path / "out").exists()
