"""torchrun on every node of a running Ray cluster: `training.launch: python -m lidr.training.on_ray`.

Ray only finds the nodes and starts one torchrun on each; the training is the same as without Ray. The command line
says what torchrun runs. Each GPU of the cluster gets a process; without GPUs each node gets one.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from lidr.machine.torch_environment import TORCH_ENVIRONMENT

STOP_S = 60.0  # torchrun may take so long to end; it gives its processes 30 s


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("", 0))
        return int(listener.getsockname()[1])


def torchrun(arguments: list[str], folder: str, threads: int) -> int:
    """Run torchrun on this node until it ends or the task is cancelled; returns its exit code."""
    environment = TORCH_ENVIRONMENT | os.environ | {"OMP_NUM_THREADS": str(max(1, threads))}
    command = [sys.executable, "-m", "torch.distributed.run", *arguments]
    process = subprocess.Popen(command, cwd=folder, env=environment)
    try:
        while (code := process.poll()) is None:
            time.sleep(0.2)  # Ray cannot cancel a task inside `process.wait`
        return code
    finally:
        process.terminate()  # kill would leave its child processes running
        process.wait()


def main() -> None:
    """See the module's docstring. Exits with the code of the first torchrun that fails."""
    ray.init(address=os.environ.get("RAY_ADDRESS", "auto"), logging_level="ERROR")
    nodes = [node for node in ray.nodes() if node["Alive"]]
    nodes = [node for node in nodes if node["Resources"].get("GPU")] or nodes
    head = nodes[0]["NodeManagerAddress"]
    port = ray.get(_start(nodes[0], free_port))
    print(f"torchrun on {len(nodes)} nodes of the Ray cluster, as soon as nothing else uses them", file=sys.stderr)
    tasks = []
    for rank, node in enumerate(nodes):
        cpus, gpus = (int(node["Resources"].get(name, 0)) for name in ("CPU", "GPU"))
        place = ["--nnodes", len(nodes), "--node_rank", rank, "--master_addr", head, "--master_port", port]
        arguments = [*map(str, place), "--nproc_per_node", str(gpus or 1), *sys.argv[1:]]
        threads = cpus // (gpus or 1)
        # The task takes the whole node, so that nothing else runs there.
        tasks.append(_start(node, torchrun, arguments, os.getcwd(), threads, num_cpus=cpus, num_gpus=gpus))
    try:
        while tasks:
            ready, tasks = ray.wait(tasks)
            if code := ray.get(ready[0]):
                sys.exit(code)
    finally:
        for task in tasks:
            ray.cancel(task)
        if tasks:
            ray.wait(tasks, num_returns=len(tasks), timeout=STOP_S)


def _start(
    node: Mapping[str, object], function: Callable[..., object], *arguments: object, **needs: float
) -> ray.ObjectRef:
    """Start a function as a task on a node of the cluster."""
    strategy = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
    options = {"num_cpus": 0, "max_retries": 0, "scheduling_strategy": strategy} | needs
    return ray.remote(function).options(**options).remote(*arguments)


if __name__ == "__main__":
    main()
