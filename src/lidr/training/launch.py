"""Start the training processes: this one alone, torchrun, accelerate with a configuration, or a command of your own."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

from lidr.config import Config, TrainingConfig
from lidr.credentials import expand
from lidr.errors import ConfigError, RunError
from lidr.run_dir import RunDir
from lidr.system_errors import writing


def run_workers(task: str, config: Config, run_dir: RunDir, iteration: int) -> None:
    """Run a task of `lidr.training.worker` in this process or in several, as the recipe says. Raises RunError."""
    command = command_line(task, config.training, _visible_gpus(config))
    if command is None:
        from lidr.training import worker

        with writing(run_dir.iteration(iteration)):
            getattr(worker, task)(config, run_dir, iteration)
        return
    command += ["-m", "lidr.training.worker", task, str(run_dir.path.resolve()), str(iteration)]
    environment = os.environ | {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", _threads(config))}
    descriptors = [run_dir.lock_descriptor] if run_dir.lock_descriptor is not None else []
    code = subprocess.run(command, env=environment, pass_fds=descriptors).returncode
    if code:
        raise RunError(f"the training processes ended with exit code {code}; their message is above")


def command_line(task: str, training: TrainingConfig, gpus: int) -> list[str] | None:
    """The command that starts the processes, without Python's arguments; None if this process is the only one.

    The reference pass holds the whole model in every process, so it runs on this machine, never sharded.
    """
    processes = training.num_processes or max(1, gpus)
    if training.launch and task == "train":
        return launch_command(training.launch)
    if training.distributed != "ddp" and task == "train":
        configuration = accelerate_configuration(training.distributed)
        launch = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(configuration)]
        return [*launch, "--num_processes", str(processes)]
    if processes == 1:
        return None
    return [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]


def check_trackers(training: TrainingConfig) -> None:
    """Raises ConfigError for a tracker whose package is not installed."""
    for tracker in training.report_to:
        if find_spec(tracker) is None:
            raise ConfigError(f"training.report_to {tracker}: not installed; `pip install {tracker}`")


def launch_command(launch: str) -> list[str]:
    """The words of `training.launch` with environment variables filled in. Raises ConfigError."""
    try:
        command = shlex.split(expand(launch))
    except KeyError as error:
        message = f"training.launch: the environment variable {error.args[0]} is not set; export it first"
        raise ConfigError(message) from None
    except ValueError as error:
        raise ConfigError(f"training.launch is no command line: {error}") from None
    if not command or shutil.which(command[0]) is None:
        raise ConfigError(f"training.launch: there is no command {' '.join(command[:1])}; install it, or correct it")
    return command


def accelerate_configuration(name: str) -> Path:
    """A shipped accelerate configuration by its name, or the file at that path. Raises ConfigError for other names."""
    shipped = {path.stem: path for path in (Path(str(files("lidr"))) / "recipes" / "accelerate").glob("*.yaml")}
    path = shipped.get(name, Path(name))
    if not path.is_file():
        raise ConfigError(f"training.distributed {name}: neither ddp, {', '.join(sorted(shipped))} nor a file")
    return path


def _visible_gpus(config: Config) -> int:
    if config.device == "cpu" or config.training.num_processes:
        return 0
    import torch

    return torch.cuda.device_count()


def _threads(config: Config) -> str:
    """CPU threads of each process: together the processes use every core once."""
    return str(max(1, len(os.sched_getaffinity(0)) // (config.training.num_processes or 1)))
