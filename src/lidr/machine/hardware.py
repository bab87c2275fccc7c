"""Accelerators by name, and the machine that this process runs on."""

from __future__ import annotations

import difflib
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from lidr.errors import ConfigError

GIB = 2**30


@dataclass(frozen=True, slots=True)
class Device:
    """One accelerator, or all cores of a machine.

    `tflops` is the peak of dense 16-bit matrix products with float32 sums. For a machine's cores it is what training
    reaches in the fast format: bfloat16 if `bf16`, else float32.
    """

    name: str
    memory_gib: float
    bandwidth: float  # GB/s
    tflops: float
    cores: int = 0  # 0 for a GPU
    bf16: bool = True

    @property
    def is_gpu(self) -> bool:
        return not self.cores

    def flops(self, bf16: bool) -> float:
        """FLOP/s of products in bfloat16, or in float32 if not `bf16`, which is slower on CPUs with fast bfloat16."""
        slow = self.cores and self.bf16 and not bf16
        return 1e12 * (self.cores * CORE_TFLOPS if slow else self.tflops)


@dataclass(frozen=True, slots=True)
class Hardware:
    """The hardware to plan a run for. `host_gib` and `disk_gib` are None for a machine that is known by name only."""

    count: int
    device: Device
    host_gib: float | None = None
    disk_gib: float | None = None

    @property
    def here(self) -> bool:
        """Whether it is this machine."""
        return self.host_gib is not None

    def __str__(self) -> str:
        return f"{self.count} x {self.device.name}" if self.device.is_gpu else self.device.name


# From the vendors' data sheets: memory in GB, bandwidth in GB/s, dense TFLOP/s (bfloat16, or float16 without bfloat16).
# The MI series is by AMD, all others by NVIDIA; of several forms the largest (SXM, OAM). On A10, L4 and T4 error
# correction takes a part of the memory.
_TABLE = {
    "A10-24GB": (22.4, 600, 125), "A100-40GB": (40, 1555, 312), "A100-80GB": (80, 2039, 312),
    "A6000-48GB": (48, 768, 155), "B200-192GB": (192, 8000, 2250), "GH200-96GB": (96, 4000, 990),
    "H100-80GB": (80, 3350, 990), "H200-141GB": (141, 4800, 990), "L4-24GB": (22.4, 300, 121),
    "L40S-48GB": (48, 864, 362),
    "MI210-64GB": (64, 1638, 181), "MI250X-128GB": (128, 3277, 383), "MI300X-192GB": (192, 5300, 1307),
    "RTX-3090-24GB": (24, 936, 71), "RTX-4090-24GB": (24, 1008, 165), "RTX-5090-32GB": (32, 1792, 210),
    "T4-16GB": (14.8, 300, 65), "V100-16GB": (16, 900, 125), "V100-32GB": (32, 900, 125),
}  # fmt: skip
_WITHOUT_BF16 = ("T4", "V100")
DEVICES = {
    # Drivers report a little less than the name says: 79.3 GiB for an H100 with 80 "GB".
    name: Device(name, 0.985 * gigabytes, bandwidth, tflops, bf16=not name.startswith(_WITHOUT_BF16))
    for name, (gigabytes, bandwidth, tflops) in _TABLE.items()
}

# Speed of one core. In float32, SmolLM2-135M on two cores with AVX-512: 126 GFLOP/s in training, and 0.06 s for a step
# of one sequence, which reads 0.54 GB. In bfloat16, a 0.5B model on two cores of an AMD EPYC of the fifth generation:
# 470 GFLOP/s in training; two cores with AMX reach 550 to 620 in large products alone, so less in training.
CORE_TFLOPS, CORE_TFLOPS_BF16, CORE_BANDWIDTH = 0.065, 0.2, 6.0


def parse_hardware(text: str) -> Hardware:
    """Hardware from a text such as `8xA100-80GB` or `RTX-4090-24GB`. Raises ConfigError with a similar name."""
    match = re.fullmatch(r"\s*(?:(\d+)\s*[x*]\s*)?(.+?)\s*", text)
    name = _plain(match[2]) if match else ""
    found = [key for key in DEVICES if name and _plain(key).startswith(name)]
    exact = [key for key in found if _plain(key) == name]
    if len(exact or found) == 1 and match and match[1] != "0":
        return Hardware(int(match[1] or 1), DEVICES[(exact or found)[0]])
    near = found or _near(name)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    raise ConfigError(f"--hardware {text}: {hint}Write it as 8xA100-80GB, with one of: {', '.join(DEVICES)}")


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _near(name: str) -> list[str]:
    plain = {_plain(key): key for key in DEVICES}
    return [plain[key] for key in difflib.get_close_matches(name, plain, n=1, cutoff=0.4)]


def this_machine(folder: Path, on_cpu: bool = False) -> Hardware:
    """The GPUs of this machine, or its cores if it has none or `on_cpu`; the disk is that of `folder`.

    This allocates nothing on a GPU.
    """
    import torch

    from lidr.machine.devices import has_fast_bfloat16

    host = machine_memory() / GIB
    there = next(path for path in (folder, *folder.resolve().parents) if path.exists())
    disk = shutil.disk_usage(there).free / GIB
    count = 0 if on_cpu else torch.cuda.device_count()
    if not count:
        cores = len(os.sched_getaffinity(0))
        name = f"this machine ({cores} CPU cores, {host:.0f} GiB)"
        bf16 = has_fast_bfloat16(torch.device("cpu"))
        tflops = cores * (CORE_TFLOPS_BF16 if bf16 else CORE_TFLOPS)
        device = Device(name, host, cores * CORE_BANDWIDTH, tflops, cores, bf16)
        return Hardware(1, device, host, disk)
    found = torch.cuda.get_device_properties(0)
    memory = found.total_memory / GIB
    like = _by_name(found.name, memory)
    return Hardware(count, Device(found.name, memory, like.bandwidth, like.tflops, bf16=like.bf16), host, disk)


def machine_memory() -> int:
    """Bytes of main memory that this process may use: those of the machine, or of its container (cgroup v2)."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = Path("/sys/fs/cgroup/memory.max")
    allowed = limit.read_text().strip() if limit.is_file() else "max"
    return min(physical, int(allowed)) if allowed.isdigit() else physical


def _by_name(name: str, memory_gib: float) -> Device:
    """The device of the table for a driver's name such as `NVIDIA A100-SXM4-80GB`; else one of the same size."""
    words = _plain(name)
    fits = [device for key, device in DEVICES.items() if _plain(key.rpartition("-")[0]) in words]
    return min(
        fits or DEVICES.values(),
        key=lambda device: (abs(device.memory_gib - memory_gib) > 4, -len(device.name), device.tflops),
    )
