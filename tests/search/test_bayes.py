import subprocess
import sys

import numpy as np
import pytest
import torch

from hwprune.search.bayes import trust_length
from hwprune.search.decode import Decoder
from hwprune.search.study import search
from hwprune.search.surrogate import most_promising, utility
from hwprune.search.weights import draw_multipliers
from hwprune.testing.problems import budget_between, residual_chain


def hidden_weights(problem, seed, interaction):
    """A loss whose layers matter otherwise than estimated; with interaction it is not additive."""
    rng = np.random.default_rng([seed, 9])
    weights = {k: float(rng.normal(0, 1.2)) for k in problem.knobs}

    def evaluate(assignment):
        parts = np.zeros(len(problem.knobs))
        for factor in problem.loss:
            scale = 2.0 ** weights[factor.knob]
            parts[problem.knobs.index(factor.knob)] += scale * factor.at(assignment)
        neighbours = np.sqrt(parts[1:] * parts[:-1]).sum()
        return float(parts.sum() + interaction * neighbours)

    return weights, evaluate


@pytest.mark.parametrize(("seed", "interaction"), [(0, 0.0), (1, 0.5), (2, 0.0)])
def test_it_closes_most_of_what_the_knapsack_misses_and_random_search_does_not(seed, interaction):
    problem = residual_chain(16, 6, seed, kernels=False, branches=False)
    decoder = Decoder(problem)
    budget = budget_between(problem, decoder.fastest().latency_ns, 0.35)
    weights, evaluate = hidden_weights(problem, seed, interaction)
    best = evaluate(decoder.decode(budget, weights).assignment)
    found = search(problem, budget, evaluate, "bo", 26, seed)
    random = search(problem, budget, evaluate, "random", 26, seed)
    plain = found.best_so_far[0] - best
    assert plain > 0
    assert found.best.loss - best <= 0.25 * plain
    assert found.best.loss < random.best.loss


def test_the_posterior_mean_recovers_hidden_weights():
    rng = np.random.default_rng(0)
    contributions = rng.gamma(2.0, size=(60, 8))
    hidden = rng.uniform(-1.5, 1.5, 8)
    losses = 3.0 + 0.1 * contributions @ np.exp2(hidden)
    mean = draw_multipliers(contributions, losses, 1, rng)[0]
    offset = (mean - hidden).mean()  # only differences between knobs matter
    np.testing.assert_allclose(mean - offset, hidden, atol=0.2)


def test_without_evidence_the_draws_are_those_of_the_prior():
    rng = np.random.default_rng(0)
    contributions = np.ones((5, 3)) * np.arange(5)[:, None]
    draws = draw_multipliers(contributions, np.arange(5.0), 400, rng)
    assert np.abs(draws).max() <= 2.0
    np.testing.assert_allclose(draws[0], 0.0, atol=1e-6)
    assert (draws[1:, 0] - draws[1:, 1]).std() > 0.5


def test_the_surrogate_prefers_what_resembles_the_good_ones():
    rng = np.random.default_rng(0)
    seen = rng.random((30, 5))
    losses = (seen[:, 0] - 0.3) ** 2
    candidates = np.full((11, 5), 0.5)
    candidates[:, 0] = np.linspace(0, 1, 11)
    threads = torch.get_num_threads()
    chosen = most_promising(seen, losses, candidates, 0)
    assert chosen in (2, 3, 4)
    assert torch.get_num_threads() == threads


def test_a_surrogate_without_anything_to_learn_from_says_so():
    one = np.array([[0.1, 0.2]])
    assert most_promising(one, np.ones(1), one, 0) is None
    assert most_promising(np.vstack([one, one]), np.array([1.0, 2.0]), one, 0) is None


def test_utilities_do_not_depend_on_units_and_order_by_loss():
    losses = np.array([3.0, 1.0, 2.0, 50.0, np.inf])
    np.testing.assert_allclose(utility(losses), utility(7.0 * losses + 2.0))
    assert np.argsort(-utility(losses)[:4]).tolist() == [1, 2, 0, 3]
    assert utility(losses)[4] == utility(losses)[3]


def test_the_trust_region_grows_with_success_and_shrinks_without():
    assert trust_length([5.0, 4.0], 20) == 0.8
    assert trust_length([5.0, 4.0, 3.0], 20) == 1.0
    assert trust_length([1.0] * 6, 20) == 0.4
    assert trust_length([1.0] * 200, 20) <= 0.8


def test_importing_the_search_is_light():
    code = (
        "import sys, hwprune.search.study;"
        "print([m for m in ('torch', 'botorch', 'optuna', 'scipy') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
