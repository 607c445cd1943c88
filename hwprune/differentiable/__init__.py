"""Searches by gradients: what stays of a network is trained along with its weights."""
