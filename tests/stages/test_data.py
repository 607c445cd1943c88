"""What can be said of quality with labels, without, and without any data."""

import pytest

import hwprune
from hwprune.errors import HwpruneError


def compiled(ask, tmp_path, **more):
    return hwprune.compile(ask(tmp_path / "out", "0.3x", search="knapsack", **more))


def test_without_data_quality_is_not_known(ask, tmp_path):
    report = compiled(ask, tmp_path, data=None)
    assert (report.quality.metric, report.quality.split) == ("unknown", "synthetic")
    assert report.quality.compiled is None
    assert any("quality is not known" in text for text in report.warnings)
    assert report.verdict == "met"


def test_without_data_a_bound_on_quality_cannot_hold(ask, tmp_path):
    report = compiled(ask, tmp_path, data=None, max_drop=5.0)
    assert report.verdict == "missed"
    assert any("--max-drop" in text for text in report.warnings)


def test_without_labels_it_is_agreement(ask, tmp_path):
    quality = compiled(ask, tmp_path).quality
    assert (quality.metric, quality.original) == ("agreement", 1.0)
    assert 0.5 < quality.compiled <= 1.0
    assert 0 < quality.kl < 1
    assert quality.samples == 100


def test_with_labels_it_is_top1(ask, tmp_path, labelled):
    quality = compiled(ask, tmp_path, data=str(labelled)).quality
    assert quality.metric == "top1"
    assert 0 <= quality.original < 0.5  # labels and weights are random
    assert abs(quality.original - quality.compiled) < 0.3
    assert quality.kl > 0


def test_several_outputs_are_judged_by_noise(ask, tmp_path, dense_network):
    report = compiled(ask, tmp_path, model=str(dense_network))
    quality = report.quality
    assert quality.metric == "sqnr_db"
    assert len(quality.outputs) == 2
    assert quality.compiled == min(quality.outputs.values())
    assert 5 < quality.compiled <= 200
    assert report.verdict == "met"


def test_an_open_input_asks_for_its_shape(ask, tmp_path, network):
    import onnx

    model = onnx.load_model_from_string(network.read_bytes())
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "H"
    path = tmp_path / "open.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(HwpruneError) as caught:
        compiled(ask, tmp_path, model=str(path), shapes={})
    assert caught.value.exit_code == 2
    assert "--shape x=" in caught.value.message + caught.value.hint
    assert not (tmp_path / "out").exists()
