import torch

from hwprune.pruning.independence import independence


def test_a_layer_that_is_there_twice_matters_less():
    generator = torch.Generator().manual_seed(0)
    features = [torch.randn(32, 40, generator=generator) for _ in range(4)]
    alone = independence(features)
    twice = independence([*features, features[1].clone()])
    assert twice[1] < alone[1]
    assert twice[1] == twice[4] == min(twice)


def test_scale_and_rotation_of_features_do_not_matter():
    generator = torch.Generator().manual_seed(0)
    features = [torch.randn(32, 40, generator=generator) for _ in range(3)]
    rotation = torch.linalg.qr(torch.randn(40, 40, generator=generator)).Q
    other = [features[0] @ rotation, 7 * features[1], features[2] + 3]
    torch.testing.assert_close(
        torch.tensor(independence(features)), torch.tensor(independence(other)), rtol=1e-3, atol=0
    )
