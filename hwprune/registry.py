"""Backends and methods by name: the only place that knows them. Nothing heavy is imported here."""

import difflib
import inspect
from collections.abc import Iterable, Mapping
from importlib.metadata import EntryPoint, entry_points

from hwprune.backend import Backend
from hwprune.errors import BackendError, UsageError
from hwprune.target import TargetName, parse_target

METHODS: Mapping[str, Mapping[str, str]] = {
    "search": {
        "bo": "the knapsack, steered by Bayesian optimisation of measured quality (default)",
        "knapsack": "the least estimated loss under the latency table, evaluated once",
        "uniform": "the same fraction of every group: the baseline to beat",
        "random": "random widths, repaired to meet the budget",
        "random-weights": "random multipliers for the knapsack",
        "netadapt": "step by step towards the budget, the layer that loses least pays",
        "evolution": "children of good parents, repaired to meet the budget",
        "guerra": "Bayesian optimisation of one layer at a time, deepest first, 0 to 40 % of each",
        "tpe": "multipliers for the knapsack by Optuna's Parzen estimators",
        "gp": "multipliers for the knapsack by Optuna's Gaussian process",
        "exhaustive": "everything that fits, one by one: for tiny networks",
        "dsa": "keep ratios trained with the weights by gradients under the table (DSA)",
        "joint": "widths, and bits of every output, by gradients while training, under --max-size",
    },
    "criterion": {
        "obs": "error left after least-squares repair of the consumers (default)",
        "fisher": "second-order change of the answers, from gradients (no labels)",
        "taylor": "first-order change of the answers, from gradients (HALP; no labels)",
        "hessian": "the Hessian's trace times the squared weights (HAP)",
        "orthoreg": "squared first-order change by each filter, added up (OrthoReg)",
        "angle": "angle between the kernels that read it and their ternary selves (Guerra et al.)",
        "angle-own": "the same of the kernels that make it",
        "distance": "squared distance of the kernels that read it from their ternary selves",
        "distance-own": "the same of the kernels that make it",
        "itpruner": "layers whose features no other layer has (ITPruner), by magnitude inside",
        "magnitude": "norm of the weights",
        "surp": "what successive refinement of the norms of all channels gives each (SuRP)",
        "random": "a random order: the baseline to beat",
    },
    "saliency": {
        "measured": "each group is halved and repaired, and what that loses measured (default)",
        "estimated": "as the criterion says, on the scale of all groups halved together",
    },
    "sensitivity": {
        "kl": "what few bits of one weight do to the answers, measured (default)",
        "trace": "the Hessian's trace times the rounding error, estimated (HAWQ-V2)",
    },
    "schedule": {
        "one-shot": "everything goes before the training, as the criterion says (default)",
        "iterative": "in rounds, least norm first, with training in between",
        "increg": "a penalty by rank that may fall again; what reaches the ceiling goes (IncReg)",
        "greg1": "a growing penalty on the channels of least norm (GReg-1)",
        "greg2": "a small growing penalty on all tells which, then as greg1 (GReg-2)",
        "sfp": "filters of least norm to zero after every epoch, and they may come back (SFP)",
        "asfp": "sfp with ever more filters (ASFP)",
        "srfp": "sfp that turns filters down by and by (SRFP)",
        "asrfp": "srfp with ever more filters (ASRFP)",
        "orthoreg": "filters are trained apart before some go (OrthoReg)",
    },
    "codec": {
        "exact": "entropy coding to the last bit (default of hwprune pack without a bound)",
        "deadzone": "steps on two chained grids, rounded for the output (default with a bound)",
        "surp": "successive refinement: any beginning of the file is a coarser model (SuRP)",
        "ham": "shared values by Huffman codes (HAM)",
        "shac": "the same, or gaps between what is not zero, where they are shorter (sHAM)",
        "levels": "few values for each weight, in plain ONNX (default with a bound for .onnx)",
    },
    "effort": {
        "quick": "no training: least-squares repair and post-training quantisation (default)",
        "standard": "a few epochs of distillation",
        "thorough": "distillation until it no longer helps, then quantisation-aware training",
    },
}
_TRAINING = "training, with or without labels"
ADVICE: Mapping[str, Mapping[str, tuple[str, str]]] = {  # what a method needs, and is good for
    "search": {
        "bo": ("20 or more evaluations", "the best network that is known to be had"),
        "knapsack": ("one evaluation", "an answer in seconds"),
        "uniform": ("one evaluation", "comparisons"),
        "random": ("evaluations", "comparisons"),
        "random-weights": ("evaluations", "comparisons: often as good as bo on small networks"),
        "netadapt": ("several evaluations for every layer", "comparisons"),
        "evolution": ("hundreds of evaluations", "many processes that evaluate side by side"),
        "guerra": ("13 evaluations for every layer", "reproducing the paper"),
        "tpe": ("hundreds of evaluations", "many processes that evaluate side by side"),
        "gp": ("evaluations that take longer than its own fit", "comparisons"),
        "exhaustive": ("a tiny space", "the true optimum of a toy"),
        "dsa": (_TRAINING, "widths of a network trained from scratch"),
        "joint": (
            f"{_TRAINING}; --max-size",
            "the best file of a few kilobytes",
        ),
    },
    "criterion": {
        "obs": ("inputs without labels", "everything that is repaired by least squares"),
        "fisher": ("inputs without labels", "networks that are not repaired"),
        "taylor": ("inputs without labels", "comparisons with HALP"),
        "hessian": ("inputs without labels", "comparisons with HAP"),
        "orthoreg": ("inputs without labels", "networks whose filters were trained apart"),
        "angle": ("nothing", "networks of 1 or 2 bits, trained as such"),
        "angle-own": ("nothing", "the same, where the next layer is not quantised"),
        "distance": ("nothing", "networks of 1 or 2 bits, trained as such"),
        "distance-own": ("nothing", "the same, where the next layer is not quantised"),
        "itpruner": ("inputs without labels", "comparisons"),
        "magnitude": ("nothing", "networks without any data"),
        "surp": ("nothing", "networks without any data whose tensors differ in scale"),
        "random": ("nothing", "comparisons: retraining alone explains so much"),
    },
    "schedule": {
        "one-shot": ("inputs without labels", "short trainings: the best there by far"),
        "iterative": (_TRAINING, "comparisons"),
        "increg": (
            _TRAINING,
            "removals without a jump; long trainings",
        ),
        "greg1": (_TRAINING, "removals without a jump"),
        "greg2": (_TRAINING, "channels whose magnitude misleads"),
        "sfp": (_TRAINING, "comparisons"),
        "asfp": (_TRAINING, "trainings of a few epochs by schedule"),
        "srfp": (_TRAINING, "comparisons; it converges slowly"),
        "asrfp": (_TRAINING, "comparisons; it converges slowly"),
        "orthoreg": (_TRAINING, "many channels that go at once"),
    },
    "codec": {
        "exact": ("nothing", "what must not change: sent smaller than by zip or xz"),
        "deadzone": ("nothing; better with inputs", "the smallest file of a quality"),
        "surp": ("nothing; better with inputs", "files that are used before they are all there"),
        "ham": ("nothing; better with inputs", "products straight from the code"),
        "shac": ("nothing; better with inputs", "weights most of which are zero"),
        "levels": ("nothing; better with inputs", "devices without a decoder"),
    },
}
TRAINED = frozenset({"dsa"})  # searches that train the network
CHOSEN: Mapping[str, Mapping[str, str]] = {  # by hwprune itself
    "weight quantiser": {
        "max": "symmetric integers, the scale from the largest magnitude (default from 7 bits on)",
        "mse": "symmetric integers, the scale errs least, learned in training (LSQ; default below)",
        "asymmetric": "integers with a zero point, from the least to the greatest value",
        "power-of-two": "symmetric integers, scales are powers of two",
        "binary": "1 bit: the sign (BinaryNet)",
        "xnor": "1 bit: the sign times the mean magnitude (XNOR-Net; default for 1 bit)",
        "ternary": "-a, 0 or a (Ternary Weight Networks)",
        "slb": "searched for while training, the likeliest of a distribution (SLB)",
        "dorefa": "odd integers of the squashed weight, for training (DoReFa)",
    },
    "activation range": {
        "minmax": "from the least to the greatest value",
        "percentile": "99.99 % of the values on either side",
        "mse": "the least mean squared error",
        "entropy": "the least divergence of the rounded distribution (KL)",
    },
}
_LACKS = {
    "host": "cannot be used on other machines: leave @ssh:... out",
    "options": "has no runtime options: leave --runtime out",
}


def known_method(kind: str, name: str) -> str:
    """`name` if `kind` has a method of that name. Raises UsageError."""
    if name not in METHODS[kind]:
        raise unknown(kind, name, METHODS[kind])
    return name


def unknown(kind: str, name: str, known: Iterable[str]) -> UsageError:
    """The error for a name nobody has: the nearest match and the whole list."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    hint = (f"did you mean {close[0]!r}? " if close else "") + f"known: {', '.join(names)}"
    return UsageError(f"there is no {kind} {name!r}", hint)


def backend_names() -> list[str]:
    """Names of all installed targets, ours and plug-ins'."""
    return sorted(_backend_entries())


def known_target(text: str) -> TargetName:
    """What 'cpu' or 'cpu@ssh:user@host' names. Raises UsageError."""
    target = parse_target(text)
    if target.backend not in (names := backend_names()):
        raise unknown("target", target.backend, names)
    return target


def get_backend(target: str, options: Mapping[str, str] | None = None) -> Backend:
    """The target of that name, ready to use, its runtime set up with `options`.

    Raises:
        UsageError: There is no such target or option, or not on other machines.
        BackendError: It cannot be used, or its machine not be reached.
    """
    name = known_target(target)
    factory = _backend_entries()[name.backend].load()
    given: dict[str, object] = {"host": name.host, "options": options}
    given = {what: value for what, value in given.items() if value}
    for what in given.keys() - inspect.signature(factory).parameters.keys():
        raise UsageError(f"target {name.backend!r} {_LACKS[what]}")
    backend: Backend = factory(**given)
    if reason := backend.missing():
        raise BackendError(f"target {target!r} cannot be used here: {reason}")
    return backend


def _backend_entries() -> dict[str, EntryPoint]:
    found: dict[str, EntryPoint] = {}
    for entry in entry_points(group="hwprune.backends"):
        if entry.name in found and found[entry.name].value != entry.value:
            raise BackendError(
                f"two packages offer the target {entry.name!r}: "
                f"{found[entry.name].value} and {entry.value}",
                "uninstall one of them",
            )
        found[entry.name] = entry
    return found
