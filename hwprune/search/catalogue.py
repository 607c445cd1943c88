"""The search strategies by name."""

from collections.abc import Mapping

from hwprune.search.baselines import Knapsack, Random, Uniform
from hwprune.search.bayes import Bayes
from hwprune.search.strategy import Strategy

STRATEGIES: Mapping[str, Strategy] = {
    "bo": Strategy(
        "Bayesian optimisation of the estimates' weights; starts from the knapsack",
        "20 or more evaluations to pay off",
        Bayes,
    ),
    "knapsack": Strategy(
        "the best estimated quality within the budget, by Lagrangian knapsack", "nothing", Knapsack
    ),
    "uniform": Strategy("one keep ratio for every layer, kernels by time", "nothing", Uniform),
    "random": Strategy(
        "random weights of the estimates, each decoded to the budget", "evaluations", Random
    ),
}
