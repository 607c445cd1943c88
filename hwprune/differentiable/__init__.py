"""Searches by gradients: choices relaxed to shares, trained together with the weights."""
