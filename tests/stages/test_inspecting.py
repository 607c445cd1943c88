"""Looking into a file is quick: nothing heavy is loaded for it."""

import json
import subprocess
import sys

CODE = """
import json, sys
import hwprune
found = hwprune.inspect(sys.argv[1], shapes={"x": (1, 3, 12, 12)})
heavy = [m for m in ("torch", "brevitas", "onnxruntime", "scipy") if m in sys.modules]
print(json.dumps({"groups": len(found.groups), "heavy": heavy}))
"""


def test_a_file_is_inspected_without_torch(network):
    command = [sys.executable, "-P", "-c", CODE, str(network)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert found["groups"] > 2
    assert found["heavy"] == []
