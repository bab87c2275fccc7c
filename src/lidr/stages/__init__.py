"""The steps of an iteration in their order, one file each: `inputs`, `outputs` and `run`."""

from __future__ import annotations

from types import ModuleType

from lidr.stages import evaluation, pairs, probe, prompts, responses, scores, training, translations

STAGES: dict[str, ModuleType] = {
    "prompts": prompts,
    "responses": responses,
    "translations": translations,
    "scores": scores,
    "pairs": pairs,
    "training": training,
    "evaluation": evaluation,
    "probe": probe,
}
