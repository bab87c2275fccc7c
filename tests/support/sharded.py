"""Run by test_training under torchrun: a model sharded by FSDP2 gives the whole one's values and gradients."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from transformers import AutoModelForCausalLM

from lidr.lab import MODEL_PATH
from lidr.likelihood.forward import PairForward
from tests.likelihood.test_packing import random_pairs


def main() -> None:
    dist.init_process_group("gloo")
    pairs = random_pairs()
    outcomes = []
    for sharded in (False, True):
        model = AutoModelForCausalLM.from_pretrained(MODEL_PATH, dtype=torch.float32).train()
        forward = PairForward(model, packed=True, recompute_above=0)
        if sharded:
            mesh = init_device_mesh("cpu", (dist.get_world_size(),))
            for layer in model.base_model.layers:
                fully_shard(layer, mesh=mesh)
            fully_shard(model, mesh=mesh)
        logps = model(**forward.collate(pairs, with_rejected=True))
        (logps * torch.linspace(-1, 1, len(logps))).sum().backward()
        gradients = [parameter.grad for parameter in model.parameters()]
        full = [grad.full_tensor() if sharded else grad for grad in gradients]  # type: ignore[union-attr]
        outcomes.append((logps.detach(), full))
    (whole, whole_gradients), (logps, gradients) = outcomes
    assert torch.allclose(whole, logps, atol=1e-4)
    assert all(torch.allclose(a, b, atol=1e-4) for a, b in zip(whole_gradients, gradients, strict=True))
    print("sharded equals whole")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
