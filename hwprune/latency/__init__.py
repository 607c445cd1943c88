"""Latency tables: kernels, measuring, estimating."""
