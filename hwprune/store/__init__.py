"""Atomic files, SQLite, run folders."""
