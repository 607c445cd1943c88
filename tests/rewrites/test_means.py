from hwprune.rewrites.means import pool_means
from hwprune.testing.networks import build, mean_head, residual


def test_spatial_means_become_pools(check) -> None:
    graph = build(residual, head=mean_head)
    rewritten = pool_means(graph)
    ops = [node.op for node in rewritten.nodes]
    assert "ReduceMean" not in ops
    assert ops.count("GlobalAveragePool") == 1
    check(graph, rewritten)
