"""What the facts mean for whoever compiles on this machine, and what can be done about it."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from hwprune.doctor.installation import Need, TargetState

if TYPE_CHECKING:
    from hwprune.doctor.checkup import Checkup
    from hwprune.doctor.noise import Noise

_FIXED_CLOCK = {"performance", "userspace"}
_BUSY = 0.5  # mean number of others at work from which they are in the way
_OWN_CORES = 0.95  # CPU time over wall time from which nobody interfered
_LONG_TAIL = 1.5  # p99 over p20
_HOT_C = 85.0
_STOLEN_S = 0.1  # of about three seconds


@dataclass(frozen=True, slots=True)
class Advice:
    """One consequence; `todo` is empty where nothing needs to be done."""

    level: Literal["good", "note", "warning"]
    what: str
    todo: str = ""


def installation_advice(needs: Iterable[Need], targets: Iterable[TargetState]) -> Iterator[Advice]:
    """Of versions that will not do and targets that cannot be used."""
    for need in needs:
        if not need.fit and need.name == "python":
            what = f"Python {need.found} will not do: hwprune needs {need.wanted}"
            yield Advice("warning", what, "make an environment with a newer Python")
        elif not need.fit:
            found = f"{need.found} is installed" if need.found else "it is not installed"
            what = f"{need.name}: {found}, hwprune needs {need.wanted}"
            yield Advice("warning", what, f"pip install '{need.name}{_specifier(need)}'")
    for target in targets:
        if not target.usable:
            yield Advice("warning", f"{target.name}: {target.what}")


def _specifier(need: Need) -> str:
    """The newest of the ranges that would do."""
    return need.wanted.rpartition(" or ")[2].replace("any", "")


def target_advice(found: "Checkup") -> Iterator[Advice]:
    """Of everything that was found out about a target."""
    for rule in (_products, _clock, _turbo, _heat, _quota, _load, _machine, _power, _table):
        yield from rule(found)
    yield from noise_advice(found.noise) if found.noise else _unmeasured()


def noise_advice(noise: "Noise") -> Iterator[Advice]:
    """What can still be told apart, and what gets in the way."""
    spread, twins = f"{noise.spread:.1%}", f"{noise.twins:.1%}"
    if noise.level == "steady":
        yield Advice("good", f"the machine is steady: times move by {noise.resolution:.1%}")
    else:
        yield Advice(
            "warning" if noise.level == "noisy" else "note",
            f"budgets within {spread} of the measured time, and ratios (0.4x) within {twins}, "
            "cannot be told from noise: verdicts may come out `noisy` (exit status 6)",
            "stop other work and ask again, or leave that much of a margin",
        )
    yield from _interference(noise)


def _interference(noise: "Noise") -> Iterator[Advice]:
    if noise.cpu_share < _OWN_CORES:
        what = f"the threads had their cores for {noise.cpu_share:.0%} of the time only"
        yield Advice("note", what, "stop other work, or ask for fewer --threads")
    if noise.p99 > _LONG_TAIL:
        what = f"the slowest hundredth of the runs took {noise.p99:.2g} times as long or longer"
        yield Advice("note", what, "a budget at --percentile p99 must allow for that")
    if noise.throttled:
        what = "the processor was slowed down by heat while it was measured"
        yield Advice("warning", what, "let it cool down, or compile for that state on purpose")
    if noise.stolen_s is not None and noise.stolen_s >= _STOLEN_S:
        what = f"the hypervisor gave {noise.stolen_s:.2g} s to others while it was measured"
        yield Advice("note", what, "a machine that is not shared gives tighter verdicts")


def _unmeasured() -> Iterator[Advice]:
    yield Advice("note", "how noisy the machine is was not measured", "leave out --quick")


def _products(found: "Checkup") -> Iterator[Advice]:
    kind = found.identity.details.get("int8")
    if found.weight_bits < 8:
        what = (
            f"8-bit products saturate here ({_simd(found)}, no VNNI): int8 weights get "
            f"{found.weight_bits} bits, and int8 may be slower than fp32"
        )
        hint = "nothing to do: both are timed, layer by layer; a processor with VNNI gains more"
        yield Advice("note", what, hint)
    elif kind in ("vnni", "amx", "dot", "i8mm"):
        yield Advice("good", f"8-bit products are exact and fast here ({kind})")
    elif kind:
        yield Advice("note", f"no instructions for 8-bit products are known here ({kind})")


def _simd(found: "Checkup") -> str:
    known = found.identity.details.get("simd", "").split()
    wide = [name for name in ("avx512f", "avx2", "avx", "sse4_1") if name in known]
    return wide[0] if wide else "instruction sets unknown"


def _clock(found: "Checkup") -> Iterator[Advice]:
    governor = found.conditions.get("governor")
    if governor == "unknown":
        what = "what governs the clock cannot be read here, as in most virtual machines"
        yield Advice(
            "note", what, "nothing to do: files are timed in turns, so the clock meets all alike"
        )
    elif governor and not set(governor.split()) <= _FIXED_CLOCK:
        what = f"the clock follows the load (governor {governor}): short runs may see a low one"
        yield Advice("note", what, "sudo cpupower frequency-set -g performance")


def _turbo(found: "Checkup") -> Iterator[Advice]:
    if found.conditions.get("turbo") == "on":
        what = "the clock may rise above its nominal rate while the processor is cool (turbo)"
        yield Advice("note", what, "leave it on if it is on where the network will run")


def _heat(found: "Checkup") -> Iterator[Advice]:
    degrees = _number(found.conditions.get("temperature_c"))
    if degrees is not None and degrees >= _HOT_C:
        what = f"the processor has {degrees:g} degrees Celsius: heat may slow it down"
        yield Advice("note", what, "let it cool down before you measure")


def _quota(found: "Checkup") -> Iterator[Advice]:
    quota = _number(found.conditions.get("quota_cpus"))
    if quota is not None and quota < found.threads:
        what = (
            f"the container may use {quota:g} CPUs, but the runtime starts {found.threads} threads:"
            " it is stopped in the middle of runs"
        )
        yield Advice("warning", what, f"--threads {max(1, int(quota))}, or raise the quota")


def _load(found: "Checkup") -> Iterator[Advice]:
    load = _number(found.conditions.get("load"))
    cores = _number(found.identity.details.get("cores"))
    if load is not None and cores is not None and load + found.threads >= cores + _BUSY:
        what = f"other work is running: load {load:g} on {cores:g} cores, {found.threads} threads"
        yield Advice("note", what, "stop it while you measure, or ask for fewer --threads")


def _machine(found: "Checkup") -> Iterator[Advice]:
    kind = found.conditions.get("hypervisor")
    if kind not in (None, "none", "unknown"):
        name = "" if kind == "yes" else f" ({kind})"
        what = f"this is a virtual machine{name}: its neighbours move its times"
        yield Advice("note", what, "trust ratios (0.4x) more than milliseconds")


def _power(found: "Checkup") -> Iterator[Advice]:
    if found.conditions.get("power") == "battery":
        what = "the machine runs on its battery: the clock is held down"
        yield Advice("warning", what, "plug it in, unless it is meant to run that way")


def _table(found: "Checkup") -> Iterator[Advice]:
    table = found.table
    if table.problem:
        yield Advice("warning", f"latencies cannot be kept: {table.problem}", "set HWPRUNE_CACHE")
    elif not table.rows:
        what = "no latency of this target is known yet: the first compile measures for minutes"
        yield Advice("note", what)


def _number(text: str | None) -> float | None:
    try:
        return float(text or "")
    except ValueError:
        return None


def ordered(advice: Iterable[Advice]) -> Sequence[Advice]:
    """Warnings first, then notes, then what is good."""
    rank = {"warning": 0, "note": 1, "good": 2}
    return sorted(advice, key=lambda a: rank[a.level])
