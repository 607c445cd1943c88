"""Exact rewrites: the same function in operators that a runtime executes faster."""
