"""Resources that a process may use, read from files of the kernel."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest

from batch.machine.cgroup import read_limits
from batch.machine.cores import allowed_cores, usable_cores
from batch.machine.cpu import ENVIRONMENT, cpu_features, free_memory_bytes, processor_class
from batch.machine.device import Device, cuda_problem, gpu_model
from schemas.errors import DeviceError

GB = 10**9


def tree(root: Path, files: dict[str, str]) -> Path:
    """A tree of kernel files by path."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content + "\n", encoding="ascii")
    return root


CORES = {
    "no groups at all": ({}, None),
    "version 2, unlimited": (
        {"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "max 100000"},
        None,
    ),
    "version 2 in a container": (
        {"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "150000 100000"},
        1.5,
    ),
    "version 2, a tighter group around it": (
        {
            "proc/self/cgroup": "0::/pod/job",
            "sys/fs/cgroup/pod/job/cpu.max": "400000 100000",
            "sys/fs/cgroup/pod/cpu.max": "50000 100000",
        },
        0.5,
    ),
    "version 1 in a container that sees the host's path": (
        {
            "proc/self/cgroup": "4:cpu,cpuacct:/docker/0123\n1:name=systemd:/",
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "100000",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "50000",
        },
        2.0,
    ),
    "version 1, unlimited": (
        {
            "proc/self/cgroup": "1:cpu:/",
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
        },
        None,
    ),
}


@pytest.mark.parametrize(("files", "cores"), CORES.values(), ids=CORES)
def test_the_quota_of_the_container_is_read(
    tmp_path: Path, files: dict[str, str], cores: float | None
) -> None:
    """From both cgroup versions; the tightest limit of the enclosing groups applies."""
    root = tree(tmp_path, files)
    expected = allowed_cores() if cores is None else min(allowed_cores(), math.ceil(cores))

    assert read_limits(root).cores == cores
    assert usable_cores(root) == expected


def test_cores_follow_the_affinity() -> None:
    """A process that may run on one core has one usable core."""
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        found = usable_cores()
    finally:
        os.sched_setaffinity(0, before)

    assert found == 1


MEMORY = {
    "version 2": {
        "proc/self/cgroup": "0::/job",
        "sys/fs/cgroup/job/memory.max": str(2 * GB),
        "sys/fs/cgroup/job/memory.current": str(GB),
        "sys/fs/cgroup/job/memory.stat": f"anon 5\ninactive_file {GB // 2}",
        "sys/fs/cgroup/memory.max": "max",
    },
    "version 1": {
        "proc/self/cgroup": "4:memory:/job",
        "sys/fs/cgroup/memory/job/memory.limit_in_bytes": str(2 * GB),
        "sys/fs/cgroup/memory/job/memory.usage_in_bytes": str(GB),
        "sys/fs/cgroup/memory/job/memory.stat": f"cache 7\ntotal_inactive_file {GB // 2}",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712",
    },
}


@pytest.mark.parametrize("files", MEMORY.values(), ids=MEMORY)
def test_the_memory_of_the_container_is_read(tmp_path: Path, files: dict[str, str]) -> None:
    """The limit and the free memory below it; file cache counts as available."""
    meminfo = {"proc/meminfo": f"MemTotal: 99 kB\nMemAvailable: {8 * GB // 1024} kB"}
    root = tree(tmp_path, {**files, **meminfo})
    limits = read_limits(root)

    assert (limits.memory_bytes, limits.memory_free_bytes) == (2 * GB, 3 * GB // 2)
    assert free_memory_bytes(root) == 3 * GB // 2


def test_free_memory_without_a_container_is_that_of_the_machine(tmp_path: Path) -> None:
    """It is unknown if the kernel does not report it."""
    assert free_memory_bytes(tmp_path) is None

    tree(tmp_path, {"proc/meminfo": "MemTotal: 9 kB\nMemAvailable:    4 kB"})
    assert free_memory_bytes(tmp_path) == 4096


@pytest.mark.parametrize(
    ("cpuinfo", "expected"),
    [
        ("processor : 0\nflags\t\t: sse2 avx2 avx512_vnni amx_int8 fma\n", 3),
        ("processor : 0\nFeatures\t: fp asimd asimddp bf16 i8mm\n", 4),
        ("processor : 0\nmodel name : one that says nothing\n", 0),
    ],
    ids=["x86", "ARM", "neither"],
)
def test_processor_features_are_listed(tmp_path: Path, cpuinfo: str, expected: int) -> None:
    """Those that engines have code for, on x86 and ARM."""
    root = tree(tmp_path, {"proc/cpuinfo": cpuinfo})

    assert len(cpu_features(root)) == expected
    assert ("AVX-512 VNNI" in cpu_features(root)) == ("avx512_vnni" in cpuinfo)


X86 = """processor : 0
vendor_id : GenuineIntel
cpu family : 6
model : 207
model name : Intel(R) Xeon(R) Processor
stepping : 2
microcode : 0x1
cpu MHz : 2100.000
flags : fpu sse2 avx2 avx512f smep ibrs flush_l1d
bugs : spectre_v1
"""
ARM = """processor : 0
Features : fp asimd sve
CPU implementer : 0x41
CPU part : 0xd40
processor : 1
Features : fp asimd sve
CPU implementer : 0x41
CPU part : 0xd46
"""


def class_of(root: Path, cpuinfo: str, **environment: str) -> str:
    """The class of a processor by its /proc/cpuinfo."""
    return processor_class(tree(root, {"proc/cpuinfo": cpuinfo}), environment)


@pytest.mark.parametrize(
    "change",
    [
        ("Xeon(R) Processor", "Xeon(R) Gold 6430"),
        ("ibrs flush_l1d", "ibrs_enhanced"),
        ("2100.000", "3000.000"),
        ("0x1", "0x2b000603"),
        ("spectre_v1", "spectre_v1 bhi"),
        ("avx2 avx512f", "avx512f avx2"),
    ],
    ids=str,
)
def test_a_processor_class_ignores_updates_and_names(
    tmp_path: Path, change: tuple[str, str]
) -> None:
    """Mitigations, microcode, clock and model name do not affect which code runs."""
    assert class_of(tmp_path, X86) == class_of(tmp_path, X86.replace(*change))


@pytest.mark.parametrize(
    "change",
    [("model : 207", "model : 106"), ("GenuineIntel", "AuthenticAMD"), (" avx512f", "")],
    ids=str,
)
def test_another_design_is_another_class(tmp_path: Path, change: tuple[str, str]) -> None:
    """By vendor, by model, and by vector instructions that a virtual machine hides."""
    assert class_of(tmp_path, X86) != class_of(tmp_path, X86.replace(*change))


def test_an_arm_class_has_all_kinds_of_cores(tmp_path: Path) -> None:
    """A thread may run on any of them."""
    found = class_of(tmp_path, ARM)

    assert "CPU part 0xd40,0xd46" in found
    assert found.endswith("asimd sve")


@pytest.mark.parametrize("name", ENVIRONMENT)
def test_variables_that_choose_code_are_part_of_the_class(tmp_path: Path, name: str) -> None:
    """An empty variable is ignored, and so are all others."""
    plain = class_of(tmp_path, X86)

    assert class_of(tmp_path, X86, **{name: "AVX2"}) == f"{plain}; {name}=AVX2"
    assert class_of(tmp_path, X86, **{name: ""}, PATH="/bin", ONEDNN_VERBOSE="1") == plain


def test_this_processor_has_a_class_without_cpuinfo(tmp_path: Path) -> None:
    """As outside of Linux."""
    assert processor_class(tmp_path, {})


def test_a_gpu_has_a_model_and_a_cpu_has_none() -> None:
    """Its name and compute capability, or an error that names the cause."""
    assert gpu_model(Device("cpu", 0, "test")) is None
    if cuda_problem() is None:
        assert "compute capability" in str(gpu_model(Device("cuda", 0, "test")))
    else:
        with pytest.raises(DeviceError, match="cuda:99: its model cannot be read"):
            gpu_model(Device("cuda", 99, "test"))
