"""`lidr plan`: every step of a run with its requests, tokens, memory and time, and what will not fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from lidr.commands.plan import measuring, speed
from lidr.commands.plan.fixes import engine_fix, fits_training, has_reference, judge_fix, training_fix, with_all_gpus
from lidr.commands.plan.lengths import ANSWERS, SAMPLE, Lengths
from lidr.commands.plan.measuring import Measuring
from lidr.commands.plan.memory import engine_use, processes_of, reference_need, training_need
from lidr.commands.plan.previous import Earlier, read_earlier
from lidr.commands.plan.work import Load, Prompts, Work, count_prompts
from lidr.config import Config, ModelConfig
from lidr.engine_settings import EngineSettings
from lidr.engines import plugin_of
from lidr.engines.memory import EngineUse, Need
from lidr.engines.transformers import Transformers
from lidr.judges.base import price
from lidr.machine.hardware import GIB, Hardware, this_machine
from lidr.models import recorded_answers
from lidr.models.architecture import Architecture, find_architecture, weights_on_disk
from lidr.progress_bar import duration
from lidr.records import Json
from lidr.run_dir import RunDir
from lidr.stages.probe import judged_by


@dataclass
class Step:
    """A step of the loop, as in each of its `iterations`. `tokens_read` and `tokens_written` are of all its requests.

    `gib` is the peak on each device, of `device_gib`; both are None if nothing is held here. `usd` is None if a price
    is not known.
    """

    name: str
    iterations: list[int]
    requests: int
    tokens_read: int
    tokens_written: int
    seconds: float
    gib: float | None = None
    device_gib: float | None = None
    memory: dict[str, float] = field(default_factory=dict)
    usd: float | None = 0.0
    measured: bool = False

    @property
    def fits(self) -> bool:
        return self.gib is None or self.device_gib is None or self.gib <= self.device_gib


@dataclass(frozen=True, slots=True)
class Problem:
    """What does not fit with the recipe's settings; overrides with which it does if some were found, else advice."""

    text: str
    fix: list[str] | None
    advice: str = "no setting was found; take a smaller model or more memory"


@dataclass
class Plan:
    """What a run will cost. Times are of all iterations together."""

    recipe: str
    model: str
    parameters: int | None
    hardware: str
    pairs: int
    steps: list[Step]
    disk_gib: float = 0.0
    assumptions: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        return sum(step.seconds * len(step.iterations) for step in self.steps)

    @property
    def usd(self) -> float | None:
        """None if a price is not known."""
        costs = [None if step.usd is None else step.usd * len(step.iterations) for step in self.steps]
        return None if None in costs else sum(cost for cost in costs if cost is not None)

    @property
    def fits(self) -> bool:
        return not self.problems

    def as_dict(self) -> Json:
        """All of it, for JSON."""
        totals = {"fits": self.fits, "seconds": round(self.seconds), "usd": self.usd}
        found = asdict(self) | totals
        for entry, step in zip(found["steps"], self.steps, strict=True):
            entry |= {"fits": step.fits, "seconds": round(step.seconds, 1)}
            entry["gib"] = None if step.gib is None else round(step.gib, 2)
        return found | {"disk_gib": round(self.disk_gib, 1)}


def make_plan(config: Config, hardware: Hardware | None, folder: Path, earlier: Earlier | None = None) -> Plan:
    """Plan a recipe's run, which is or would be in `folder`; `hardware` None means this machine.

    `earlier` replaces what the folder's log says. Raises ConfigError if the model's shape cannot be found, DataError if
    the prompts are damaged.
    """
    return _Planner(config, hardware or this_machine(folder, config.device == "cpu"), folder, earlier).plan()


class _Planner:
    def __init__(self, config: Config, hardware: Hardware, folder: Path, earlier: Earlier | None) -> None:
        on_cpu = config.device == "cpu" and hardware.device.is_gpu
        self.warnings: list[str] = []
        self.config, self.folder = config, folder
        self.hardware = this_machine(folder, on_cpu=True) if on_cpu else hardware
        self.recorded = not config.iterations and bool(recorded_answers(Path(config.model.path).expanduser()))
        if on_cpu:
            self._warn(f"engine.device is cpu, so this is for the cores of this machine and not for {hardware}")
        self.shape, self.small_files = None, None
        if not config.engine.server and not self.recorded:
            self.shape, self.small_files = self._shape(config.model)
        self.lengths = Lengths(config, self.small_files)
        self.earlier = earlier or read_earlier(config, RunDir(folder), self.hardware.here) or Earlier()
        self.lengths.measured = self.earlier.lengths
        self.prompts = count_prompts(config) if config.iterations else Prompts()
        self.lengths.learn(self.prompts.texts)
        self.work = Work(config, self.lengths, self.prompts)
        self.pairs = self._pairs()
        self.problems: list[Problem] = []
        self.assumed: list[str] = []
        self.kinds: set[str] = {self.work.kind}  # of answers

    def plan(self) -> Plan:
        config, shape = self.config, self.shape
        steps = self._steps()
        plan = Plan(
            recipe=config.name, model=config.model.path, parameters=shape.parameters if shape else None,
            hardware=str(self.hardware), pairs=self.pairs.requests, steps=steps, problems=self.problems,
        )  # fmt: skip
        plan.disk_gib = self._disk(steps)
        self._check_disk(plan.disk_gib)
        self._check_limits(steps)
        plan.assumptions, plan.warnings = self._assumptions(), self.warnings
        if not all(step.measured for step in steps):
            plan.assumptions.append(self._speeds())
        return plan

    # --- steps --------------------------------------------------------------------------------------------------------

    def _steps(self) -> list[Step]:
        config, every = self.config, list(range(1, self.config.iterations + 1))
        steps = self._probe([0], 0) if config.probe else []
        steps += self._evaluation([0], 0)
        if every:
            respond, translate = self.work.respond(), self.work.translate()
            steps.append(self._generation("respond", every, respond, "responses", config.responses.max_new_tokens))
            limit = config.translations.max_new_tokens
            steps.append(self._generation("translate", every, translate, "translations", limit))
            steps += [self._scoring([1], 1), self._scoring(every[1:], 2)]
            steps += self._training(every)
            steps += self._evaluation(every, 1)
            if config.probe and config.probe.stop:
                steps += self._probe(every, 1)
            self._check_all_gpus(respond)
        return [step for step in steps if step.requests]

    def _generation(self, name: str, iterations: list[int], load: Load, stage: str, limit: int) -> Step:
        hardware, use = self.hardware, engine_use(self.config.engine, self.shape, self.hardware, load)
        rate = self.earlier.tokens_per_s.get(stage)
        seconds = load.written / rate if rate else speed.generation_seconds(use, self.shape, hardware, load)
        step = self._step(name, iterations, load, seconds, use, hardware)
        step.measured = rate is not None
        step.usd = self.config.engine.usd(load.read, load.written)
        if load.requests:
            self._check_context(name, load, limit)
            self._check_engine(name, use, load)
        return step

    def _scoring(self, iterations: list[int], iteration: int) -> Step:
        """Passes over the answers that the strategy scores, if it does."""
        load = self.work.score(iteration)
        if not load.requests or not iterations or not plugin_of(self.config.engine).can_score:
            return Step("score", iterations, 0, 0, 0, 0.0)
        use = engine_use(self.config.engine, self.shape, self.hardware, load)
        assert self.shape is not None  # an engine that can score has the weights
        devices = use.replicas * use.devices * use.share
        seconds = speed.forward_seconds(self.shape, self.hardware, load.read, devices)
        return self._step("score", iterations, load, seconds, use, self.hardware)

    def _step(
        self, name: str, iterations: list[int], load: Load, seconds: float, use: EngineUse, hardware: Hardware
    ) -> Step:
        step = Step(name, iterations, load.requests, round(load.read), round(load.written), seconds)
        if not use.is_remote:
            step.gib, step.device_gib, step.memory = use.need.gib, hardware.device.memory_gib, use.need.parts
        return step

    def _training(self, iterations: list[int]) -> list[Step]:
        config, shape, hardware, pairs = self.config, self.shape, self.hardware, self.pairs
        assert shape is not None  # a model that is trained is not on a server
        rate = self.earlier.pairs_per_s
        steps = []
        if has_reference(config):
            seconds = 0.0 if rate else speed.reference_seconds(config, shape, hardware, pairs)
            steps.append(self._pass("reference", iterations, reference_need(config, shape, hardware, pairs), seconds))
        need = training_need(config, shape, hardware, pairs)
        seconds = pairs.requests / rate if rate else speed.training_seconds(config, shape, hardware, pairs)
        step = self._pass("train", iterations, need, seconds)
        step.tokens_read *= config.training.epochs
        steps.append(step)
        for each in steps:
            each.measured = rate is not None
        self._check_training(steps)
        return steps

    def _pass(self, name: str, iterations: list[int], need: Need, seconds: float) -> Step:
        step = Step(name, iterations, self.pairs.requests, round(self.pairs.read), 0, seconds)
        step.gib, step.device_gib, step.memory = need.gib, self.hardware.device.memory_gib, need.parts
        return step

    def _evaluation(self, iterations: list[int], iteration: int) -> list[Step]:
        found = measuring.evaluation(self.config, self.work, iteration)
        self.assumed += [note for note in found.assumed if note not in self.assumed]
        self.kinds |= found.kinds
        if self.recorded:
            found.answers = Load()
        limit = self.config.evaluation.max_new_tokens
        steps = [self._generation("evaluate", iterations, found.answers, "evaluation", limit)]
        if found.harness.requests and self.shape is not None:
            engine = self.config.engine
            plain = engine.model_copy(update={"quantize": None}) if isinstance(engine, Transformers) else Transformers()
            use = engine_use(plain, self.shape, self.hardware, found.harness)
            seconds = speed.forward_seconds(self.shape, self.hardware, found.harness.read, 1)
            steps.append(self._step("harness", iterations, found.harness, seconds, use, self.hardware))
            if use.problem:
                self._add_problem(f"harness: the model {use.problem}", None)
        return steps + self._judge(iterations, found, steps[0])

    def _probe(self, iterations: list[int], iteration: int) -> list[Step]:
        by = judged_by(self.config)
        answers, turned, found = measuring.probe(self.config, self.work, iteration, by)
        limit = self.config.responses.max_new_tokens
        steps = [
            self._generation("probe: respond", iterations, answers, "responses", limit),
            self._generation("probe: translate", iterations, turned, "translations", limit),
        ]
        return steps + self._judge(iterations, found, steps[0], "probe: judge")

    def _judge(self, iterations: list[int], found: Measuring, beside: Step, name: str = "judge") -> list[Step]:
        """The judge's work; a judge with weights is in memory beside the model that answers."""
        judge, load = self.config.evaluation.judge, found.judge
        if judge is None or not load.requests:
            return []
        shape, hardware = None, self._hardware_of(judge.engine)
        if not judge.engine.server:
            shape, _ = self._shape(ModelConfig(path=judge.model))
        use = engine_use(judge.engine, shape, hardware, load)
        step = self._step(name, iterations, load, speed.generation_seconds(use, shape, hardware, load), use, hardware)
        if judge.engine.server:
            step.usd = price(judge, load.read, load.written)
        elif use.problem:
            self._add_problem(f"{name}: the judge {use.problem}", None)
        elif step.gib is not None and beside.gib is not None and hardware.device == self.hardware.device:
            step.gib += beside.gib
            if not step.fits and beside.fits and shape and self.shape:
                self._add_problem(
                    f"the judge beside the model needs {step.gib:.1f} GiB of {hardware.device.memory_gib:.1f}",
                    judge_fix(self.config, shape, self.shape, hardware),
                    "take a judge on a server (evaluation.judge.engine.type: openai), or a smaller one",
                )
        return [step]

    # --- what does not fit --------------------------------------------------------------------------------------------

    def _check_engine(self, name: str, use: EngineUse, load: Load) -> None:
        if use.problem and self.shape is not None:
            self._add_problem(
                f"{name}: the model {use.problem}", engine_fix(self.config, self.shape, self.hardware, load)
            )
        elif use.rows < use.wanted_rows:
            self._warn(
                f"{name}: beside the weights there is memory for about {use.rows} of the {use.wanted_rows} requests "
                "that engine.batch_size asks for; the engine waits with the others"
            )

    def _check_training(self, steps: Sequence[Step]) -> None:
        config, shape, hardware = self.config, self.shape, self.hardware
        assert shape is not None
        training, processes = config.training, processes_of(config, hardware)
        if hardware.device.is_gpu and processes > hardware.count and not training.launch:
            self._add_problem(
                f"train: training.num_processes is {processes}, there are {hardware.count} GPUs",
                [f"training.num_processes={hardware.count}"],
            )
        if training.lora and training.lora.quantize and not hardware.device.is_gpu:
            self._add_problem("train: 4-bit weights need a GPU", ["training.lora.quantize=null"])
        if not fits_training(config, shape, hardware, self.pairs):
            over = [f"{step.name} needs {step.gib:.1f}" for step in steps if not step.fits]
            found = training_fix(config, shape, hardware, self.pairs)
            fix, then = found or (None, 0.0)
            text = f"{' and '.join(over)} GiB of {hardware.device.memory_gib:.1f} on each device"
            self._add_problem(text + (f"; with the settings below {then:.1f}" if fix else ""), fix)
            if fix and training.lora is None and any(change.startswith("training.lora") for change in fix):
                self._warn(
                    f"an adapter usually wants a learning rate ten times as high ({training.learning_rate:g} now)"
                )
        if hardware.device.is_gpu and not hardware.device.bf16:
            self._warn(f"{hardware.device.name} has no bfloat16: training is several times slower than said here")
        host = 4 * shape.parameters * (processes if has_reference(config) else 1) / GIB
        if hardware.host_gib is not None and hardware.device.is_gpu and host > hardware.host_gib:
            self._warn(
                f"loading float32 weights in {processes} processes takes {host:.0f} GiB of the machine's own "
                f"memory for a moment, it has {hardware.host_gib:.0f}"
            )

    def _check_context(self, name: str, load: Load, limit: int) -> None:
        context = self.shape.context if self.shape else None
        mean = load.read / load.requests
        if context and mean + limit > context:
            self._warn(
                f"{name}: requests of {mean:.0f} tokens and answers of up to {limit} are more than the model's context "
                f"of {context}; the engine cuts answers off there"
            )

    def _check_all_gpus(self, load: Load) -> None:
        engine = self.config.engine
        use = engine_use(engine, self.shape, self.hardware, load)
        more = with_all_gpus(use, self.hardware)
        if more and not use.problem:
            before, after = (speed.generation_seconds(u, self.shape, self.hardware, load) for u in (use, more))
            how = "engine.type ray" if plugin_of(engine).in_cluster else "a command that uses all"
            used = use.devices * use.replicas
            self._warn(
                f"the engine uses {used} of {self.hardware.count} GPUs; with {how}, respond takes {duration(after)} "
                f"instead of {duration(before)}"
            )

    def _check_disk(self, gib: float) -> None:
        free = self.hardware.disk_gib
        if free is not None and gib > free:
            self._add_problem(
                f"the run takes up to {gib:.1f} GiB of disk, {free:.1f} are free",
                None,
                "free some, or give another --run-dir",
            )

    def _check_limits(self, steps: Sequence[Step]) -> None:
        judge = self.config.evaluation.judge
        if judge is None:
            return
        of_judge = [step for step in steps if step.name in ("judge", "probe: judge")]
        requests = sum(step.requests * len(step.iterations) for step in of_judge)
        usd = sum((step.usd or 0.0) * len(step.iterations) for step in of_judge)
        if judge.max_requests is not None and requests > judge.max_requests:
            self._warn(f"the judge stops at evaluation.judge.max_requests {judge.max_requests}, it needs {requests}")
        if judge.budget_usd is not None and usd > judge.budget_usd:
            self._warn(f"the judge stops at evaluation.judge.budget_usd {judge.budget_usd:g}, it needs {usd:.2f}")

    # --- the rest -----------------------------------------------------------------------------------------------------

    def _shape(self, model: ModelConfig) -> tuple[Architecture, Path | None]:
        shape, folder, note = find_architecture(model)
        if note:
            self._warn(note)
        elif not weights_on_disk(folder):
            size = shape.stored_bytes * shape.parameters / GIB
            self._warn(f"the weights of {model.path} are not on this machine; {size:.1f} GiB are to be fetched")
        return shape, folder

    def _hardware_of(self, engine: EngineSettings) -> Hardware:
        on_cpu = engine.torch_device() == "cpu" and self.hardware.device.is_gpu
        return this_machine(self.folder, on_cpu=True) if on_cpu else self.hardware

    def _pairs(self) -> Load:
        pairs = self.work.pairs(self.config.training.objective == "dpo")
        if self.earlier.pairs and pairs.requests:
            share = self.earlier.pairs / pairs.requests
            pairs = replace(pairs, requests=round(self.earlier.pairs), read=pairs.read * share)
        return pairs

    def _disk(self, steps: Sequence[Step]) -> float:
        """GiB at the fullest moment: all models, the last training's checkpoints, rows, and the model if fetched."""
        shape, config = self.shape, self.config
        rows = 8 * sum((step.tokens_read + step.tokens_written) * len(step.iterations) for step in steps) / GIB
        if shape is None or not config.iterations:
            return rows
        model = shape.stored_bytes * shape.parameters / GIB
        fetched = 0 if weights_on_disk(self.small_files) else 1
        saves = speed.saves(config, shape, self.hardware, self.pairs)
        kept = min(3, saves)  # the one before the last stays until the newest is complete
        return rows + model * (config.iterations + fetched) + kept * speed.checkpoint_bytes(config, shape) / GIB

    def _assumptions(self) -> list[str]:
        config, notes = self.config, []
        earlier, lengths = self.earlier, self.lengths
        if config.iterations:
            where = (
                f"assumed, as {config.prompt_source.path} is not on this machine" if self.prompts.assumed else "counted"
            )
            notes.append(f"{self.prompts.groups:,} prompts in each of {len(config.languages)} languages ({where}).")
            most = (
                "Every answer is complete, every translation succeeds, every pair passes the gates: this is the most."
            )
            notes.append("Pairs as earlier iterations made them." if earlier.pairs else most)
        if earlier.lengths:
            notes.append(f"Lengths of answers as measured in {self.folder}" + (
                ", and speeds (*)." if earlier.tokens_per_s else "; speeds are estimates."))  # fmt: skip
        else:
            kinds = sorted(self.kinds, key=list(ANSWERS).index)
            answers = ", ".join(f"{ANSWERS[kind]} tokens ({kind})" for kind in kinds)
            notes.append(f"An English answer has {answers}; translations are as long as their text.")
        longer = ", ".join(f"{code} {lengths.expansion_of(code):.2g}" for code in config.languages)
        if self.work.kind != "lab":
            how = f"by the model's tokenizer on up to {SAMPLE} texts" if lengths.tokenizer else "by a table of scripts"
            notes.append(f"Tokens in relation to English, {how}: {longer}.")
        if config.iterations and self.shape is not None:
            kind = "16-bit weights, rounded stochastically" if self.shape.stored_bytes == 2 else "weights like M0's"
            size = self.shape.stored_bytes * self.shape.parameters / GIB
            notes.append(
                f"Each trained model is saved with {kind}: {size:.1f} GiB of disk. Saving and measuring what was saved "
                "take less memory than training."
            )
        judge = config.evaluation.judge
        engines = [config.engine, *([judge.engine] if judge else [])]
        notes += dict.fromkeys(note for engine in engines for note in plugin_of(engine).notes())
        if config.training.launch and config.iterations:
            notes.append(f"training.launch starts {processes_of(config, self.hardware)} processes in all.")
        notes += [f"{note}." for note in self.assumed]
        return notes

    def _speeds(self) -> str:
        if not self.hardware.device.is_gpu:
            return "Speeds from models of 135M and 500M on two cores, by parameters and cores; good to a factor of two."
        use = engine_use(self.config.engine, self.shape, self.hardware, Load(1, 1, 1, 1))
        notes = [f"training at {speed.training_share(self.config):.0%} of the peak arithmetic"]
        if not use.is_remote:
            share, step = f"{use.bandwidth_share:.0%}", f"{1000 * use.step_s:.0f} ms"
            notes.insert(0, f"decoding at {share} of the memory bandwidth and {step} a step")
        return f"On a GPU {', '.join(notes)}, disk at 1 GB/s; good to a factor of two."

    def _warn(self, text: str) -> None:
        if text not in self.warnings:
            self.warnings.append(text)

    def _add_problem(self, text: str, fix: list[str] | None, *advice: str) -> None:
        if all(problem.text != text for problem in self.problems):
            self.problems.append(Problem(text, fix, *advice))
