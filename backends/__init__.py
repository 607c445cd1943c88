"""Targets, one folder each; reached through hwprune.registry only."""
