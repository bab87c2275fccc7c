"""The embedded laboratory: a small world in six languages, and a small model that knows it unevenly."""

from pathlib import Path

MODEL_PATH = Path(__file__).parent / "model"
