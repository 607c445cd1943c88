import torch

from hwprune.network.run import divergence


def test_divergence_of_logits_and_probabilities_agree():
    p, q = torch.randn(8, 5), torch.randn(8, 5)
    assert divergence([p], [p]) == 0
    torch.testing.assert_close(
        divergence([p], [q]), divergence([p.softmax(1)], [q.softmax(1)]), rtol=1e-4, atol=0
    )
    assert divergence([p, q], [q, p]) > 0
