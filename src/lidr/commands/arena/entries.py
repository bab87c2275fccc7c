"""Who takes part: names of strategies, or a YAML file with names of one's own and what each sets in the recipe."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lidr.config import Config, changes, dump_config, load_config
from lidr.errors import ConfigError, RunError
from lidr.run_dir import RunDir
from lidr.storage import write_text
from lidr.yaml_input import read_mapping

REFERENCE = "imbalance"  # the method, which the others are compared with
SFT = "sft"  # training on the chosen sides of the method's pairs alone
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
# What an entry may set: all else is the same for everybody, or it would be no comparison.
_SECTIONS = ("pairs", "responses", "training", "translations")
_WHOLE = ("pairs.strategy",)  # a value with a type and settings of its own


@dataclass(frozen=True, slots=True)
class Entry:
    """One that takes part: its name, which is that of its folder, and the fields of the recipe that it sets."""

    name: str
    settings: Mapping[str, object]

    @property
    def overrides(self) -> list[str]:
        """For `load_config`."""
        return [f"{field}={json.dumps(value)}" for field, value in self.settings.items()]


def read_entries(given: str) -> list[Entry]:
    """The entries of `--strategies`: names with commas, or a YAML file `name: {field: value}`; the method comes first.

    Raises ConfigError for a name that occurs twice or cannot be a folder's, and for fields that all must share.
    """
    entries = _from_file(Path(given)) if given.endswith((".yaml", ".yml")) else _from_names(given)
    names = [entry.name for entry in entries]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ConfigError(f"--strategies: {twice} is named twice; a YAML file gives each a name of its own")
    reference = next((entry for entry in entries if entry.name == REFERENCE), _entry(REFERENCE))
    if reference != _entry(REFERENCE):
        raise ConfigError(f"--strategies: {REFERENCE} is the method itself; give the entry with settings another name")
    return [reference, *(entry for entry in entries if entry.name != REFERENCE)]


def _from_names(given: str) -> list[Entry]:
    names = [name.strip() for name in given.split(",") if name.strip()]
    if not names:
        raise ConfigError("--strategies: names none; for example --strategies sft,verified_majority,random_sides")
    return [_entry(name) for name in names]


def _entry(name: str) -> Entry:
    """A strategy by its name, `path/file.py:Name` of one's own, or `sft`."""
    if name == SFT:
        return Entry(SFT, {"pairs.strategy": REFERENCE, "training.objective": "sft"})
    short = name.rpartition(":")[2] if ":" in name else Path(name).stem
    return Entry(_checked(short), {"pairs.strategy": name})


def _from_file(path: Path) -> list[Entry]:
    entries = []
    for name, settings in read_mapping(path).items():
        if not isinstance(settings, dict) or not settings:
            raise ConfigError(f"{path}: {name}: name what it sets, for example {{pairs.strategy: best_of_n}}")
        fields = dict(field for key, value in settings.items() for field in _fields(str(key), value))
        for field in fields:
            if field.partition(".")[0] not in _SECTIONS:
                raise ConfigError(
                    f"{path}: {name}: {field} is the same for all; an entry may set fields of {', '.join(_SECTIONS)}"
                )
        entries.append(Entry(_checked(name), fields))
    if not entries:
        raise ConfigError(f"{path}: no entries; write one as `name: {{pairs.strategy: best_of_n}}`")
    return entries


def _fields(name: str, value: object) -> Iterator[tuple[str, object]]:
    """Single fields with dotted names: a section that is given whole would lose the recipe's other fields of it."""
    if isinstance(value, dict) and name not in _WHOLE:
        for key, inner in value.items():
            yield from _fields(f"{name}.{key}", inner)
    else:
        yield name, value


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ConfigError(f"--strategies: {name!r} is no name for an entry: use letters, digits, _ and -")
    return name


@dataclass(frozen=True, slots=True)
class Arena:
    """A comparison: what everybody has in common, the entries, the number of seeds, and where it lives.

    `budget` is in tokens that are generated or scored per iteration; None takes what the method uses.
    """

    folder: Path
    base: Config
    entries: tuple[Entry, ...]
    seeds: int
    budget: int | None = None

    @property
    def recipe(self) -> Path:
        """The copy of the recipe from which all runs are made, so that a file edited meanwhile changes nothing."""
        return self.folder / "arena.yaml"

    @property
    def all_seeds(self) -> list[int]:
        """The recipe's seed and those after it."""
        return list(range(self.base.seed, self.base.seed + self.seeds))

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Be the only one that works in the folder, which is made if it is missing.

        Raises RunError if the folder holds something else or is in use, ConfigError if the arena has another recipe.
        """
        files = [file for file in self.folder.glob("*") if not file.name.startswith(".")]
        if files and not self.recipe.exists():
            raise RunError(f"{self.folder} is not empty and holds no arena; give another --out")
        self.folder.mkdir(parents=True, exist_ok=True)
        with RunDir(self.folder).lock():
            if self.recipe.exists():
                kept = load_config(self.recipe).model_dump(mode="json")
                if changed := changes(kept, self.base.model_dump(mode="json")):
                    raise ConfigError(
                        f"{self.folder}: this arena was begun with another recipe ({'; '.join(changed[:3])}); go on "
                        "with that one, or give another --out"
                    )
            write_text(self.recipe, dump_config(self.base))
            yield

    def config(self, entry: Entry, seed: int, prompts: int | None, *more: str) -> Config:
        """The recipe of one run; `prompts` is how many its budget pays for, None the recipe's own number.

        Nothing is held out of training: who has few prompts would lose more of them.
        """
        limit = [] if prompts is None else [f"prompts.limit={prompts}"]
        name = f"name={self.base.name}-{entry.name}-{seed}"
        settings = ["training.held_out=0", *entry.overrides, f"seed={seed}", name, *more, *limit]
        return load_config(self.recipe, settings)

    def run_path(self, entry: Entry, seed: int) -> Path:
        return self.folder / f"seed_{seed}" / entry.name

    def pilot_path(self, entry: Entry) -> Path:
        return self.folder / "pilots" / entry.name
