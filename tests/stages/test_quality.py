"""Figures of quality against their formulas."""

import math

import numpy as np
import pytest
import torch

from hwprune.report.schema import Quality
from hwprune.stages.quality import drop_points, report_quality

LOGITS = torch.randn(64, 5, generator=torch.Generator().manual_seed(0))


def quality(before, after, labels=None, known=True):
    return report_quality([before], [after], labels, known)


def test_equal_outputs_lose_nothing():
    found = quality(LOGITS, LOGITS.clone())
    assert (found.metric, found.compiled, found.samples) == ("agreement", 1.0, 64)
    assert found.kl == pytest.approx(0, abs=1e-9)
    assert drop_points(found) == 0


def test_probabilities_are_read_as_such():
    other = LOGITS + 0.3 * LOGITS.flip(1)
    as_logits = quality(LOGITS, other).kl
    as_probabilities = quality(LOGITS.softmax(1), other.softmax(1)).kl
    p, q = LOGITS.double().softmax(1), other.double().softmax(1)
    assert as_logits == pytest.approx(float((p * (p / q).log()).sum(1).mean()))
    assert as_probabilities == pytest.approx(as_logits, rel=1e-4)


def test_labels_give_top1():
    labels = LOGITS.argmax(1).numpy().copy()
    labels[:16] = (labels[:16] + 1) % 5
    found = quality(LOGITS, -LOGITS, labels)
    assert (found.metric, found.original) == ("top1", 0.75)
    assert drop_points(found) == pytest.approx(100 * (0.75 - found.compiled))


def test_dense_outputs_give_signal_to_noise():
    signal = torch.ones(4, 2, 3, 3)
    found = report_quality([signal, signal], [signal + 0.1, signal - 0.01], None, True)
    assert found.metric == "sqnr_db"
    assert found.outputs == pytest.approx({"0": 20.0, "1": 40.0}, abs=0.01)
    assert found.compiled == min(found.outputs.values())
    assert drop_points(found) is None


def test_no_noise_at_all_is_still_a_number():
    found = quality(torch.ones(4, 2, 3, 3), torch.ones(4, 2, 3, 3))
    assert math.isfinite(found.compiled)
    assert found.compiled >= 100


def test_made_up_data_say_nothing():
    found = quality(LOGITS, LOGITS, np.zeros(64, np.int64), known=False)
    assert found == Quality("unknown", None, None, 64, "synthetic")
