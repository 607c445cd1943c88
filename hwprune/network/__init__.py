"""The trainable twin: a graph as a torch module, and back."""
