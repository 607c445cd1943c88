"""What is measured: a network on a target."""

from dataclasses import dataclass, replace

import onnx_graphsurgeon as gs

from hwprune.backend import Backend, Capabilities
from hwprune.graph.channels import Coupling
from hwprune.graph.coupling import couple
from hwprune.latency.kernels import KernelGraph
from hwprune.latency.table import LatencyTable
from hwprune.store.paths import table_path


@dataclass(frozen=True, slots=True)
class Subject:
    """A network on a target: all that profiling needs to know.

    `graph` computes what `original` does, in operators that the runtime likes better.
    """

    backend: Backend
    capabilities: Capabilities
    threads: int
    original: gs.Graph
    graph: gs.Graph
    coupling: Coupling
    seed: int = 0
    allow_foreign_table: bool = False

    def network(self) -> KernelGraph:
        """The kernels it may run."""
        return KernelGraph(self.graph, self.coupling, self.capabilities)

    def table(self) -> LatencyTable:
        """This user's table, opened for the target."""
        identity = self.backend.identity()
        return LatencyTable(table_path(), identity, self.threads, self.allow_foreign_table)

    def with_graph(self, graph: gs.Graph) -> "Subject":
        """The same network computed by another graph."""
        return replace(self, graph=graph, coupling=couple(graph))
