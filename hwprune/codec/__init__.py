"""The smallest file: weights as rate-distortion and entropy coding leave them (.hwp)."""
