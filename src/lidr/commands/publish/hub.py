"""Send a run to the Hugging Face Hub: model, pairs and report, through the Hub's own client.

What may leave the machine is listed here by name. Everything else of a run stays: checkpoints and other training state,
the judge's replies, answers, caches.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from lidr.cards import Published, RunFacts, data_card, data_files, model_card, read_facts
from lidr.cards.base import given_license
from lidr.config import Config, flatten
from lidr.credentials import known_secrets
from lidr.errors import ConfigError, LidrError, RunError
from lidr.models import check_trained
from lidr.run_dir import RunDir
from lidr.seals import check_sealed, digest, read_seal

if TYPE_CHECKING:
    from huggingface_hub import CommitOperation, HfApi

# A model as `save_pretrained` writes it. No pickles, no optimiser state.
MODEL_FILES = (
    "config.json", "generation_config.json", "model*.safetensors", "model.safetensors.index.json", "tokenizer.json",
    "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "*.model", "vocab.json", "vocab.txt",
    "merges.txt", "chat_template.jinja", "chat_template.json", "processor_config.json", "preprocessor_config.json",
    "*.py", "*.tiktoken", "*.spm", "*.codes",
)  # fmt: skip
# Files about the run; both repositories have them below run/.
DOCUMENTS = ("recipe.yaml", "results.json", "report.html", "report.md", "reproducibility.md", "reproducibility.json")
# Files of an earlier push that a later one removes if it has no such file: transformers would load old weights
# beside new ones, and `load_dataset` has no use for pairs that the card does not name.
_REPLACED = {"model": ("model*.safetensors", "model.safetensors.index.json"), "dataset": ("data/*/iteration_*.jsonl",)}
_SHORTEST_SECRET = 8


class HubError(LidrError):
    """The Hub cannot be reached, or refuses."""


@dataclass(frozen=True, slots=True)
class HubFile:
    """A file: its path in the repository, and its content, which is a file of the run or a text made for the push."""

    path: str
    source: Path | str

    @property
    def size(self) -> int:
        """In bytes."""
        return self.source.stat().st_size if isinstance(self.source, Path) else len(self.source.encode())


@dataclass(frozen=True, slots=True)
class Upload:
    """Everything that goes to one repository; `kept_back` are files beside these that are not sent."""

    repo: str
    kind: Literal["model", "dataset"]
    files: list[HubFile]
    kept_back: list[str] = field(default_factory=list)

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)


@dataclass(frozen=True, slots=True)
class Sent:
    """What was sent to a repository; `commit` is its address. `removed` are files of an earlier push that are gone."""

    upload: Upload
    commit: str
    removed: list[str]


def plan_uploads(config: Config, run: RunDir, iteration: int, published: Published) -> list[Upload]:
    """Which files would go where; reads the run only.

    Raises ConfigError if no repository is named, RunError if there is nothing to send, if model and pairs are of
    different recipes, or if one of the files holds a secret.
    """
    if not published.model_repo and not published.data_repo:
        raise ConfigError("name where it goes: --model-repo org/name, --data-repo org/name, or both")
    facts = read_facts(config, run, iteration)
    documents = [HubFile(f"run/{name}", run.path / name) for name in DOCUMENTS if (run.path / name).is_file()]
    uploads = []
    if published.model_repo:
        uploads.append(_model_upload(facts, run, published, published.model_repo, documents))
    if published.data_repo:
        card = HubFile("README.md", data_card(facts, published))
        files = [HubFile(path, source) for path, source in data_files(facts, run).items()]
        for file in files:
            check_sealed(Path(file.source))
        if not files:
            raise RunError(f"{run.path}: not one pair to send; `lidr pair {run.path}` prints why they were dropped")
        uploads.append(Upload(published.data_repo, "dataset", [card, *files, *documents]))
    _refuse_secrets(config, uploads)
    return uploads


def _model_upload(facts: RunFacts, run: RunDir, published: Published, repo: str, documents: list[HubFile]) -> Upload:
    folder = run.model_folder(facts.iteration)
    seal = read_seal(folder)
    if seal is None:
        raise RunError(f"iteration {facts.iteration} has no trained model yet; `lidr run {run.recipe}` goes on with it")
    if seal.inputs.get("pairs") != digest(run.pair_summary(facts.iteration)):
        raise RunError(f"{folder} was trained on other pairs than those in the run now; `lidr run` makes the two agree")
    check_trained(folder, run.model_cache)
    names = sorted(file.name for file in folder.iterdir() if not file.name.startswith(".") and file.name != "README.md")
    sent = [name for name in names if any(fnmatch(name, pattern) for pattern in MODEL_FILES)]
    if missing := _missing_weights(folder, sent):
        raise RunError(f"{folder}: {missing} is missing; put it back, or leave out --model-repo")
    files = [HubFile(name, folder / name) for name in sent if (folder / name).is_file()]
    card = HubFile("README.md", model_card(facts, published))
    return Upload(repo, "model", [card, *files, *documents], [name for name in names if name not in sent])


def _missing_weights(folder: Path, names: list[str]) -> str:
    """A file of weights that the folder lacks; a push without it would remove the weights from the Hub."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        shards = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        return next((shard for shard in shards if shard not in names), "")
    return "" if "model.safetensors" in names else "model.safetensors"


def check_license(config: Config, published: Published, public: bool) -> None:
    """Raises ConfigError for a public upload without a licence, which nobody may use."""
    if public and given_license(config, published) in (None, "unknown"):
        raise ConfigError(
            "no licence: what is public without one may not be used. Give --license apache-2.0 (or what the base model "
            "and the prompts allow), set about.license in the recipe, or leave out --public"
        )


def own_paths(config: Config) -> list[str]:
    """Paths of this machine in the recipe, which the recipe, the report and the cards show to whoever reads them."""
    values = [value for value in flatten(config.model_dump(mode="json")).values() if isinstance(value, str)]
    return sorted({value for value in values if value.startswith(("/", "~")) and len(value) > 1 and "\n" not in value})


def send(uploads: list[Upload], public: bool, message: str, say: Callable[[str], None]) -> Iterator[Sent]:
    """Send everything, one commit for each repository; new repositories are private unless `public`.

    The token is the Hub client's own: HF_TOKEN or a stored login. Sending the same again changes nothing. Raises
    HubError, before anything is sent if a token is missing or a repository is public that should not be.
    """
    import huggingface_hub

    if huggingface_hub.get_token() is None:
        raise HubError("no token for the Hub; run `hf auth login`, or set HF_TOKEN to one that may write")
    api = huggingface_hub.HfApi()
    existing = {upload.repo + upload.kind: _existing_files(api, upload, public) for upload in uploads}
    for upload in uploads:
        say(f"sending {len(upload.files)} files to {api.endpoint}/{_address(upload)}")
        found = existing[upload.repo + upload.kind]
        if found is None:
            with _hub_errors(upload):
                api.create_repo(upload.repo, repo_type=upload.kind, private=not public)
        stale = _stale(upload, found or [])
        with _hub_errors(upload):
            commit = api.create_commit(
                upload.repo, _operations(upload, stale), commit_message=message, repo_type=upload.kind
            )
        yield Sent(upload, str(commit), stale)


def _existing_files(api: HfApi, upload: Upload, public: bool) -> list[str] | None:
    """The files of a repository, or None if there is none yet."""
    with _hub_errors(upload):
        try:
            found = api.repo_info(upload.repo, repo_type=upload.kind)
        except Exception as error:
            if _status(error) in (401, 404):  # the Hub does not distinguish the two; creating it does
                return None
            raise
    if not found.private and not public:
        raise HubError(
            f"{upload.repo} exists and is public; nothing was sent. Give --public if everybody may see this, "
            "or another name"
        )
    return [file.rfilename for file in found.siblings or []]


def _operations(upload: Upload, stale: list[str]) -> list[CommitOperation]:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    added = [
        CommitOperationAdd(file.path, file.source.encode() if isinstance(file.source, str) else str(file.source))
        for file in upload.files
    ]
    return [*added, *(CommitOperationDelete(path) for path in stale)]


def _stale(upload: Upload, existing: list[str]) -> list[str]:
    sent = {file.path for file in upload.files}
    patterns = _REPLACED[upload.kind]
    return [
        path
        for path in existing
        if path not in sent
        # fnmatch's * crosses folders; what lies deeper is the user's own
        and any(fnmatch(path, pattern) and path.count("/") == pattern.count("/") for pattern in patterns)
    ]


def _address(upload: Upload) -> str:
    return f"datasets/{upload.repo}" if upload.kind == "dataset" else upload.repo


def _status(error: BaseException) -> int | None:
    return getattr(getattr(error, "response", None), "status_code", None)


@contextmanager
def _hub_errors(upload: Upload) -> Iterator[None]:
    """Turn whatever the client raises, which differs by release, into a HubError with a way out."""
    try:
        yield
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        where = f"{upload.kind} {upload.repo}"
        hints = {
            401: "the Hub does not know the token; run `hf auth login` again, or set HF_TOKEN",
            403: f"the token may not write to {upload.repo.partition('/')[0]}; use one that may, or another name",
            404: "there is no such repository, or the token may not see it",
            409: "it exists and the token may not see it, or somebody else is changing it; try again",
            413: "the Hub refuses files of this size",
            429: "too many requests; wait, and run the same command again",
        }
        status = _status(error)
        if status is None and not isinstance(error, ValueError):
            hint = "the Hub cannot be reached; the same command sends what is missing"
        else:
            hint = hints.get(status or 0, "the Hub refused; the same command tries again")
        raise HubError(f"{where}: {hint} ({reason})") from None


def _refuse_secrets(config: Config, uploads: list[Upload]) -> None:
    """Raises RunError if a token or key of this environment is in a text that is to be sent.

    Pairs are not searched: a secret in them would have had to come from the prompts or the model.
    """
    secrets = _secrets(config)
    for upload in uploads:
        for file in upload.files:
            is_pairs_or_model = isinstance(file.source, Path) and not file.path.startswith("run/")
            if is_pairs_or_model or not secrets:
                continue
            text = file.source if isinstance(file.source, str) else file.source.read_text(encoding="utf-8")
            if name := next((name for name, value in secrets.items() if value in text), None):
                raise RunError(f"{file.path} holds the value of {name}; nothing was sent. Take it out of the run first")


def _secrets(config: Config) -> dict[str, str]:
    """Name -> value of the token, of the keys that the recipe names, and of what else the environment holds."""
    import huggingface_hub

    fields = flatten(config.model_dump(mode="json"))
    names = {str(value) for name, value in fields.items() if name.endswith("api_key_env")} | {"HF_TOKEN"}
    found = {name: secret for name in sorted(names) if (secret := os.environ.get(name))}
    if token := huggingface_hub.get_token():
        found.setdefault("the Hub's token", token)
    return {name: value for name, value in (known_secrets() | found).items() if len(value) >= _SHORTEST_SECRET}
