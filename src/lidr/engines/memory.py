"""An engine's use of the hardware, as `lidr plan` counts it."""

from __future__ import annotations

from dataclasses import dataclass

from lidr.machine.hardware import GIB, Device

NF4_BYTES = 0.516  # per parameter, with its doubly quantised scales
# Memory besides the tensors: CUDA's context and kernels, or Python with its libraries (0.44 GiB measured).
_PROCESS_GIB = {True: 1.2, False: 0.45}
# Memory that allocators lose between tensors. On a CPU it was 0.4 of 3.0 GiB (docs/performance.md).
_FRAGMENTATION = {True: 1.05, False: 1.12}


@dataclass(frozen=True, slots=True)
class Need:
    """GiB on each device, and their purposes."""

    gib: float
    parts: dict[str, float]

    @classmethod
    def of(cls, parts: dict[str, float], device: Device, processes: int = 1) -> Need:
        """Made from bytes; the needs of processes that share a device are added."""
        gib = {name: size / GIB for name, size in parts.items() if size}
        gib["fragmentation"] = (_FRAGMENTATION[device.is_gpu] - 1) * sum(gib.values())
        gib["process"] = _PROCESS_GIB[device.is_gpu]
        return cls(processes * sum(gib.values()), {name: round(size, 2) for name, size in gib.items()})

    def too_big(self, device: Device) -> str:
        """A message if it is more than the device has; empty if it fits."""
        fits = self.gib <= device.memory_gib
        return "" if fits else f"needs {self.gib:.1f} GiB of {device.memory_gib:.1f}"


@dataclass(frozen=True, slots=True)
class EngineUse:
    """How an engine uses the hardware, and its speed.

    Each of `replicas` answers `rows` at a time on `devices` devices, of which it has `share`. `spreads` says that it
    takes all devices by itself. On a GPU, a step of decoding uses `bandwidth_share` of the hardware's bandwidth and
    takes `step_s` more; starting takes `start_s`.
    """

    need: Need
    rows: int
    replicas: int = 1
    devices: int = 1
    share: float = 1.0
    spreads: bool = False
    is_remote: bool = False
    problem: str = ""
    wanted_rows: int = 0
    width: float = 0.0
    weight_bytes: float = 2.0  # that a step reads per parameter
    bandwidth_share: float = 0.6
    step_s: float = 0.025
    start_s: float = 10.0
