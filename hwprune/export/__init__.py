"""Lowering to the form the target executes."""
