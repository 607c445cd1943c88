"""Facts of machines that are written down file by file, and of this one."""

import ast
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hwprune.backends.cpu import CpuBackend, facts

Machine = Callable[..., Path]
CPU = "sys/devices/system/cpu"
XEON = """processor\t: 0
vendor_id\t: GenuineIntel
cpu family\t: 6
model\t\t: 106
model name\t: Intel(R) Xeon(R) Platinum 8370C
stepping\t: 6
microcode\t: 0xd0003a5
cpu MHz\t\t: 2793.437
flags\t\t: fpu sse4_1 avx avx2 fma avx512f avx512_vnni{more}

processor\t: 1
model name\t: another one
"""
PI = """processor\t: 0
Features\t: fp asimd evtstrm crc32{more}
CPU implementer\t: 0x41
CPU architecture: 8
CPU part\t: 0xd0b
CPU revision\t: 1
"""
SOURCE = Path(facts.__file__)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """`machine({path: text}, "aarch64")`: the root of such a machine, of two processors."""

    def make(files: dict[str, str | bytes], architecture: str = "x86_64") -> Path:
        monkeypatch.setattr(facts.platform, "machine", lambda: architecture)
        monkeypatch.setattr(facts, "allowed_cpus", lambda: {0, 1})
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return tmp_path

    return make


def test_a_machine_is_its_processor_and_its_instruction_sets(machine: Machine) -> None:
    found = facts.identity(machine({"proc/cpuinfo": XEON.format(more="")}))
    assert found.pop("isa").isalnum()
    assert found == {
        "device": "Intel(R) Xeon(R) Platinum 8370C",
        "architecture": "x86_64",
        "vendor": "GenuineIntel",
        "family": "6",
        "model": "106",
        "stepping": "6",
        "simd": "avx avx2 avx512_vnni avx512f fma sse4_1",
        "int8": "vnni",
        "cores": "2",
    }


def test_another_instruction_set_is_another_machine(machine: Machine) -> None:
    one = facts.isa_digest(machine({"proc/cpuinfo": XEON.format(more="")}))
    assert facts.isa_digest(machine({"proc/cpuinfo": XEON.format(more=" amx_int8")})) != one


def test_a_board_lends_its_name_to_a_processor_without_one(machine: Machine) -> None:
    files = {"proc/cpuinfo": PI, "proc/device-tree/model": "Raspberry Pi 5 Model B Rev 1.0\0"}
    found = facts.identity(machine(files, "aarch64"))
    assert found["device"] == "Raspberry Pi 5 Model B Rev 1.0"
    assert (found["vendor"], found["model"], found["simd"]) == ("0x41", "0xd0b", "asimd")


@pytest.mark.parametrize(
    ("cpuinfo", "architecture", "products", "exact"),
    [
        (XEON.format(more=""), "x86_64", "vnni", True),
        (XEON.format(more=" amx_int8"), "x86_64", "amx", True),
        (XEON.replace("avx512_vnni{more}", "avx512bw"), "x86_64", "saturating", False),
        (PI.format(more=" asimddp"), "aarch64", "dot", True),
        (PI.format(more=" asimddp i8mm"), "aarch64", "i8mm", True),
        (PI.format(more=""), "aarch64", "widening", True),
        ("", "arm64", "unknown", True),
        ("", "x86_64", "unknown", False),
    ],
)
def test_how_bytes_are_multiplied(
    cpuinfo: str, architecture: str, products: str, exact: bool, machine: Machine
) -> None:
    root = machine({"proc/cpuinfo": cpuinfo}, architecture)
    assert facts.int8_products(root) == products
    assert facts.has_vnni(root) is exact


def test_two_threads_of_one_core_are_one_core(machine: Machine) -> None:
    siblings = {f"{CPU}/cpu{n}/topology/thread_siblings_list": "0-1\n" for n in (0, 1)}
    assert facts.physical_cores(machine(siblings)) == 1


@pytest.mark.parametrize(
    ("quota", "cores"), [("150000", 1), ("50000", 1), ("900000", 2), ("max", 2)]
)
def test_no_more_cores_are_used_than_the_quota_feeds(
    quota: str, cores: int, machine: Machine
) -> None:
    files = {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": f"{quota} 100000"}
    assert facts.usable_cores(machine(files)) == cores


def test_conditions_of_a_bare_server(machine: Machine) -> None:
    root = machine(
        {
            "proc/cpuinfo": XEON.format(more=""),
            "proc/loadavg": "2.50 1.00 0.50 3/200 4711\n",
            "proc/meminfo": "MemTotal:       16000000 kB\nMemAvailable:    8000000 kB\n",
            "proc/stat": f"cpu  9 9 9 9 9 9 9 {3 * os.sysconf('SC_CLK_TCK')} 0 0\ncpu0 1\n",
            f"{CPU}/smt/active": "1\n",
            f"{CPU}/intel_pstate/no_turbo": "0\n",
            f"{CPU}/cpu0/cpufreq/scaling_governor": "powersave\n",
            f"{CPU}/cpu0/cpufreq/scaling_cur_freq": "1200000\n",
            f"{CPU}/cpu1/cpufreq/scaling_cur_freq": "3400000\n",
            f"{CPU}/cpu0/thermal_throttle/core_throttle_count": "2\n",
            f"{CPU}/cpu1/thermal_throttle/core_throttle_count": "5\n",
            "sys/class/thermal/thermal_zone0/temp": "54321\n",
            "sys/class/hwmon/hwmon1/temp1_input": "61000\n",
            "sys/class/hwmon/hwmon1/temp2_input": "255000\n",
            "sys/fs/cgroup/cgroup.controllers": "cpu\n",
        }
    )
    found = facts.conditions(root)
    wanted = {
        "microcode": "0xd0003a5", "hypervisor": "none", "smt": "on", "governor": "powersave",
        "turbo": "on", "frequency_mhz": "3400", "throttled": "7", "temperature_c": "61",
        "quota_cpus": "none", "stolen_s": "3.00", "load": "2.5", "memory_mb": "16384",
        "memory_free_mb": "8192", "power": "unknown",
    }  # fmt: skip
    assert {name: found[name] for name in wanted} == wanted


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({"cpu.max": "150000 100000"}, "1.5"),
        ({"cpu.max": "max 100000"}, "none"),
        ({"unified/cpu.max": "50000 100000"}, "0.5"),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, "none"),
        ({"cpu/cpu.cfs_quota_us": "200000", "cpu/cpu.cfs_period_us": "100000"}, "2"),
        # The tightest of those around counts, seen from the inside or from the outside.
        ({"a/b/cpu.max": "max 100000", "a/cpu.max": "300000 100000"}, "3"),
        ({"cpu,cpuacct/a/b/cpu.cfs_quota_us": "1000"}, "none"),
        ({"cpu.max": "100000 0"}, "none"),
    ],
)
def test_quota_of_the_container(files: dict[str, str], quota: str, machine: Machine) -> None:
    group = {"proc/self/cgroup": "9:name=systemd:/\n3:cpu,cpuacct:/a/b\n0::/a/b\nnonsense\n"}
    mounted = {"sys/fs/cgroup/keep": ""} | {f"sys/fs/cgroup/{n}": t for n, t in files.items()}
    assert facts.quota_cpus(machine(group | mounted)) == quota


@pytest.mark.parametrize(
    ("supplies", "power"),
    [
        ({"BAT0": ("Battery", "status", "Discharging")}, "battery"),
        ({"AC": ("Mains", "online", "1"), "BAT0": ("Battery", "status", "Charging")}, "mains"),
        ({"AC": ("Mains", "online", "0")}, "unknown"),
        ({}, "unknown"),
    ],
)
def test_power(supplies: dict[str, tuple[str, str, str]], power: str, machine: Machine) -> None:
    files = {}
    for name, (kind, file, text) in supplies.items():
        files |= {
            f"sys/class/power_supply/{name}/{f}": t for f, t in (("type", kind), (file, text))
        }
    assert facts.power(machine(files)) == power


def test_the_battery_of_a_mouse_is_not_ours(machine: Machine) -> None:
    mouse = {"type": "Battery", "status": "Discharging", "scope": "Device"}
    root = machine({f"sys/class/power_supply/mouse/{name}": text for name, text in mouse.items()})
    assert facts.power(root) == "unknown"


@pytest.mark.parametrize(
    ("files", "kind"),
    [
        ({"sys/hypervisor/type": "xen"}, "xen"),
        ({"proc/cpuinfo": XEON.format(more=" hypervisor")}, "yes"),
        (
            {
                "proc/cpuinfo": XEON.format(more=" hypervisor"),
                "sys/class/dmi/id/sys_vendor": "Amazon EC2",
                "sys/class/dmi/id/product_name": "c6i.large",
            },
            "Amazon EC2 c6i.large",
        ),
        ({"proc/cpuinfo": XEON.format(more="")}, "none"),
        ({}, "unknown"),
    ],
)
def test_hypervisor(files: dict[str, str], kind: str, machine: Machine) -> None:
    assert facts.hypervisor(machine(files)) == kind


def test_turbo_is_found_in_either_place(machine: Machine) -> None:
    assert facts.turbo(machine({f"{CPU}/cpufreq/boost": "0"})) == "off"
    assert facts.turbo(machine({f"{CPU}/intel_pstate/no_turbo": "0"})) == "on"


def test_what_cannot_be_read_is_unknown(machine: Machine) -> None:
    known = {"os", "cpus"}
    found = facts.conditions(machine({}))
    assert {text for name, text in found.items() if name not in known} == {"unknown"}
    assert facts.identity(machine({}))["vendor"] == "unknown"


@pytest.mark.parametrize("nonsense", [b"\xff\x00\xfe", b"-- 1 2 : 3\n::\n", b"nan inf 1e999", b""])
def test_garbled_files_are_no_errors(nonsense: bytes, machine: Machine) -> None:
    files = (
        "proc/cpuinfo", "proc/loadavg", "proc/meminfo", "proc/stat", "proc/self/cgroup",
        f"{CPU}/smt/active", f"{CPU}/cpu0/cpufreq/scaling_cur_freq", f"{CPU}/cpufreq/boost",
        f"{CPU}/cpu0/thermal_throttle/core_throttle_count", "sys/fs/cgroup/cpu.max",
        "sys/class/thermal/thermal_zone0/temp", "sys/class/power_supply/BAT0/type",
        "sys/class/hwmon",
    )  # fmt: skip
    root = machine(dict.fromkeys(files, nonsense))
    everything = facts.identity(root) | facts.conditions(root)
    assert all(isinstance(text, str) and text for text in everything.values())
    assert "nan" not in everything.values()


def test_a_folder_where_a_file_should_be_is_no_error(machine: Machine) -> None:
    root = machine({"proc/cpuinfo/x": "", "proc/stat/x": "", "sys/fs/cgroup/cpu.max/x": ""})
    assert facts.identity(root)["vendor"] == facts.conditions(root)["stolen_s"] == "unknown"


def test_systems_without_affinity_have_all_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    assert facts.allowed_cpus() == {0, 1, 2}


def test_this_machine_has_cores_and_a_name() -> None:
    found = CpuBackend().identity()
    assert found.device
    assert 1 <= int(found.details["cores"]) <= len(facts.allowed_cpus())
    assert {"vendor", "simd", "isa", "provider", "threads"} <= set(found.details)
    assert CpuBackend().conditions()["os"]


def test_the_source_stands_alone_on_python_3_8() -> None:
    tree = ast.parse(SOURCE.read_text("utf-8"), feature_version=(3, 8))
    names = {a.name for node in ast.walk(tree) if isinstance(node, ast.Import) for a in node.names}
    names |= {str(n.module) for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    assert names <= sys.stdlib_module_names
