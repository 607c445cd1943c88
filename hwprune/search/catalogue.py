"""The search strategies by name."""

from collections.abc import Callable, Mapping

from hwprune.search.baselines import Exhaustive, Knapsack, Random, RandomWeights, Uniform
from hwprune.search.bayes import Bayes
from hwprune.search.evolution import Evolution
from hwprune.search.layerwise import Layerwise
from hwprune.search.netadapt import NetAdapt
from hwprune.search.samplers import gp, tpe
from hwprune.search.strategy import Proposer, Task

STRATEGIES: Mapping[str, Callable[[Task], Proposer]] = {
    "bo": Bayes,
    "knapsack": Knapsack,
    "uniform": Uniform,
    "random": Random,
    "random-weights": RandomWeights,
    "netadapt": NetAdapt,
    "evolution": Evolution,
    "guerra": Layerwise,
    "tpe": tpe,
    "gp": gp,
    "exhaustive": Exhaustive,
}
