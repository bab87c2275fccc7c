"""Several engines, each in a worker of its own, on a Ray cluster."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import ClassVar

from pydantic import Field, model_validator

from lidr.config import EngineConfig
from lidr.engines.base import Engine, EnginePlugin, plugin_of
from lidr.engines.memory import EngineUse, Need
from lidr.machine.hardware import Hardware
from lidr.machine.requirements import need_package
from lidr.models.architecture import Architecture
from lidr.plugins import built_in, load
from lidr.records import Json
from lidr.settings import NonNegativeFloat, PositiveInt


class Ray(EnginePlugin):
    """Several engines, each in a worker of its own, on a Ray cluster (`lidr[ray]`)."""

    can_score: ClassVar[bool] = True
    writes_user_turns: ClassVar[bool] = True

    worker: EngineConfig = Field(default="transformers")  # type: ignore[assignment]
    """The engine of every worker, one that holds the weights itself."""
    workers: PositiveInt | None = None
    """How many; null takes as many as the cluster has room for."""
    gpus_per_worker: NonNegativeFloat | None = None
    """GPUs of each worker, or a share of one; null is 1 if the cluster has GPUs (for vLLM: what its parallel sizes
    need), else 0."""
    cpus_per_worker: PositiveInt = 1
    """CPU cores of each worker."""
    address: str | None = None
    """Of a running cluster: `auto` on one of its nodes, or `HOST:PORT`; null starts Ray on this machine. Every node
    needs lidr, and model folders under the same path."""

    @model_validator(mode="after")
    def _consistent(self) -> Ray:
        if not plugin_of(self.worker).in_cluster:
            able = [name for name in built_in("engines") if getattr(load("engines", name)[0], "in_cluster", False)]
            raise ValueError(f"worker: use {' or '.join(able)}")
        if self.address and self.address.startswith("ray://"):
            raise ValueError("ray:// cannot stream answers; run lidr on a node of the cluster, with address: auto")
        if self.gpus_per_worker and self.gpus_per_worker > 1 and self.gpus_per_worker % 1:
            raise ValueError("gpus_per_worker is a share of one GPU, or a whole number of them")
        if ":" in self.worker.torch_device():
            raise ValueError("Ray gives each worker GPUs of its own; leave worker.device at auto")
        return self

    def open(self, model: str, trust_remote_code: bool) -> Engine:
        from lidr.engines.ray.engine import RayEngine

        return RayEngine(self, partial(plugin_of(self.worker).open, model, trust_remote_code))

    def torch_device(self) -> str:
        return self.worker.torch_device()

    def identity(self) -> Json:
        return self.worker.identity()

    def check_trainable(self) -> None:
        self.worker.check_trainable()

    def check(self, field: str) -> None:
        need_package("ray", f"{field}.type ray", "ray")
        if not self.worker.torch_device().startswith("cuda"):  # only other nodes may have GPUs
            plugin_of(self.worker).check(f"{field}.worker")

    def loads_as(self, stored: str) -> tuple[str, str | None]:
        return plugin_of(self.worker).loads_as(stored)

    def fixes(self, use: EngineUse, hardware: Hardware) -> Iterator[tuple[str, EnginePlugin]]:
        for workers in range(use.replicas - 1, 0, -1):
            yield f"workers={workers}", self.model_copy(update={"workers": workers})

    def use(self, shape: Architecture, hardware: Hardware, longest: float, mean: float) -> EngineUse:
        """Workers on one machine; those on one device share its speed, and their memory is added."""
        worker, device = plugin_of(self.worker).use(shape, hardware, longest, mean), hardware.device
        each: float = self.cpus_per_worker
        if device.is_gpu:
            each = worker.devices * worker.replicas if self.gpus_per_worker is None else self.gpus_per_worker
        part = (each if device.is_gpu else each / device.cores) or 1.0  # of a device per worker
        room = int(hardware.count / part + 1e-6)
        workers = self.workers or max(1, room)
        together = min(workers, max(1, int(1 / part + 1e-6)))
        need, problem = Need(worker.need.gib * together, worker.need.parts), worker.problem
        if not self.address and workers > room:
            problem = (
                f"{workers} workers of {each:g} {'GPUs' if device.is_gpu else 'CPU cores'}, there is room for {room}"
            )
        elif not problem and (too_big := need.too_big(device)):
            problem = f"in {together} workers {too_big}"
        replicas, share = workers * worker.replicas, min(1.0, part)
        return replace(worker, need=need, replicas=replicas, share=share, spreads=True, problem=problem)
