"""Pruning by training: schedules under which channels go while the network learns."""
