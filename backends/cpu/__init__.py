"""The CPU through onnxruntime: kernels and whole files timed on CPUExecutionProvider."""

from hwprune.backends.cpu.backend import CpuBackend

__all__ = ["CpuBackend"]
