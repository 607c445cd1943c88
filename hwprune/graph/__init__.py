"""Reading ONNX, coupled channels, slimming, cost."""
