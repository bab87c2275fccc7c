"""Whether this machine has what a recipe needs: packages and devices."""

from __future__ import annotations

from importlib.util import find_spec

from lidr.errors import ConfigError


def need_package(module: str, what: str, extra: str) -> None:
    """Raise ConfigError if a package is not installed."""
    if find_spec(module) is None:
        raise ConfigError(f'{what} needs the package {module}, which is not installed; pip install "lidr[{extra}]"')


def check_device(field: str, name: str) -> None:
    """Raise ConfigError for a torch device that this machine does not have."""
    if name == "auto" or name.startswith("cpu"):
        return
    import torch

    kind, _, number = name.partition(":")
    if kind == "cuda":  # counted, because opening a device takes memory
        count = torch.cuda.device_count()
        has = f"this machine has {count} for torch" if count else "torch finds none on this machine"
        if int(number or 0) >= count:
            raise ConfigError(f"{field} {name}: no such GPU, {has}; use auto, or cpu")
        return
    try:
        torch.empty(0, device=name)
    except Exception as error:  # each kind of device raises different errors
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(f"{field} {name}: not on this machine ({reason}); use auto, or cpu") from None
