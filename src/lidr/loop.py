"""Language Imbalance Driven Rewarding: the method on one page.

    Yang, Wu, Wang, Zong, Zhang: "Language Imbalance Driven Rewarding for Multilingual Self-improving", ICLR 2025,
    arXiv 2410.08964.

One iteration makes M_{t+1} from M_t: the model answers every prompt in every language, translates its own answers
between the dominant language d and the others, and is trained with DPO + NLL to prefer the translated dominant answer
to its direct answer (and, in d, its own answer to what comes back from the others). The imbalance is the reward.

Where we depart from the paper, and why:

 1. Failed translations are first repeated paragraph by paragraph: dropping them would throw the long answers away.
 2. A failed translation costs the pair that needs it, not the prompt in both languages: the two are independent.
 3. The dominant language's rejected answers come from one other language per prompt, in rotation; the released code
    uses the last language only. Answers that no pair needs are not translated back (`pairs.dominant_rejected`).
 4. Pairs pass gates (language, loops, truncation ...), every drop counted under one reason. Prompts that ask for a
    translation are dropped by default (`translation_tasks: keep_source` is the paper's way).
"""

from __future__ import annotations

import os
import subprocess
import sys

from lidr.cards import write_trained_card
from lidr.config import Config
from lidr.errors import RunError
from lidr.preflight import check_owed
from lidr.replacing import check_stage
from lidr.report import page
from lidr.report.terminal import print_evaluation, print_iteration, print_probe
from lidr.run_dir import LOCK_OWNER, RunDir
from lidr.seals import is_sealed, stale_because
from lidr.stages import STAGES, probe
from lidr.stages.results import write_results
from lidr.stages.shortage import TooFewPairsError, check_pairs

COMMANDS = {
    "probe": "probe", "responses": "respond", "translations": "translate", "scores": "score", "training": "train",
    "evaluation": "evaluate",
}  # fmt: skip


def run(config: Config, run_dir: RunDir) -> None:
    """All iterations, from wherever an earlier attempt stopped; at the end the report.

    An iteration with too few pairs ends the run with the model before it. Raises TooFewPairsError if that is M_0.
    """
    too_few: TooFewPairsError | None = None
    with run_dir.lock() as lock:
        check_owed(config, run_dir)
        if not config.iterations:
            step("evaluation", config, run_dir, 0, lock)
            for model in write_results(config, run_dir).models:
                print_evaluation(config, config.name, model)
        if config.probe:
            step("probe", config, run_dir, 0, lock)
            print_probe(config, run_dir)
            config = probe.conclude(config, run_dir)
        for iteration in range(1, config.iterations + 1):
            step("prompts", config, run_dir, iteration, lock)
            if iteration == 1:
                step("evaluation", config, run_dir, 0, lock)
            step("responses", config, run_dir, iteration, lock)
            step("translations", config, run_dir, iteration, lock)
            step("scores", config, run_dir, iteration, lock)  # if the strategy needs log-probabilities
            step("pairs", config, run_dir, iteration, lock)
            try:
                step("training", config, run_dir, iteration, lock)
            except TooFewPairsError as error:
                too_few = error
                print_iteration(config, write_results(config, run_dir), iteration)
                break
            step("evaluation", config, run_dir, iteration, lock)
            step("probe", config, run_dir, iteration, lock)
            print_iteration(config, write_results(config, run_dir), iteration)
            if probe.says_stop(run_dir, iteration):  # the stop rule, if the recipe has it
                break
        if page.is_outdated(run_dir):
            page.run(config, run_dir)
        if too_few and iteration == 1:
            raise too_few
        if too_few:
            print(f"{too_few}\nthe run ends with M{iteration - 1}", file=sys.stderr)


def step(stage: str, config: Config, run_dir: RunDir, iteration: int, lock: int) -> bool:
    """Run one stage, a GPU stage in a process of its own; False if its output is complete for these inputs."""
    outputs = STAGES[stage].outputs(config, run_dir, iteration)
    if all(is_sealed(path, inputs) for path, inputs in outputs):
        if stage == "training":
            write_trained_card(config, run_dir, iteration)
        return False
    check_stage(stage, config, run_dir, iteration, outputs)
    if stage == "training":
        check_pairs(config, run_dir, iteration)
    if stage in COMMANDS and in_process(config):
        command = [sys.executable, "-m", "lidr", COMMANDS[stage], str(run_dir.path), "--iteration", str(iteration)]
        environment = os.environ | {LOCK_OWNER: f"{lock}:{run_dir.path.resolve()}"}
        code = subprocess.run(command, env=environment, pass_fds=[lock]).returncode
        if code:
            kind = TooFewPairsError if code == TooFewPairsError.exit_code else RunError
            raise kind(f"stage {stage} of iteration {iteration} ended with exit code {code}; its message is above")
        return True
    reasons = sorted({reason for path, inputs in outputs for reason in stale_because(path, inputs)})
    if reasons:
        print(f"iteration {iteration}  {stage}: regenerated because {'; '.join(reasons)}", file=sys.stderr)
        run_dir.log("recompute", iteration=iteration, stage=stage, reasons=reasons)
    STAGES[stage].run(config, run_dir, iteration)
    if stage == "training":
        write_trained_card(config, run_dir, iteration)
    return True


def in_process(config: Config) -> bool:
    """Whether GPU stages get a process of their own, which gives their memory back and contains a crash."""
    if config.isolation != "auto":
        return config.isolation == "process"
    return config.device.startswith("cuda") or (config.device == "auto" and os.path.exists("/dev/nvidia0"))
