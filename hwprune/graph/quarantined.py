"""The child process of `hwprune.graph.quarantine`: one JSON request on stdin, one file written."""

import json
import os
import sys
from pathlib import Path
from typing import Any

from hwprune.errors import HwpruneError, UnsafeModelError


def main() -> int:
    """Reads a model as the request says; an error goes to stdout as JSON, with status 1."""
    request = json.load(sys.stdin)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # the libraries' own messages
    _limit(int(request["memory"]))
    try:
        _read(request)
    except MemoryError:
        error: HwpruneError = UnsafeModelError(
            f"{request['path']}: reading it takes more than {request['memory']} bytes of memory"
        )
    except HwpruneError as known:
        error = known
    else:
        return 0
    json.dump({"kind": type(error).__name__, "message": error.message, "hint": error.hint}, answers)
    answers.close()
    return 1


def _read(request: dict[str, Any]) -> None:
    from hwprune.graph.proto import guarded
    from hwprune.graph.read import read_graph, write_graph

    shapes = {name: tuple(shape) for name, shape in request["shapes"].items()}
    path, batch, most = Path(request["path"]), request["batch"], request["max_bytes"]
    graph = read_graph(path, shapes, batch, most)
    with guarded(f"reading {path}"):
        write_graph(graph, Path(request["out"]))


def _limit(memory: int) -> None:
    """Address space, where the system knows such a limit (not on Windows; macOS ignores it)."""
    try:
        import resource
    except ImportError:
        return
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


if __name__ == "__main__":
    sys.exit(main())
