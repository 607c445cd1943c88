import pytest
import torch
from torch import nn

from hwprune.errors import UnsupportedModelError
from hwprune.frontend.module import graph_from_module
from hwprune.network.run import check_batches, divergence
from hwprune.network.twin import to_module


def test_divergence_of_logits_and_probabilities_agree():
    p, q = torch.randn(8, 5), torch.randn(8, 5)
    assert divergence([p], [p]) == 0
    torch.testing.assert_close(
        divergence([p], [q]), divergence([p.softmax(1)], [q.softmax(1)]), rtol=1e-4, atol=0
    )
    assert divergence([p, q], [q, p]) > 0
    assert 100 < divergence([p], [q * torch.inf]) < float("inf")


class Rows(nn.Module):
    """Places before samples, then both in one axis: where a batch of 1 goes is left open."""

    def __init__(self):
        super().__init__()
        self.layer, self.tables = nn.Linear(4, 4), nn.Parameter(torch.randn(3, 4, 2))

    def forward(self, x):
        places = self.layer(x).transpose(0, 1).reshape(3, -1, 4)  # (place, sample * pair, value)
        return (places @ self.tables).reshape(3, len(x), -1).transpose(0, 1).flatten(1)


class Shares(nn.Module):
    """Every sample relative to the largest of all."""

    def forward(self, x):
        return x / x.amax((0, 1))


@pytest.mark.parametrize(
    ("module", "shape", "fits"),
    [
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(144, 5)), (3, 8, 8), True),
        (Rows(), (3, 2, 4), False),
        (Shares(), (6,), False),
    ],
    ids=["plain", "an axis left open", "across samples"],
)
def test_samples_that_get_mixed_up_are_noticed(module, shape, fits):
    torch.manual_seed(0)
    twin, x = to_module(graph_from_module(module, (torch.randn(1, *shape),))), torch.rand(8, *shape)
    if fits:
        check_batches(twin, x, 1)
    else:
        with pytest.raises(UnsupportedModelError, match="get mixed up"):
            check_batches(twin, x, 1)
    check_batches(twin, x[:1], 1)  # nothing to compare
