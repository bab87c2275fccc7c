"""The embedded laboratory: a small world in six languages, and a small model with uneven knowledge of it."""

from pathlib import Path

MODEL_PATH = Path(__file__).parent / "model"
