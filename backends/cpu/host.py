"""What this machine is: read from the operating system, no runtime needed."""

import hashlib
import os
import platform
from pathlib import Path


def cpu_fields() -> dict[str, str]:
    """The first processor's entries of /proc/cpuinfo, or what `platform` knows."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {"model name": platform.processor() or platform.machine()}
    lines = (line.split(":", 1) for line in text.split("\n\n")[0].splitlines() if ":" in line)
    return {key.strip(): value.strip() for key, value in lines}


def isa_flags() -> frozenset[str]:
    """Instruction sets by their kernel names ("avx512_vnni")."""
    fields = cpu_fields()
    return frozenset(fields.get("flags", fields.get("Features", "")).split())


def isa_digest() -> str:
    """A short digest of the instruction sets."""
    return hashlib.sha256(" ".join(sorted(isa_flags())).encode()).hexdigest()[:12]


def has_vnni() -> bool:
    """Whether u8 x s8 products do not saturate: VNNI on x86, dot products or SVE elsewhere."""
    if platform.machine() in ("x86_64", "AMD64"):
        return bool(isa_flags() & {"avx512_vnni", "avx_vnni", "amx_int8"})
    return True


def allowed_cpus() -> set[int]:
    """Logical processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))


def physical_cores() -> int:
    """Distinct physical cores among the processors this process may use."""
    return max(1, len({_core_of(cpu) for cpu in allowed_cpus()}))


def _core_of(cpu: int) -> str:
    siblings = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
    try:
        return siblings.read_text().strip()
    except OSError:
        return str(cpu)
