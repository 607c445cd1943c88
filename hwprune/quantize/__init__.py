"""Calibration and quantisation with brevitas."""
