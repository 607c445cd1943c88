"""The import stage: model, data and target as everything after them uses them."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import onnx_graphsurgeon as gs
import torch

from hwprune.backend import Backend, Capabilities
from hwprune.differentiable.choosing import JointOptions
from hwprune.differentiable.dsa import check_trainable
from hwprune.errors import UnsupportedModelError, UsageError
from hwprune.frontend.arrays import Input, inputs_of_graph, made_up
from hwprune.frontend.data import Splits, load_inputs, split
from hwprune.frontend.dataset import DataSet
from hwprune.frontend.loaded import LoadedModel
from hwprune.frontend.models import load_model
from hwprune.frontend.normalization import Normalization
from hwprune.graph.channels import Coupling
from hwprune.graph.coupling import couple
from hwprune.network.operators import untranslated
from hwprune.network.run import Inputs, check_batches
from hwprune.network.twin import to_module
from hwprune.registry import TRAINED, get_backend, known_target
from hwprune.stages.choice import Choice
from hwprune.stages.memo import Memo
from hwprune.stages.options import JOINT, CompileOptions, DataOptions
from hwprune.stages.subject import Subject
from hwprune.stages.training import check_training

SYNTHETIC = 256  # samples where there is no data at all
_CALIBRATION = 4096  # samples at most, for repair and for activation ranges
_SEARCH = 2048  # samples at most, to compare candidates
_TRAINING = (*sorted(TRAINED), JOINT)  # searches


@dataclass(frozen=True, slots=True)
class Job:
    """One run's inputs.

    `graph` computes what `model.graph` does, as `choice` says, in operators that the runtime likes
    better. `known` is False where the data are synthetic: quality cannot be told.
    """

    options: CompileOptions
    backend: Backend
    capabilities: Capabilities
    threads: int
    model: LoadedModel
    graph: gs.Graph
    coupling: Coupling
    splits: Splits
    known: bool
    choice: Choice = field(default_factory=Choice)
    memo: Memo = field(default_factory=Memo)

    @property
    def subject(self) -> Subject:
        """What of it is measured."""
        return Subject(
            self.backend,
            self.capabilities,
            self.threads,
            self.model.graph,
            self.graph,
            self.coupling,
            self.options.seed,
            self.options.allow_foreign_table,
        )

    def calibration(self, count: int = _CALIBRATION) -> Inputs:
        """Training inputs for repair and ranges; labels are never looked at."""
        return _tensors(self.splits.train.take(count, self.options.seed))

    def search_inputs(self, count: int = _SEARCH) -> Inputs:
        """Held-out training inputs on which candidates are compared."""
        return _tensors(self.splits.search.take(count, self.options.seed + 1))


def load_job(options: CompileOptions, memo: Memo | None = None) -> Job:
    """Reads everything the options name; `memo` is what runs share that differ in the target only.

    Raises UsageError, ModelError, DataError, BackendError.
    """
    options.check()
    backend = get_backend(options.target, options.runtime)
    model = load_model(
        options.model, options.weights, options.shapes, options.batch, options.max_model_size
    )
    if _trains(options) and (alone := untranslated(model.graph)):
        raise UnsupportedModelError(
            f"{next(iter(alone.values()))}; without one the network cannot be trained",
            f"leave --epochs, --train-minutes and --search {'|'.join(_TRAINING)} out: "
            "the rest works",
        )
    splits, known = load_splits(options, model)
    if known:  # else nobody would rely on what samples give
        batch = int(model.graph.inputs[0].shape[0])
        some = splits.train.take(2 * batch, options.seed)
        check_batches(to_module(model.graph), _tensors(some), batch)
    threads = options.threads or backend.default_threads()
    able, graph = backend.capabilities(), model.graph
    coupling = couple(graph)
    if options.search == JOINT:
        _check_joint(known, able)
    if options.search in TRAINED:
        check_trainable(coupling, splits.train)
    found = Job(options, backend, able, threads, model, graph, coupling, splits, known)
    check_training(options, coupling, splits.train)
    return found if memo is None else replace(found, memo=memo)


def _trains(options: CompileOptions) -> bool:
    return options.trains or options.search in _TRAINING


def _check_joint(known: bool, able: Capabilities) -> None:
    if not known:
        raise UsageError(f"--search {JOINT} trains the network, and has no data", "give --data")
    JointOptions().check(able)


def load_splits(options: CompileOptions, model: LoadedModel) -> tuple[Splits, bool]:
    """Training, search and evaluation data, and whether they are real."""
    inputs, labels = inputs_of_graph(model.graph), classes(model.graph)
    return read_splits(options.data_options, inputs, labels, model.normalization, model.data)


def read_splits(
    options: DataOptions,
    inputs: Sequence[Input],
    labels: int | None,
    known: Normalization | None = None,
    bundled: str | None = None,
    synthetic: int = SYNTHETIC,
) -> tuple[Splits, bool]:
    """As `load_splits`, for a network of which only inputs and classes are known.

    `known` is how its images are normalised, `bundled` the data that go with it, `synthetic` how
    many samples are made up where there are none.
    """
    spec = options.data or (bundled if not (options.train_data or options.eval_data) else None)
    normalization = _normalization(options, known)

    def load(name: str | None) -> DataSet | None:
        return None if name is None else load_inputs(name, inputs, normalization, labels)

    data, train, evaluation = load(spec), load(options.train_data), load(options.eval_data)
    if data is None and train is None and evaluation is None:
        return split(made_up(inputs, synthetic, options.seed), None, None, options.seed), False
    return split(data, train, evaluation, options.seed), True


def classes(graph: gs.Graph) -> int | None:
    """How many classes the only output tells apart, or None if it is no classifier."""
    shape = graph.outputs[0].shape
    return int(shape[1]) if len(graph.outputs) == 1 and len(shape) == 2 else None


def out_dir(options: CompileOptions, name: str) -> Path:
    """Where the artefact goes."""
    return options.out or Path("hwprune-out") / f"{name}-{known_target(options.target).label}"


def _normalization(options: DataOptions, known: Normalization | None) -> Normalization | None:
    if options.mean is None and options.std is None and options.scale is None:
        return known
    base = Normalization()
    if options.std is not None and np.any(np.asarray(options.std) <= 0):
        raise UsageError(f"--std is {options.std}", "every standard deviation must be positive")
    return Normalization(
        options.mean or base.mean, options.std or base.std, options.scale or base.scale
    )


def _tensors(data: DataSet) -> Inputs:
    return tuple(map(torch.from_numpy, data.inputs(slice(0, len(data)))))
