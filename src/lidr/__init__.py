"""lidr: a language model's best language teaches its other languages (arXiv 2410.08964).

The names below are the public interface; `lidr run quickstart` is the shortest way in, `lidr/loop.py` the method.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_PUBLIC = {
    "Config": "lidr.config",
    "load_config": "lidr.config",
    "RunDir": "lidr.run_dir",
    "open_run": "lidr.replacing",
    "run": "lidr.loop",
    "Prompt": "lidr.records",
    "Response": "lidr.records",
    "Translation": "lidr.records",
    "PreferencePair": "lidr.records",
    "Dropped": "lidr.records",
    "Request": "lidr.engines",
    "Sampling": "lidr.engines",
    "Completion": "lidr.engines",
    "open_engine": "lidr.engines",
    "dpo_nll_loss": "lidr.training.loss",
    "LidrError": "lidr.errors",
}
__all__ = list(_PUBLIC)


def __getattr__(name: str) -> Any:
    """Import on first use, so that `lidr --help` need not load torch or pydantic."""
    if name not in _PUBLIC:
        raise AttributeError(f"module 'lidr' has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)
