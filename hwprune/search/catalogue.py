"""The search strategies by name."""

from collections.abc import Mapping

from hwprune.search.baselines import Exhaustive, Knapsack, Random, RandomWeights, Uniform
from hwprune.search.bayes import Bayes
from hwprune.search.evolution import Evolution
from hwprune.search.layerwise import Layerwise
from hwprune.search.netadapt import NetAdapt
from hwprune.search.samplers import gp, tpe
from hwprune.search.strategy import Strategy

STRATEGIES: Mapping[str, Strategy] = {
    "bo": Strategy("20 or more evaluations to pay off", Bayes),
    "knapsack": Strategy("nothing", Knapsack),
    "uniform": Strategy("nothing", Uniform),
    "random": Strategy("evaluations", Random),
    "random-weights": Strategy("evaluations", RandomWeights),
    "netadapt": Strategy("several evaluations for every layer", NetAdapt),
    "evolution": Strategy("hundreds of evaluations", Evolution),
    "guerra": Strategy("13 evaluations for every layer", Layerwise),
    "tpe": Strategy("hundreds of evaluations", tpe),
    "gp": Strategy("evaluations that take longer than its own fit", gp),
    "exhaustive": Strategy("a tiny space", Exhaustive),
}
