"""Search under the budget: space, decoder, Bayesian optimisation, baselines."""
