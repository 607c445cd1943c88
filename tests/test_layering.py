"""Who may import whom: the rows of the design, checked on the source of every file."""

import ast
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = {"hwprune": ROOT / "hwprune", "hwprune.backends": ROOT / "backends"}
SOURCES |= {"hwprune.models": ROOT / "models"}

# A module imports only from rows above its own, from its own folder, and from SIBLINGS.
ROWS = (
    ("errors", "units", "registry", "target", "plan", "precision", "backend", "progress"),
    ("graph",),
    ("store",),
    ("frontend", "network", "latency"),
    ("pruning", "quantize", "train", "search", "codec"),
    ("export", "verify", "rewrites", "schedules", "differentiable"),
    ("compiler", "library", "stages", "report"),
    ("cli", "doctor", "__main__"),
)
ROW = {name: row for row, names in enumerate(ROWS) for name in names}
TOP = len(ROWS)
PLUGIN_ROW = 4  # backends and models see rows 0-3
SIBLINGS = {
    ("compiler", "stages"),
    ("compiler", "report"),
    ("stages", "report"),
    ("differentiable", "export"),  # bytes are those that the file takes
    ("train", "quantize"),  # quantisation-aware training trains what quantize built
    ("codec", "quantize"),  # weights are rounded for the output by GPTQ
    ("pruning", "quantize"),  # low-bit criteria look at what quantisers make of weights
    ("pruning", "codec"),  # a criterion refines norms of channels as a codec refines weights
    ("cli", "doctor"),
    ("__main__", "cli"),
}
SIBLINGS |= {(a, b) for a in ROWS[0] for b in ROWS[0] if a != b}
HEAVY = re.compile(
    r"(torch|onnx|onnxruntime|brevitas|optuna|botorch|sklearn|scipy|matplotlib)(\.|$)"
)


@cache
def modules() -> dict[str, Path]:
    """Dotted name -> file, for the package as it is installed."""
    found = {}
    for prefix, folder in SOURCES.items():
        for path in folder.rglob("*.py"):
            parts = [prefix, *path.relative_to(folder).with_suffix("").parts]
            found[".".join(parts).removesuffix(".__init__")] = path
    return found


def imports(module: str, eager: bool = False) -> Iterator[tuple[str, int]]:
    """(imported module, line) of a file; `eager`: only what runs when it is imported."""
    path = modules()[module]
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in statements(ast.parse(path.read_text("utf-8")), eager):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: -(node.level - 1) or None]
            base = ".".join([*parents, node.module or ""]).strip(".") if node.level else node.module
            for alias in node.names:
                name = f"{base}.{alias.name}"
                yield (name if name in modules() else str(base)), node.lineno


def statements(tree: ast.AST, eager: bool) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        if eager and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if eager and isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        yield node
        yield from statements(node, eager)


def folder(module: str) -> str:
    """The second part of the name: 'graph' of hwprune.graph.read; '' of hwprune itself."""
    return f"{module}.".split(".")[1]


def allowed(importer: str, imported: str) -> bool:
    here, there = folder(importer), folder(imported)
    if not there or here in ("", "testing") or here == there:
        return True  # hwprune itself holds the version; its lazy names come last of all
    if there in ("backends", "models"):
        return (here, there) == ("frontend", "models")
    if here in ("backends", "models"):
        return ROW.get(there, TOP) < PLUGIN_ROW
    return ROW.get(there, TOP) < ROW[here] or (here, there) in SIBLINGS


@pytest.mark.parametrize("module", sorted(modules()))
def test_imports_point_up(module: str) -> None:
    assert folder(module) in {*ROW, "", "backends", "models", "testing"}, "folder without a row"
    ours = [(name, line) for name, line in imports(module) if name.split(".")[0] == "hwprune"]
    assert [f"line {line}: {name}" for name, line in ours if not allowed(module, name)] == []


@pytest.mark.parametrize(
    ("importer", "imported", "good"),
    [
        ("hwprune.graph.read", "hwprune.errors", True),
        ("hwprune.graph.read", "hwprune.store.files", False),
        ("hwprune.search.study", "hwprune.pruning.criteria", False),
        ("hwprune.latency.table", "hwprune.backends.cpu", False),
        ("hwprune.backends.cpu", "hwprune.backends.null", True),
        ("hwprune.backends.cpu", "hwprune.export.lower", False),
        ("hwprune.frontend.models", "hwprune.models", True),
        ("hwprune.report.schema", "hwprune.compiler", False),
    ],
)
def test_the_rule_itself(importer: str, imported: str, good: bool) -> None:
    assert allowed(importer, imported) is good


def test_the_command_line_reaches_nothing_heavy_when_it_is_imported() -> None:
    roots = [m for m in modules() if folder(m) in ("", "cli")]
    chains = {name: name for name in roots}
    queue, heavy = list(roots), []
    while queue:
        module = queue.pop()
        for name, line in imports(module, eager=True):
            if HEAVY.match(name):
                heavy.append(f"{chains[module]} line {line}: {name}")
            for parent in with_parents(name):
                if parent in modules() and parent not in chains:
                    chains[parent] = f"{chains[module]} -> {parent}"
                    queue.append(parent)
    assert heavy == []


def with_parents(name: str) -> Iterator[str]:
    """Importing a.b.c runs a, a.b and a.b.c."""
    parts = name.split(".")
    yield from (".".join(parts[: i + 1]) for i in range(len(parts)))


def test_the_decoder_of_packed_files_can_be_taken_along() -> None:
    inside = [m for m in modules() if m.startswith("hwprune.codec.decoder")]
    allowed_tops = {"numpy", *sys.stdlib_module_names}
    foreign = [
        f"{module} line {line}: {name}"
        for module in inside
        for name, line in imports(module)
        if not name.startswith("hwprune.codec.decoder") and name.split(".")[0] not in allowed_tops
    ]
    assert len(inside) > 5
    assert foreign == []


def test_nobody_imports_the_bare_names_of_the_mapped_folders() -> None:
    files = [*modules().values(), *(ROOT / "tests").rglob("*.py"), *(ROOT / "tools").rglob("*.py")]
    bare = re.compile(r"^\s*(from|import)\s+(backends|models)\b", re.MULTILINE)
    assert [str(path) for path in files if bare.search(path.read_text("utf-8"))] == []


@pytest.mark.parametrize("name", ["backends", "models"])
def test_mapped_folders_are_not_shadowed(name: str) -> None:
    assert not (ROOT / "hwprune" / name).exists()
