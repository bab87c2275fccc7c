"""Which finished work of a run would be replaced. It is found before anything is written, and replaced only on request.

The stages are visited in the order of the loop. What a stage would regenerate goes into a scratch folder in its new
form, as far as that is known without an engine, and later stages read it there. So only real differences count: prompts
whose file was merely touched, and answers whose ids are still owed, do not.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

from lidr.benchmarks.base import benchmarks_of
from lidr.config import Config
from lidr.errors import ConfigError, DamagedError, DataError, ReplaceError, RunError
from lidr.results import read_imbalance
from lidr.run_dir import RunDir
from lidr.seals import (
    Inputs,
    Outputs,
    is_released,
    is_sealed,
    read_rows,
    read_seal,
    release,
    row_ids,
    seal,
    sealed,
    sealed_path,
    short_changes,
    stale_because,
    write_sealed,
)
from lidr.stages import evaluation, pairs, probe, prompts, responses, scores, training, translations
from lidr.storage import partial_path
from lidr.strategies.base import strategy_of

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Replaced:
    """Finished work that would be made again from other inputs: of its `rows`, `kept` stay unchanged."""

    iteration: int
    stage: str
    what: str
    path: Path
    reasons: tuple[str, ...]
    rows: int = 0
    kept: int = 0


def open_run(config: Config, path: Path, say: Say, replace: bool = False, option: str = "--run-dir") -> RunDir:
    """Create a run directory for this recipe, or continue the existing one.

    Raises ReplaceError, before anything is written, if that would replace finished work and `replace` is not set.
    `option` is how the user names another directory.
    """
    return RunDir.start(config, path, say, lambda run: check(config, run, say, replace, option))


def check(config: Config, run: RunDir, say: Say, replace: bool = False, option: str = "") -> None:
    """Raise ReplaceError if going on with `config` would replace finished work; with `replace`, say what and allow it.

    `option` is how the user names another directory, if the command has such an option.
    """
    found = find_replaced(config, run)
    if not found:  # what was allowed is done, or the recipe is the old one again: it has to be allowed again
        for note in run.path.rglob(".*.seal.json"):
            release(sealed_path(note), None)
    found = [item for item in found if not is_released(item.path, config)]
    if not found:
        return
    if not replace:
        raise ReplaceError(_refusal(config, run, found, option))
    for line in describe(found):
        say(f"replaced: {line}")
    for item in found:
        release(item.path, config)


def check_stage(stage: str, config: Config, run: RunDir, iteration: int, outputs: Outputs) -> None:
    """Raise ReplaceError if this stage would replace finished work, because something has changed during the run."""
    if all(read_seal(path) is None or is_sealed(path, inputs) for path, inputs in outputs):
        return
    with TemporaryDirectory() as scratch:
        found = _FIND[stage](config, _Preview(run, Path(scratch)), iteration)
    recipe = RunDir.load(run.path)[1]  # which was checked; the loop's may lack languages that a probe has dropped
    if config in (recipe, _obeyed(recipe, run)):
        found = [item for item in found if not is_released(item.path, recipe)]
    if found:
        raise ReplaceError(_refusal(config, run, found, ""))


def find_replaced(config: Config, run: RunDir) -> list[Replaced]:
    """All finished work that a run of this recipe would replace, in the order of the loop.

    Raises ConfigError or DataError if the recipe's model or prompts cannot be used.
    """
    found: list[Replaced] = []
    with TemporaryDirectory() as scratch:
        preview = _Preview(run, Path(scratch))
        for stage, iteration in _steps(config):
            try:
                if stage == "prompts" and iteration == 1:
                    config = _obeyed(config, run)
                found += _FIND[stage](config, preview, iteration)
            except DamagedError:
                raise
            except RunError:  # a step before it has not been run, so this one has nothing yet
                continue
    return found


def check_current(config: Config, run: RunDir, iteration: int) -> None:
    """Raise RunError if an iteration's pairs or model do not belong to the current recipe, before they are described.

    Rules of a newer version are ignored, and so is what cannot be looked up, such as a base model that is no longer on
    this machine.
    """
    for stage in (pairs, training):
        try:
            outputs = stage.outputs(config, run, iteration)
        except (ConfigError, DataError, RunError) as error:
            if isinstance(error, DamagedError):
                raise
            continue
        reasons = {reason for path, made_from in outputs for reason in stale_because(path, made_from)}
        if found := sorted(reason for reason in reasons if not reason.startswith("format:")):
            raise RunError(
                f"{outputs[0][0]} was not made from the run as it is now ({'; '.join(found[:3])}). Undo the change, or "
                f"give `lidr run {run.recipe} --run-dir {run.path} --replace`, which makes it again"
            )


def describe(found: Sequence[Replaced]) -> list[str]:
    """One line per iteration and stage."""
    groups: dict[tuple[int, str], list[Replaced]] = {}
    for item in found:
        groups.setdefault((item.iteration, item.stage), []).append(item)
    lines = []
    for (iteration, stage), items in groups.items():
        rows, kept = sum(item.rows for item in items), sum(item.kept for item in items)
        reasons = list(dict.fromkeys(reason for item in items for reason in item.reasons))
        counted = f": {rows:,} rows, of which {kept or 'none'} {'is' if kept == 1 else 'are'} kept" if rows else ""
        more = f" and {len(reasons) - 3} more" if len(reasons) > 3 else ""
        why = f" ({'; '.join(reasons[:3])}{more})" if reasons else ""
        lines.append(f"iteration {iteration}  {stage} {', '.join(item.what for item in items)}{counted}{why}")
    return lines


def free_folder(path: Path) -> Path:
    """The next folder beside `path` that does not exist: `runs/quickstart-2` for `runs/quickstart`."""
    return next(folder for number in count(2) if not (folder := path.with_name(f"{path.name}-{number}")).exists())


def _refusal(config: Config, run: RunDir, found: Sequence[Replaced], option: str) -> str:
    lines = [f"{run.path}: going on would replace finished work, so nothing was changed"]
    lines += [f"  recipe: {change}" for change in run.recipe_changes(config)]
    lines += [f"  would be made again: {line}" for line in describe(found)]
    if any(reason.startswith("format:") for item in found for reason in item.reasons):
        lines.append("  format: this version of lidr makes it otherwise; environment.json names the one that made it")
    other = f"Give another directory, such as {option} {free_folder(run.path)}, or " if option else ""
    begin = f"{other}{'g' if other else 'G'}ive --replace to make this again; or undo the change"
    return "\n".join([*lines, begin])


def _steps(config: Config) -> Iterator[tuple[str, int]]:
    """(stage, iteration) in the order of the loop."""
    if not config.iterations:
        yield "evaluation", 0
    if config.probe:
        yield "probe", 0
    for iteration in range(1, config.iterations + 1):
        yield "prompts", iteration
        if iteration == 1:
            yield "evaluation", 0
        for stage in ("responses", "translations", "scores", "pairs", "training", "evaluation", "probe"):
            yield stage, iteration


def _obeyed(config: Config, run: RunDir) -> Config:
    """The recipe that the loop continues with: that of the probe, if it is finished and obeyed."""
    if config.probe is None or not config.probe.obey:
        return config
    is_complete = all(is_sealed(*output) for output in probe.outputs(config, run, 0))
    found = read_imbalance(run) if is_complete else None
    return probe.obeyed(config, found) if found else config


# --- what the run would be --------------------------------------------------------------------------------------------


class _Preview(RunDir):
    """A run whose outdated files are replaced by stand-ins in a scratch folder; it writes nowhere else."""

    def __init__(self, run: RunDir, scratch: Path) -> None:
        super().__init__(run.path)
        self.real, self._scratch = run, scratch
        self._moved: dict[Path, Path] = {}
        self.incomplete: set[Path] = set()  # files whose rows an engine would have to make

    def move(self, path: Path) -> Path:
        """Redirect `path` to the scratch folder; returns the new path."""
        moved = self._moved[path] = self._scratch / path.relative_to(self.path)
        moved.parent.mkdir(parents=True, exist_ok=True)
        return moved

    def begun(self, iteration: int) -> bool:
        """Whether anything has been made of the iteration's prompts."""
        return any(self.real.iteration(iteration).glob("2_responses/*"))

    def keep_rows(self, path: Path, ids: Collection[str]) -> None:
        """Redirect `path` to a copy with only the rows of these ids; the others are still to be made."""
        rows = (json.dumps(row, ensure_ascii=False) for row in read_rows(path) if row["id"] in ids)
        write_sealed(self.move(path), {}, rows)
        self.incomplete.add(path)

    def assume(self, path: Path, iteration: int) -> None:
        """Give a file that is still to be made the hash that later steps have noted of it, if any have."""
        summary = read_seal(self.real.pair_summary(iteration))
        made_pairs = summary.inputs if summary else {}
        kind = path.parent.name.partition("_")[2]  # responses, translations or scores
        digest = (made_pairs.get(kind) or {}).get(path.stem)
        for file in self.real.iteration(iteration).glob(f"3_translations/{path.stem}-*.jsonl"):
            if kind == "responses" and digest is None and (found := read_seal(file)):
                digest = found.inputs["responses"]
        moved = self.move(path)
        aside = partial_path(moved)
        aside.touch()
        seal(aside, moved, {}, 0, digest or "still to be made")
        self.incomplete.add(path)

    def change(self, path: Path) -> None:
        """Redirect `path` to a file whose content differs and is not known yet."""
        write_sealed(self.move(path), {}, [json.dumps({"regenerated": path.name})])

    def change_model(self, iteration: int) -> None:
        from lidr.models import fingerprint

        folder = self.move(self.real.model_folder(iteration))
        aside = partial_path(folder)
        aside.mkdir()
        (aside / "config.json").write_text(f'{{"regenerated": {iteration}}}', encoding="utf-8")
        seal(aside, folder, {}, 0, fingerprint(aside))

    def is_incomplete(self, iteration: int) -> bool:
        """Whether some of an iteration's answers are still to be made."""
        return any(path.is_relative_to(self.real.iteration(iteration)) for path in self.incomplete)

    def _place(self, path: Path) -> Path:
        return self._moved.get(path, path)

    def prompts(self, iteration: int) -> Path:
        return self._place(super().prompts(iteration))

    def held_out(self) -> Path:
        return self._place(super().held_out())

    def responses(self, iteration: int, language: str) -> Path:
        return self._place(super().responses(iteration, language))

    def translations(self, iteration: int, source: str, target: str) -> Path:
        return self._place(super().translations(iteration, source, target))

    def scores(self, iteration: int, model: str) -> Path:
        return self._place(super().scores(iteration, model))

    def pairs(self, iteration: int, language: str) -> Path:
        return self._place(super().pairs(iteration, language))

    def dropped(self, iteration: int) -> Path:
        return self._place(super().dropped(iteration))

    def pair_summary(self, iteration: int) -> Path:
        return self._place(super().pair_summary(iteration))

    def model_folder(self, iteration: int) -> Path:
        return self._place(super().model_folder(iteration))

    def title(self, iteration: int) -> str:
        return f"looking ahead at iteration {iteration}"

    def log(self, event: str, **values: object) -> None:
        """A preview logs nothing."""


# --- the stages -------------------------------------------------------------------------------------------------------


def _prompts(config: Config, run: _Preview, iteration: int) -> list[Replaced]:
    """Prompts are cheap to read; what was made of them shows whether they differ."""
    path, made_from = run.prompts(iteration), prompts.inputs(config, run, iteration)
    if is_sealed(path, made_from) or not run.begun(iteration):
        return []
    if config.probe and not is_sealed(run.held_out(), prompts.held_out_inputs(config)):
        run.move(run.held_out())
    run.move(path)
    prompts.run(config, run, iteration)
    return []


def _responses(config: Config, run: _Preview, iteration: int) -> list[Replaced]:
    found = []
    for path, made_from in responses.outputs(config, run, iteration):
        owed = lambda code=path.stem: responses.asked_ids(config, run, iteration, code)  # noqa: E731
        found += _rows(run, (iteration, "responses", path.stem), path, made_from, owed)
    return found


def _translations(config: Config, run: _Preview, iteration: int) -> list[Replaced]:
    found = []
    for (source, target), (path, made_from) in zip(
        strategy_of(config).directions(config), translations.outputs(config, run, iteration), strict=True
    ):
        owed = lambda s=source, t=target: translations.asked_ids(config, run, iteration, s, t)  # noqa: E731
        paragraphs = partial_path(translations.paragraphs_path(path))
        found += _rows(run, (iteration, "translations", f"{source}->{target}"), path, made_from, owed, [paragraphs])
    return found


def _scores(config: Config, run: _Preview, iteration: int) -> list[Replaced]:
    found = []
    for path, made_from in scores.outputs(config, run, iteration):
        owed = lambda name=path.stem: scores.asked_ids(config, run, iteration, name)  # noqa: E731
        found += _rows(run, (iteration, "scores", path.stem), path, made_from, owed)
    return found


def _rows(
    run: _Preview, name: tuple[int, str, str], path: Path, made_from: Inputs, owed: Callable[[], Iterable[str]],
    beside: Sequence[Path] = (),
) -> list[Replaced]:  # fmt: skip
    """The rows of a file that are no longer owed; in the preview, the others take the place of a sealed file."""
    is_complete = read_seal(path) is not None
    if is_sealed(path, made_from):
        return []
    complete = list(row_ids(path)) if is_complete else []
    there = [*complete, *(row_id for file in (partial_path(path), *beside) for row_id in row_ids(file))]
    wanted = list(owed()) if there or is_complete else []
    owed_ids = set(wanted)
    if not is_complete:
        run.assume(path, name[0])
    elif wanted != complete:
        run.keep_rows(path, owed_ids)
    kept = sum(row_id in owed_ids for row_id in there)
    if kept == len(there):
        return []
    reasons = tuple(stale_because(path, made_from)) if is_complete else ("other answers are needed",)
    return [Replaced(*name, path, reasons, len(there), kept)]


def _pairs(config: Config, run: _Preview, iteration: int) -> list[Replaced]:
    """Pairs are made by rule from kept answers, so they are made here to be compared.

    If only the rules of a newer version differ, and no model has learned from the pairs, making them again loses
    nothing.
    """
    (path, made_from), *_ = pairs.outputs(config, run, iteration)
    is_used = read_seal(run.model_folder(iteration)) is not None or training.has_checkpoint(run, iteration)
    before = read_seal(path)
    if is_sealed(path, made_from) or (before is None and (not is_used or run.is_incomplete(iteration))):
        return []
    reasons = stale_because(path, made_from)
    if run.is_incomplete(iteration):
        run.change(path)
    else:
        for code in config.languages:
            run.move(run.pairs(iteration, code))
        run.move(run.dropped(iteration))
        moved = run.move(path)
        pairs.run(config, run, iteration)
        if before and sealed(moved).sha256 == before.sha256:
            return []
    if before is None or (not is_used and all(reason.startswith("format:") for reason in reasons)):
        return []
    rows = sum(pairs.read_summary(run.real, iteration).pairs.values())
    return [Replaced(iteration, "pairs", "of all languages", path, tuple(reasons), rows)]


def _training(config: Config, run: _Preview, iteration: int) -> list[Replaced]:
    """A sealed model, or the checkpoints of one."""
    [(path, made_from)] = training.outputs(config, run, iteration)
    if is_sealed(path, made_from):
        return []
    if read_seal(path):
        run.change_model(iteration)
        return [Replaced(iteration, "training", f"M{iteration}", path, tuple(stale_because(path, made_from)))]
    begun = training.inputs_note(run, iteration)
    reasons = _changed_note(begun, made_from) if training.has_checkpoint(run, iteration) else []
    what = f"M{iteration}, from its checkpoint"
    return [Replaced(iteration, "training", what, path, tuple(reasons))] if reasons else []


def _evaluation(config: Config, run: _Preview, iteration: int) -> list[Replaced]:
    found = []
    for name in benchmarks_of(config):
        (path, made_from), *_ = evaluation.output(config, run, iteration, name)
        if is_sealed(path, made_from):
            continue
        finished = read_seal(path)
        made_before = finished.inputs if finished else _read_note(evaluation.inputs_note(run, iteration, name))
        if made_before is None:
            continue
        if run.model(config, iteration).recorded:  # the user's own answers; what was asked of a judge is kept
            made_before = made_before | {"model": made_from["model"]}
        if not (reasons := evaluation.answers_lost(made_before, made_from, bool(finished))):
            continue
        rows = {file: sum(1 for _ in row_ids(file)) for file in path.parent.glob("answers/*.jsonl")}
        kept = sum(min(count, evaluation.answers_kept(made_before, made_from, file)) for file, count in rows.items())
        if finished or sum(rows.values()):
            found.append(Replaced(iteration, "evaluation", name, path, tuple(reasons), sum(rows.values()), kept))
    return found


def _probe(config: Config, run: _Preview, iteration: int) -> list[Replaced]:
    found = []
    for path, made_from in probe.outputs(config, run, iteration):
        if is_sealed(path, made_from):
            continue
        reasons = stale_because(path, made_from)
        if read_seal(path) is None:
            reasons = _changed_note(probe.inputs_note(run, iteration), made_from)
        if reasons:
            rows = sum(1 for file in path.with_suffix("").rglob("[23]_*/*.jsonl") for _ in row_ids(file))
            found.append(Replaced(iteration, "probe", f"of M{iteration}", path, tuple(reasons), rows))
    return found


def _read_note(note: Path) -> Inputs | None:
    """The inputs of begun work; None if there is none, or if the version that began it kept no note."""
    if not note.exists():
        return None
    inputs: Inputs = json.loads(note.read_text(encoding="utf-8"))
    return inputs


def _changed_note(note: Path, made_from: Inputs) -> list[str]:
    begun = _read_note(note)
    return [] if begun is None else short_changes(begun, made_from)


_FIND: dict[str, Callable[[Config, _Preview, int], list[Replaced]]] = {
    "prompts": _prompts,
    "responses": _responses,
    "translations": _translations,
    "scores": _scores,
    "pairs": _pairs,
    "training": _training,
    "evaluation": _evaluation,
    "probe": _probe,
}
