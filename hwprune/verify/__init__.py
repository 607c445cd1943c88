"""Numerical parity and measured latency of a written file."""
