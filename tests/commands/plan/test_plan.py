"""`lidr plan`: it counts as the loop does, its memory is the one that was measured, and what it proposes fits."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import fsspec
import pytest
from typer.testing import CliRunner

from lidr.cli import app
from lidr.commands.plan.afterwards import compare_with_log
from lidr.commands.plan.fixes import engine_fix, training_fix
from lidr.commands.plan.lengths import Lengths
from lidr.commands.plan.memory import engine_use, training_need
from lidr.commands.plan.plan import Plan, Step, make_plan
from lidr.commands.plan.previous import Earlier
from lidr.commands.plan.show import print_measured, print_plan
from lidr.commands.plan.speed import generation_seconds, reference_seconds, training_seconds
from lidr.commands.plan.work import Load, Work, count_prompts
from lidr.config import Config, LoraSection, ModelConfig, load_config
from lidr.engines.base import Completion, Request, Sampling
from lidr.engines.ray import Ray
from lidr.engines.transformers import Transformers
from lidr.engines.vllm import Vllm
from lidr.errors import ConfigError
from lidr.lab import MODEL_PATH
from lidr.machine.hardware import Device, Hardware, parse_hardware, this_machine
from lidr.models import find_model
from lidr.models.architecture import Architecture, find_architecture, measure, weights_on_disk
from lidr.run_dir import RunDir
from lidr.storage import hash_file
from tests.conftest import ToyEngine, ToyRun, make_config

LLAMA, QWEN, SMOLLM = "meta-llama/Meta-Llama-3-8B-Instruct", "Qwen/Qwen2-7B-Instruct", "x/SmolLM2-135M-Instruct"
TWO_CORES = Hardware(1, Device("2 cores", 16, 12, 0.13, cores=2, bf16=False), host_gib=16, disk_gib=100)


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test asks the Hub, whatever its cache holds."""

    def refuse(model: ModelConfig, weights: bool) -> Path:
        raise ConnectionError(f"no Hub for {model.path}")

    monkeypatch.setattr("lidr.models._from_hub", refuse)


def shape_of(path: str) -> Architecture:
    return find_architecture(ModelConfig(path=path))[0]


def quickstart(*overrides: str) -> Config:
    return load_config("quickstart", ["prompts.limit=30", *overrides])


def step(plan: Plan, name: str, iteration: int = 1) -> Step:
    return next(step for step in plan.steps if step.name == name and iteration in step.iterations)


def plan_for(recipe: str, hardware: str, tmp_path: Path, *overrides: str) -> Plan:
    return make_plan(load_config(recipe, list(overrides)), parse_hardware(hardware), tmp_path / "run")


# --- shapes -----------------------------------------------------------------------------------------------------------


def test_parameters_are_those_of_the_models() -> None:
    llama, qwen = shape_of(LLAMA), shape_of(QWEN)
    assert (llama.parameters, qwen.parameters) == (8_030_261_248, 7_615_616_512)
    assert shape_of(SMOLLM).parameters == 134_515_008  # tied embeddings count once
    assert llama.kv_numbers == 2 * 32 * 8 * 128
    assert llama.active == llama.parameters


def test_the_laboratory_is_counted_like_its_weights() -> None:
    from safetensors import safe_open

    with safe_open(MODEL_PATH / "model.safetensors", "pt") as weights:
        names = list(weights.keys())
        stored = sum(weights.get_tensor(name).numel() for name in names if name != "lm_head.weight")
    assert shape_of("lab").parameters == stored


def test_a_mixture_of_experts_has_fewer_active_parameters() -> None:
    from transformers import MixtralConfig

    small = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "vocab_size": 100}
    shape = measure("moe", MixtralConfig(**small, num_attention_heads=4, num_key_value_heads=2))
    of_an_expert = 3 * 64 * 96
    assert shape.parameters - shape.active == 2 * (8 - 2) * of_an_expert


def test_an_adapter_is_as_large_as_in_peft() -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoConfig, AutoModelForCausalLM

    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(MODEL_PATH))
    for targets in ("all-linear", ["q_proj", "down_proj"]):
        lora = LoraSection(rank=4, targets=targets)
        adapted = get_peft_model(model, LoraConfig(r=4, target_modules=targets, task_type="CAUSAL_LM"))
        trained = sum(weight.numel() for weight in adapted.parameters() if weight.requires_grad)
        assert shape_of("lab").adapter_parameters(lora) == trained
        model = adapted.unload()


def test_an_unknown_model_without_the_hub_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no Hub for some/model.*config\.json into a folder"):
        shape_of("some/model")
    with pytest.raises(ConfigError, match=r"has no config\.json"):
        shape_of(str(tmp_path))


def test_what_a_run_takes_is_found_without_its_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    lab = shape_of("lab")
    shutil.copytree(MODEL_PATH, tmp_path / "mine")
    assert find_architecture(ModelConfig(path="~/mine"))[:2] == (replace(lab, name="~/mine"), tmp_path / "mine")

    url = f"memory://{tmp_path.name}/model"
    system, root = fsspec.core.url_to_fs(url)
    system.put(f"{MODEL_PATH}/", root, recursive=True)
    shape, folder, _ = find_architecture(ModelConfig(path=url))
    assert shape == replace(lab, name=url) and folder is not None and not weights_on_disk(folder)
    copied = find_model(ModelConfig(path=url))  # as a run does
    assert find_model(ModelConfig(path=url), weights=False) == copied and weights_on_disk(copied)
    system.rm(root, recursive=True)

    file = tmp_path / "tiny.gguf"
    file.write_bytes(b"GGUF")
    with pytest.raises(ConfigError, match=r"tiny\.gguf: .*`lidr import-gguf .*tiny\.gguf FOLDER` first"):
        find_model(ModelConfig(path=str(file)), weights=False)
    imported = tmp_path / "xdg" / "lidr" / "gguf" / hash_file(file)
    shutil.copytree(MODEL_PATH, imported)
    assert find_model(ModelConfig(path=str(file)), weights=False) == imported


def test_the_hub_out_of_reach_is_known_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.undo()
    template = "http://127.0.0.1:9/{repo_id}/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    began = time.monotonic()
    with pytest.raises(ConfigError, match=r"the Hub gave no such model: .*refused"):
        find_model(ModelConfig(path="nobody/no-such-model-of-ours"), weights=False)
    assert time.monotonic() - began < 10


# --- hardware ---------------------------------------------------------------------------------------------------------


def test_hardware_by_name() -> None:
    hardware = parse_hardware("8xA100-80GB")
    assert (hardware.count, hardware.device.name, hardware.here) == (8, "A100-80GB", False)
    assert parse_hardware("rtx4090").device.name == "RTX-4090-24GB"
    with pytest.raises(ConfigError, match="did you mean A100-40GB or A100-80GB"):
        parse_hardware("A100")
    with pytest.raises(ConfigError, match="did you mean H100-80GB"):
        parse_hardware("2xH100-8GB")
    with pytest.raises(ConfigError, match="Write it as"):
        parse_hardware("0xA100-80GB")


def test_this_machine_has_its_cores_and_its_disk(tmp_path: Path) -> None:
    hardware = this_machine(tmp_path / "not" / "yet", on_cpu=True)
    assert hardware.here and not hardware.device.is_gpu
    assert hardware.disk_gib is not None and hardware.disk_gib > 0


# --- requests ---------------------------------------------------------------------------------------------------------


class _Counting(ToyEngine):
    """Answers anything with a word."""

    def generate(
        self, requests: Iterable[Request], sampling: Sampling, done: Collection[str] = frozenset()
    ) -> Iterator[Completion]:
        for request in requests:
            self.asked.append(request)
            yield Completion(request.request_id, "word", "stop", 5, 7, stopped_by="</translated>")


def test_quickstart_asks_as_often_as_planned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lidr.stages import STAGES

    config = quickstart()
    plan = make_plan(config, TWO_CORES, tmp_path / "none")
    run = RunDir.start(config, tmp_path / "run", say=lambda line: None)
    STAGES["prompts"].run(config, run, 1)
    for stage, name in (("responses", "respond"), ("translations", "translate"), ("evaluation", "evaluate")):
        engine = _Counting()

        @contextmanager
        def open_counting(config: Config, folder: Path, engine: ToyEngine = engine) -> Iterator[ToyEngine]:
            yield engine

        monkeypatch.setattr(f"lidr.stages.{stage}.open_engine", open_counting)
        iteration = 0 if stage == "evaluation" else 1
        STAGES[stage].run(config, run, iteration)
        assert step(plan, name, iteration).requests == len(engine.asked) >= 30


@pytest.mark.parametrize("policy", ["one", "all", "none", "fr"])
def test_translations_and_pairs_are_those_of_the_strategy(toy_run: ToyRun, policy: str) -> None:
    lines = (toy_run.prompts / "es.jsonl").read_text(encoding="utf-8").splitlines()
    (toy_run.prompts / "es.jsonl").write_text("\n".join(lines[:-1]) + "\n", encoding="utf-8")  # one is missing
    prompts = {"path": str(toy_run.prompts), "on_missing": "skip"}
    gates = {"max_similarity": None, "wrong_language": None}
    pairs = {"dominant_rejected": policy, "gates": gates}
    config = make_config(toy_run.prompts, prompts=prompts, pairs=pairs)
    planned = count_prompts(config)
    engine = toy_run.use(ToyEngine())
    toy_run.run("prompts", "responses", config=config)
    answered = len(engine.asked)
    toy_run.run("translations", "pairs", config=config)
    assert planned.responses.total() == answered == 23
    assert planned.translations.total() == len(engine.asked) - answered
    made = sum(len(toy_run.rows(toy_run.run_dir.pairs(1, code))) for code in config.languages)
    assert planned.pairs.total() == made


def test_the_probe_keeps_its_sample_apart(prompts_folder: Path, tmp_path: Path) -> None:
    judge = {"model": "j", "engine": {"type": "openai"}}
    config = make_config(
        prompts_folder, probe={"prompts": 2, "stop": True}, evaluation={"judge": judge}, engine={"device": "cpu"}
    )
    plan = make_plan(config, TWO_CORES, tmp_path / "run")
    assert step(plan, "respond").requests == 4 * 4
    assert step(plan, "probe: respond", 0).requests == 2 * 4
    assert step(plan, "probe: translate", 0).requests == 2 * 3
    # M_0: three languages compared in both orders, four rated, three translations rated; M_1: four compared and rated.
    assert step(plan, "probe: judge", 0).requests == 2 * (2 * 3 + 4 + 3)
    assert step(plan, "probe: judge", 1).requests == 2 * (2 * 4 + 4)


def test_prompts_that_are_not_at_hand_are_assumed() -> None:
    config = load_config("llama3-8b-instruct")
    found = count_prompts(config)
    assert found.assumed and found.responses.total() == 5000
    assert found.translations.total() == found.pairs.total() == 5000
    assert count_prompts(load_config("llama3-8b-instruct", ["prompts.limit=30"])).groups == 30


def test_prompts_in_the_home_and_behind_a_url_are_counted(
    prompts_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(prompts_folder.parent))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    url = f"memory://{tmp_path.name}/prompts"
    system, root = fsspec.core.url_to_fs(url)
    system.put(f"{prompts_folder}/", root, recursive=True)
    for path in ("~/prompts", url):
        found = count_prompts(make_config(prompts_folder, prompts={"path": path}))
        assert not found.assumed and found.groups == 6
    system.rm(root, recursive=True)


def test_answers_are_bounded_by_the_recipe(prompts_folder: Path) -> None:
    config = make_config(prompts_folder, responses={"max_new_tokens": 100})
    prompts = count_prompts(config)
    work = Work(config, Lengths(config, None), prompts)
    assert work.answer("es") == 100
    assert work.respond().longest >= 100


# --- memory -----------------------------------------------------------------------------------------------------------


def test_memory_of_training_is_the_measured_one() -> None:
    """docs/performance.md: 3.00 GiB, and 3.44 with the libraries, with a token budget of 320."""
    measured = json.loads((Path(__file__).parents[3] / "benchmarks/training_smollm2.json").read_text())
    lidr = measured["results"][0]["medians"]["lidr"]
    config = load_config("smollm2-cpu", [f"training.token_budget={measured['settings']['token_budget']}"])
    load = Load(requests=16, read=10462, longest=2477)
    need = training_need(config, shape_of(SMOLLM), TWO_CORES, load)
    assert need.gib - need.parts["process"] == pytest.approx(lidr["training_gib"], rel=0.3)
    assert need.gib == pytest.approx(lidr["peak_gib"], rel=0.3)


def test_speed_of_training_is_the_measured_one() -> None:
    config, load = load_config("smollm2-cpu"), Load(requests=16, read=10462, longest=2477)
    seconds = training_seconds(config, shape_of(SMOLLM), TWO_CORES, load)
    seconds += reference_seconds(config, shape_of(SMOLLM), TWO_CORES, load)
    assert 16 / seconds == pytest.approx(0.19, rel=0.3)


@pytest.mark.parametrize(("rows", "rate"), [(1, 17), (8, 60), (32, 107)])
def test_speed_of_answering_is_the_measured_one(rows: int, rate: float) -> None:
    """SmolLM2-135M on two cores, 64 new tokens each."""
    use = replace(
        engine_use(load_config("smollm2-cpu").engine, shape_of(SMOLLM), TWO_CORES, Load(1, 40, 64, 104)),
        rows=rows, weight_bytes=4.0,
    )  # fmt: skip
    load = Load(requests=1000, read=40e3, written=64e3, longest=104)
    assert load.written / generation_seconds(use, shape_of(SMOLLM), TWO_CORES, load) == pytest.approx(rate, rel=0.4)


def test_sharding_divides_the_states() -> None:
    load, shape = Load(requests=5000, read=4e6, longest=6000), shape_of(LLAMA)
    for distributed, least in (("ddp", 16 * 8.03e9), ("fsdp2", 2 * 8.03e9), ("zero3", 2 * 8.03e9)):
        config = load_config("llama3-8b-instruct", [f"training.distributed={distributed}"])
        need = training_need(config, shape, parse_hardware("8xA100-80GB"), load)
        assert need.parts["weights, gradients, optimiser"] == pytest.approx(least / 2**30, rel=0.01)


def test_activations_of_recomputed_layers_are_small() -> None:
    load, shape, hardware = Load(5000, 4e6, 0, 6000), shape_of(LLAMA), parse_hardware("H100-80GB")
    found = {}
    for way in ("true", "auto", "false"):
        config = load_config("llama3-8b-instruct", [f"training.gradient_checkpointing={way}"])
        found[way] = training_need(config, shape, hardware, load).parts["activations"]
    assert found["true"] < found["auto"] / 5
    assert found["auto"] == found["false"]  # no pair is longer than the token budget here


def test_vllm_takes_its_share_and_says_when_it_is_too_small() -> None:
    load, shape = Load(100, 1e4, 1e4, 4000), shape_of(LLAMA)
    use = engine_use(Vllm(), shape, parse_hardware("A100-40GB"), load)
    assert not use.problem and use.need.gib == pytest.approx(0.9 * 39.4)
    small = engine_use(Vllm(), shape, parse_hardware("T4-16GB"), load)
    assert "gpu_memory_utilization" in small.problem
    split = Vllm(arguments={"tensor_parallel_size": 2})
    assert not engine_use(split, shape, parse_hardware("2xT4-16GB"), load).problem
    assert "there are 1" in engine_use(split, shape, parse_hardware("A100-40GB"), load).problem


def test_ray_workers_on_cpu_cores_share_them() -> None:
    load, shape = Load(1000, 40e3, 64e3, 104), shape_of(SMOLLM)
    eight = replace(TWO_CORES, device=replace(TWO_CORES.device, memory_gib=32, cores=8))
    one = engine_use(Transformers(), shape, eight, load)
    use = engine_use(Ray(), shape, eight, load)
    assert (use.replicas, use.share, use.rows) == (8, 1 / 8, one.rows) and not use.problem
    assert use.need.gib == pytest.approx(8 * one.need.gib)
    pair = engine_use(Ray(cpus_per_worker=2, workers=2), shape, eight, load)
    assert (pair.replicas, pair.share) == (2, 1 / 4)
    assert pair.need.gib == pytest.approx(2 * one.need.gib)
    times = [generation_seconds(each, shape, eight, load) for each in (one, use, pair)]
    assert times[0] / 2 < times[1] < times[0] < times[2]  # the pair has half of the cores
    many = engine_use(Ray(workers=5, cpus_per_worker=2), shape, eight, load)
    assert many.problem == "5 workers of 2 CPU cores, there is room for 4"


def test_ray_workers_that_do_not_fit_together_become_fewer() -> None:
    load, shape = Load(1000, 40e3, 64e3, 104), shape_of(SMOLLM)
    small = replace(TWO_CORES, device=replace(TWO_CORES.device, memory_gib=4, cores=8))
    config = load_config("smollm2-cpu", ["engine={type: ray}"])
    assert "in 8 workers needs" in engine_use(config.engine, shape, small, load).problem
    (fix,) = engine_fix(config, shape, small, load) or []
    fewer = load_config("smollm2-cpu", ["engine={type: ray}", fix])
    assert not engine_use(fewer.engine, shape, small, load).problem


def test_ray_workers_on_parts_of_a_gpu() -> None:
    load, shape, hardware = Load(1000, 40e3, 64e3, 104), shape_of(SMOLLM), parse_hardware("2xA100-80GB")
    one = engine_use(Transformers(), shape, hardware, load)
    use = engine_use(Ray(gpus_per_worker=0.1), shape, hardware, load)
    assert (use.replicas, use.share) == (20, 0.1)
    assert use.need.gib == pytest.approx(10 * one.need.gib)


# --- what it says -----------------------------------------------------------------------------------------------------


def test_eight_a100_train_llama_in_hours(tmp_path: Path) -> None:
    plan = plan_for("llama3-8b-instruct", "8xA100-80GB", tmp_path, "training.distributed=ddp")
    assert not plan.fits and not step(plan, "train").fits
    fix = next(problem.fix for problem in plan.problems)
    assert fix == ["training.distributed=fsdp2"]
    fixed = plan_for("llama3-8b-instruct", "8xA100-80GB", tmp_path, *fix)
    assert fixed.fits
    assert 3600 < fixed.seconds < 24 * 3600


def test_a_24_gb_card_takes_4_bit_weights(tmp_path: Path) -> None:
    plan = plan_for("llama3-8b-instruct", "RTX-4090-24GB", tmp_path, "training.distributed=ddp")
    fixes = [change for problem in plan.problems for change in problem.fix or ()]
    assert "training.lora.quantize=nf4" in fixes
    assert plan_for("llama3-8b-instruct", "RTX-4090-24GB", tmp_path, "training.distributed=ddp", *fixes).fits


def test_no_setting_is_proposed_where_none_fits() -> None:
    config, load = load_config("llama3-8b-instruct"), Load(5000, 4e6, 0, 6000)
    assert training_fix(config, replace(shape_of(LLAMA), in_linear=10**12, parameters=10**12),
                        parse_hardware("A100-80GB"), load) is None  # fmt: skip


def test_an_api_costs_what_its_tokens_cost(tmp_path: Path) -> None:
    path = tmp_path / "api.yaml"
    judge = {"model": "j", "engine": {"type": "openai", "batch": True}, "budget_usd": 0.5}
    judge |= {"usd_per_million_input_tokens": 2, "usd_per_million_output_tokens": 8}
    recipe: dict[str, Any] = {"model": {"path": "served"}, "languages": ["en"], "iterations": 0}
    recipe |= {"engine": {"type": "openai"}}
    recipe |= {"evaluation": {"judge": judge, "benchmarks": {"x_alpacaeval": {"reference": "not-here"}}}}
    path.write_text(json.dumps(recipe), encoding="utf-8")
    plan = make_plan(load_config(path), TWO_CORES, tmp_path / "run")
    asked = step(plan, "judge", 0)
    assert asked.requests == 2 * 805 and asked.gib is None
    assert asked.usd == pytest.approx((2 * asked.tokens_read + 8 * asked.tokens_written) / 1e6 / 2, rel=1e-3)
    assert plan.usd is None  # the model's own price is not in the recipe
    assert any("budget_usd" in warning for warning in plan.warnings)


def test_recorded_answers_need_no_model(tmp_path: Path) -> None:
    (tmp_path / "answers").mkdir()
    (tmp_path / "answers" / "en.json").write_text("[]", encoding="utf-8")
    judge = {"model": "j", "engine": {"type": "openai"}}
    overrides = [f"model.path={tmp_path / 'answers'}", "languages=[en]", f"evaluation.judge={json.dumps(judge)}"]
    overrides += ["evaluation.benchmarks.x_alpacaeval.reference=not-here"]
    plan = make_plan(load_config("evaluation", overrides), TWO_CORES, tmp_path / "run")
    assert [(step.name, step.requests) for step in plan.steps] == [("judge", 1610)]


def test_answers_beyond_the_context_are_told(tmp_path: Path) -> None:
    plan = make_plan(quickstart("responses.max_new_tokens=600"), TWO_CORES, tmp_path)
    assert any("context of 512" in warning for warning in plan.warnings)


def test_a_full_disk_is_a_problem(tmp_path: Path) -> None:
    plan = make_plan(quickstart(), replace(TWO_CORES, disk_gib=0.001), tmp_path)
    assert not plan.fits and "disk" in plan.problems[0].text


def test_measured_lengths_and_speeds_take_the_place_of_estimates(tmp_path: Path) -> None:
    config = quickstart()
    run = RunDir.start(config, tmp_path / "run", say=lambda line: None)
    for code in config.languages:
        done = {"rows": 10, "tokens": 130, "seconds": 2.0}
        run.log("stage", iteration=1, stage="responses", language=code, **done)
    run.log("stage", iteration=1, stage="training", rows=50, seconds=25.0)
    here = this_machine(tmp_path, on_cpu=True)
    plan = make_plan(config, here, run.path)
    respond = step(plan, "respond")
    assert respond.measured and respond.tokens_written == 13 * respond.requests
    assert respond.seconds == pytest.approx(respond.tokens_written / 65)
    assert plan.pairs == 50 and step(plan, "train").seconds == pytest.approx(25)
    assert not step(plan, "translate").measured
    elsewhere = make_plan(
        config, replace(here, host_gib=None), run.path
    )  # another machine: lengths hold, speeds do not
    assert step(elsewhere, "respond").tokens_written == respond.tokens_written
    assert not step(elsewhere, "respond").measured
    other = make_plan(quickstart("prompts.limit=7"), here, run.path)
    assert not step(other, "respond").measured


def test_a_plan_is_compared_with_what_the_run_took(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = quickstart()
    run = RunDir.start(config, tmp_path / "run", say=lambda line: None)
    assert compare_with_log(config, run.path) == []  # nothing was measured yet
    for code in config.languages:
        run.log("stage", iteration=1, stage="responses", language=code, rows=10, tokens=130, seconds=2.0)
    run.log("stage", iteration=1, stage="training", rows=50, seconds=25.0)
    run.log("cost", iteration=1, stage="training", peak_gib=0.75)
    responses, training = compare_with_log(config, run.path)
    before = make_plan(config, None, run.path, Earlier())
    assert (responses.stage, responses.iterations, responses.measured_s) == ("responses", [1], 10.0)
    assert responses.planned_s == pytest.approx(step(before, "respond").seconds, abs=0.05)
    assert responses.estimated_s != responses.planned_s  # answers were shorter than was assumed
    assert responses.ratio == pytest.approx(10.0 / responses.estimated_s)
    both = step(before, "reference").seconds + step(before, "train").seconds
    assert training.planned_s == pytest.approx(both, abs=0.05)
    assert training.measured_gib == 0.75 and training.planned_gib == step(before, "train").gib
    print_measured([responses, training])
    assert "compared with the run's own log" in capsys.readouterr().out
    (run.path / "environment.json").write_text(json.dumps({"processor": "another", "cpus": 96, "gpus": []}))
    assert compare_with_log(config, run.path) == []


def test_a_cpu_with_fast_bfloat16_trains_faster_and_holds_copies_of_the_weights(tmp_path: Path) -> None:
    fast = replace(TWO_CORES, device=replace(TWO_CORES.device, bf16=True, tflops=0.4))
    auto = make_plan(quickstart("training.precision=auto", "engine.dtype=auto"), fast, tmp_path / "run")
    exact = make_plan(quickstart("engine.dtype=auto"), fast, tmp_path / "run")
    slow = make_plan(quickstart(), TWO_CORES, tmp_path / "run")
    assert step(auto, "train").seconds < step(exact, "train").seconds
    assert step(exact, "train").seconds == pytest.approx(step(slow, "train").seconds)
    assert "bfloat16 copies" in step(auto, "train").memory
    assert "bfloat16 copies" not in step(exact, "train").memory
    answers = make_plan(quickstart(), fast, tmp_path / "run")
    assert step(auto, "respond").seconds < step(answers, "respond").seconds


@pytest.mark.parametrize("recipe", ["llama3-8b-mgsm", "multilingual-alignment", "qwen2-7b-instruct", "evaluation"])
def test_shipped_recipes_can_be_planned_and_shown(
    recipe: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = plan_for(recipe, "8xH100-80GB", tmp_path)
    print_plan(plan)
    shown = capsys.readouterr().out
    assert recipe in shown and all(step.name in shown for step in plan.steps)
    assert all(len(line) <= 100 for line in shown.splitlines())


def test_the_command_ends_with_what_fits(tmp_path: Path) -> None:
    invoke = CliRunner().invoke
    done = invoke(
        app, ["plan", "quickstart", "--set", "prompts.limit=30", "--run-dir", str(tmp_path / "run"), "--json"]
    )
    found = json.loads(done.stdout)
    assert done.exit_code == 0 and found["fits"] and found["problems"] == []
    assert {entry["name"] for entry in found["steps"]} >= {"respond", "translate", "reference", "train", "evaluate"}
    too_much = ["plan", "llama3-8b-instruct", "--hardware", "L4-24GB", "--run-dir", str(tmp_path / "run")]
    done = invoke(app, too_much)
    assert done.exit_code == 1 and "it fits with" in done.stdout
    assert not (tmp_path / "run").exists()  # a plan writes nothing
