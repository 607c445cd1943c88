"""Interrupted or terminated: cleaned up, the right status, and how to resume."""

import signal
import subprocess
import sys

import pytest

CODE = """
import signal, sys, time, types
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job begins without
import hwprune
from hwprune.cli import main

def inspect(*_):
    try:
        print("ready", flush=True)
        time.sleep(60)
    finally:
        print("cleaned up", flush=True)

sys.modules["hwprune.stages.inspecting"] = types.SimpleNamespace(inspect=inspect)
sys.argv = ["hwprune", "inspect", "net.onnx"]
main()
"""


@pytest.mark.parametrize(
    ("sent", "status", "said"),
    [
        (signal.SIGINT, 130, "resume with: hwprune inspect net.onnx"),
        (signal.SIGTERM, 143, ""),
    ],
)
def test_signals(sent: signal.Signals, status: int, said: str) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", CODE], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    process.send_signal(sent)
    out, err = process.communicate(timeout=10)
    assert process.returncode == status
    assert out == "cleaned up\n"
    assert said in err
    assert "Traceback" not in err
