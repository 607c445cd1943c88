"""What this machine is and how it is set up, as its operating system tells it.

Standard library alone, nothing of ours, Python 3.8: the source of this file is run on other
machines, too. What cannot be read is "unknown": a state to be recorded, never an error. `root` is
where the file system begins; tests bring their own.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import platform
from pathlib import Path
from typing import Iterable, Iterator  # noqa: UP035 - Python 3.8

ROOT = Path("/")
UNKNOWN = "unknown"

_CPUS = "sys/devices/system/cpu"
_X86 = ("x86_64", "AMD64")
_VNNI = {"avx512_vnni", "avx_vnni", "amx_int8"}
_SIMD = _VNNI | {"sse4_1", "avx", "avx2", "fma", "avx512f", "avx512bw", "amx_tile", "asimd"}
_SIMD |= {"asimdhp", "asimddp", "i8mm", "bf16", "sve", "sve2", "sme", "neon", "rvv"}
# Where version 2 and version 1 of control groups are mounted, and where both are at once.
_CGROUPS = ("", "unified", "cpu", "cpu,cpuacct")
_HOTTEST_C = 150.0  # sensors that say more are broken


def identity(root: Path = ROOT) -> dict[str, str]:
    """What must match before a time measured elsewhere may be used here."""
    cpu = cpu_fields(root)
    return {
        "device": _device(cpu, root),
        "architecture": platform.machine(),
        "vendor": _known(cpu.get("vendor_id") or cpu.get("CPU implementer")),
        "family": _known(cpu.get("cpu family") or cpu.get("CPU architecture")),
        "model": _known(cpu.get("model") or cpu.get("CPU part")),
        "stepping": _known(cpu.get("stepping") or cpu.get("CPU revision")),
        "isa": isa_digest(root),
        "simd": _known(" ".join(sorted(isa_flags(root) & _SIMD))),
        "int8": int8_products(root),
        "cores": str(physical_cores(root)),
    }


def conditions(root: Path = ROOT) -> dict[str, str]:
    """What is recorded beside a time: it may differ, and explains why times do."""
    return {
        "os": f"{platform.system()} {platform.release()}",
        "microcode": _known(cpu_fields(root).get("microcode")),
        "hypervisor": hypervisor(root),
        "cpus": f"{len(allowed_cpus())} of {os.cpu_count() or UNKNOWN}",
        "smt": _switch(_read(root / _CPUS / "smt/active")),
        "governor": _known(" ".join(sorted(set(_cpufreq("scaling_governor", root))))),
        "turbo": turbo(root),
        "frequency_mhz": frequency_mhz(root),
        "throttled": _throttled(root),
        "temperature_c": temperature_c(root),
        "quota_cpus": quota_cpus(root),
        "stolen_s": _stolen_s(root),
        "load": _load(root),
        "memory_mb": _memory_mb("MemTotal", root),
        "memory_free_mb": _memory_mb("MemAvailable", root),
        "power": power(root),
    }


def cpu_fields(root: Path = ROOT) -> dict[str, str]:
    """The first processor's entries of /proc/cpuinfo, or what `platform` knows."""
    fields = _fields(_read(root / "proc/cpuinfo").split("\n\n")[0])
    return fields or {"model name": platform.processor() or platform.machine()}


def isa_flags(root: Path = ROOT) -> frozenset[str]:
    """Instruction sets by their kernel names ("avx512_vnni")."""
    cpu = cpu_fields(root)
    return frozenset((cpu.get("flags") or cpu.get("Features") or "").split())


def isa_digest(root: Path = ROOT) -> str:
    """A short digest of the instruction sets."""
    return hashlib.sha256(" ".join(sorted(isa_flags(root))).encode()).hexdigest()[:12]


def has_vnni(root: Path = ROOT) -> bool:
    """Whether u8 x s8 products do not saturate: VNNI on x86, any processor elsewhere."""
    return platform.machine() not in _X86 or bool(isa_flags(root) & _VNNI)


def int8_products(root: Path = ROOT) -> str:
    """How 8-bit products are summed: by which instructions, or "saturating", or "widening"."""
    flags = isa_flags(root)
    kinds = (("amx", {"amx_int8"}), ("vnni", _VNNI), ("i8mm", {"i8mm"}), ("dot", {"asimddp"}))
    for name, those in kinds:
        if flags & those:
            return name
    if not flags:
        return UNKNOWN
    return "widening" if has_vnni(root) else "saturating"


def allowed_cpus() -> set[int]:
    """Logical processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))


def physical_cores(root: Path = ROOT) -> int:
    """Distinct physical cores among the processors this process may use."""
    topology = "topology/thread_siblings_list"
    cores = {_read(root / _CPUS / f"cpu{n}" / topology) or str(n) for n in allowed_cpus()}
    return max(1, len(cores))


def hypervisor(root: Path = ROOT) -> str:
    """What this virtual machine runs on, "none" on bare metal."""
    if kind := _read(root / "sys/hypervisor/type"):
        return kind
    dmi = root / "sys/class/dmi/id"
    board = f"{_read(dmi / 'sys_vendor')} {_read(dmi / 'product_name')}".strip()
    flags = isa_flags(root)
    if "hypervisor" in flags or any(w in board.lower() for w in ("virtual", "kvm", "qemu")):
        return board or "yes"
    # The flag is x86's own: elsewhere its absence says nothing.
    return "none" if flags and platform.machine() in _X86 else UNKNOWN


def turbo(root: Path = ROOT) -> str:
    """Whether the clock may rise above its nominal rate: "on" or "off"."""
    no_turbo = {"0": "on", "1": "off"}.get(_read(root / _CPUS / "intel_pstate/no_turbo"))
    return no_turbo or _switch(_read(root / _CPUS / "cpufreq/boost"))


def frequency_mhz(root: Path = ROOT) -> str:
    """The fastest clock among the processors this process may use, now."""
    khz = list(_numbers(_cpufreq("scaling_cur_freq", root)))
    mhz = [x / 1e3 for x in khz] or list(_numbers([cpu_fields(root).get("cpu MHz", "")]))
    return _largest(mhz)


def temperature_c(root: Path = ROOT) -> str:
    """The hottest sensor, degrees Celsius."""
    zones = (root / "sys/class/thermal").glob("thermal_zone*/temp")
    chips = (root / "sys/class/hwmon").glob("hwmon*/temp*_input")
    degrees = [x / 1e3 for x in _numbers(map(_read, [*zones, *chips]))]
    return _largest([x for x in degrees if 0 < x < _HOTTEST_C])


def quota_cpus(root: Path = ROOT) -> str:
    """Processors' worth of time that the container may use ("1.5"), or "none"."""
    if not (root / "sys/fs/cgroup").is_dir():
        return UNKNOWN
    return min((q for q in map(_quota, _cgroups(root)) if q), key=float, default="none")


def usable_cores(root: Path = ROOT) -> int:
    """Physical cores that the container's quota can feed, one at least."""
    quota = quota_cpus(root)
    known = quota not in ("none", UNKNOWN)
    return max(1, min(physical_cores(root), int(float(quota)))) if known else physical_cores(root)


def power(root: Path = ROOT) -> str:
    """What feeds it, "mains" or "battery"; machines without a battery do not tell."""
    supplies = [
        {name: _read(folder / name) for name in ("type", "status", "online", "scope")}
        for folder in (root / "sys/class/power_supply").glob("*")
    ]
    ours = [s for s in supplies if s["scope"] != "Device"]  # a mouse has a battery, too
    if any(s["type"] == "Battery" and s["status"] == "Discharging" for s in ours):
        return "battery"
    return "mains" if any(s["online"] == "1" for s in ours) else UNKNOWN


def _device(cpu: dict[str, str], root: Path) -> str:
    """The processor's name, else that of the board: Arm's processors have numbers only."""
    board = _read(root / "proc/device-tree/model")
    return cpu.get("model name") or board or cpu.get("Hardware") or platform.machine()


def _cgroups(root: Path) -> Iterator[Path]:
    """Folders of the control groups that this process is in, and of those around them."""
    lines = _read(root / "proc/self/cgroup").splitlines()
    paths = {line.split(":", 2)[2] for line in lines if line.count(":") >= 2} | {"/"}
    for mount in _CGROUPS:
        for path in paths:
            inside = Path(path.lstrip("/"))
            for part in (inside, *inside.parents):
                yield root / "sys/fs/cgroup" / mount / part


def _quota(folder: Path) -> str:
    """Of one control group; "" if it sets none."""
    text = _read(folder / "cpu.max")
    if not text:
        text = f"{_read(folder / 'cpu.cfs_quota_us')} {_read(folder / 'cpu.cfs_period_us')}"
    numbers = list(_numbers(text.split()))
    usable = len(numbers) == 2 and min(numbers) > 0
    return f"{numbers[0] / numbers[1]:g}" if usable else ""


def _cpufreq(name: str, root: Path) -> list[str]:
    """That file of every processor we may use, as far as there is one."""
    found = (_read(root / _CPUS / f"cpu{n}" / "cpufreq" / name) for n in sorted(allowed_cpus()))
    return [text for text in found if text]


def _throttled(root: Path) -> str:
    """How often the processors were slowed down by heat since the machine started."""
    files = (root / _CPUS).glob("cpu[0-9]*/thermal_throttle/core_throttle_count")
    counts = list(_numbers(map(_read, files)))
    return f"{sum(counts):.0f}" if counts else UNKNOWN


def _stolen_s(root: Path) -> str:
    """Seconds that the hypervisor gave to others while a processor of ours had work."""
    fields = _read(root / "proc/stat").split("\n")[0].split()
    ticks = list(_numbers(fields[8:9])) if fields[:1] == ["cpu"] else []
    return f"{ticks[0] / os.sysconf('SC_CLK_TCK'):.2f}" if ticks else UNKNOWN


def _load(root: Path) -> str:
    """Processes that ran or wanted to, mean over one minute."""
    return _largest(_numbers(_read(root / "proc/loadavg").split()[:1]), "g")


def _memory_mb(name: str, root: Path) -> str:
    value = _fields(_read(root / "proc/meminfo")).get(name, "")
    return _largest(x * 1024 / 1e6 for x in _numbers(value.split()[:1]))


def _read(path: Path) -> str:
    """The text of a file, "" where there is none to be had."""
    try:
        return path.read_text("utf-8", "replace").strip("\0 \t\n")
    except OSError:
        return ""


def _fields(text: str) -> dict[str, str]:
    lines = (line.split(":", 1) for line in text.splitlines() if ":" in line)
    return {key.strip(): value.strip() for key, value in lines}


def _numbers(texts: Iterable[str]) -> Iterator[float]:
    """Those that are finite numbers."""
    for text in texts:
        with contextlib.suppress(ValueError):
            if math.isfinite(number := float(text)):
                yield number


def _largest(values: Iterable[float], spell: str = ".0f") -> str:
    return max((format(v, spell) for v in values), key=float, default=UNKNOWN)


def _switch(text: str) -> str:
    return {"1": "on", "0": "off"}.get(text, UNKNOWN)


def _known(text: str | None) -> str:
    return text or UNKNOWN
