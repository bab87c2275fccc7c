"""Step 3: the same model brings its own answers into another language, y_i^{d->l} and y_i^{l->d}.

It translates them, or (`translations.guided`) answers the prompt in the other language after seeing them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from functools import cache, partial
from pathlib import Path
from typing import Any

from lidr.config import Config
from lidr.engines import Completion, Request, open_engine
from lidr.languages import get_language
from lidr.records import Json, Translation, content_id
from lidr.run_dir import Model, RunDir
from lidr.seals import Inputs, Outputs, RowFile, digest
from lidr.stages.answers import read_answers
from lidr.stages.generation import FORMAT, Part, chat, fill, sampling_of
from lidr.strategies.base import direct, strategy_of, translated_sample
from lidr.templates import fill_template, read_template
from lidr.thinking import split_thinking

Fields = dict[str, Any]  # what is kept of a translation: its text, failure, recovered and tokens

PREFILL = "<translated>\n"
STOP = "</translated>"
_TAGS = ("<translated>", "<sentence>", "</sentence>")
_MENDABLE = ("translation_cut_off", "translation_unparsed")  # failures that a translation by paragraphs may avoid
# Of 1,112 answers that Qwen2.5-Coder-0.5B translated out of English, 404 came back as their last sentence alone, with
# under a fifth of their characters, and 177 unchanged (docs/evidence). Chinese needs a third of English's characters.
_SHORTEST = 0.2


def inputs(config: Config, run: RunDir, iteration: int, source: str, target: str) -> Inputs:
    """Everything that the translations of one direction depend on."""
    gates = config.pairs.gates
    return {
        "format": FORMAT,
        "model": run.model(config, iteration - 1).fingerprint,
        "prompts": digest(run.prompts(iteration)),
        "responses": digest(run.responses(iteration, source)),
        "template": content_id(request_template(config), *(() if config.translations.guided else (PREFILL, STOP))),
        "system_prompt": config.system_prompt,
        "translations": config.translations.model_dump(),
        "dominant": config.dominant,
        "dominant_rejected": config.pairs.dominant_rejected,
        "gates": {"truncated": gates.truncated, "translation_tasks": gates.translation_tasks},
        "strategy": strategy_of(config).translation_identity(),
        "rescued": [_SHORTEST, *_MENDABLE],
        "seed": config.seed,
    }


def request_template(config: Config) -> str:
    """The request for a translation, or for a guided answer."""
    if config.translations.guided:
        return read_template("guided")
    return read_template("translate_text_first" if config.translations.text_first else "translate")


def outputs(config: Config, run: RunDir, iteration: int) -> Outputs:
    return [
        (run.translations(iteration, *pair), inputs(config, run, iteration, *pair))
        for pair in strategy_of(config).directions(config)
    ]


def run(config: Config, run_dir: RunDir, iteration: int) -> None:
    """Translate what is owed, and seal each direction's file.

    All directions are one queue. Whole answers come first; then the failed ones are translated by their paragraphs.
    """
    model = run_dir.checked_model(config, iteration - 1)
    owed = []
    for source, target in strategy_of(config).directions(config):
        made_from = inputs(config, run_dir, iteration, source, target)
        file = RowFile(run_dir.translations(iteration, source, target), made_from)
        if not file.sealed:
            owed.append(_Direction(config, run_dir, iteration, source, target, model, file))
    guided = config.translations.guided
    parse = parse_guided if guided else partial(parse_translation, recover=config.translations.recover)
    sampling = sampling_of(config, config.translations, stop=() if guided else (STOP,))
    title = f"{run_dir.title(iteration)}  translate"
    with ExitStack() as stack:
        engine = cache(lambda: stack.enter_context(open_engine(config, model.folder)))
        fill([Part(each.file, each.requests, parse, each.log) for each in owed], engine, sampling, title)
        broken = [each for each in owed if any(True for _ in each.pieces())]
        parts = [Part(each.paragraphs, each.pieces, parse, each.log) for each in broken]
        fill(parts, engine, sampling, f"{title} (paragraphs)")
    for each in owed:
        each.file.seal(each.rows())
        each.paragraphs.discard()


def paragraphs_path(path: Path) -> Path:
    """Where the paragraphs of answers to be rescued are kept while a direction is translated."""
    return path.with_name(f"{path.stem}.paragraphs.jsonl")


def asked_ids(config: Config, run: RunDir, iteration: int, source: str, target: str) -> Iterator[str]:
    """The ids of the translations that an iteration needs in one direction, in their order."""
    file = RowFile(run.translations(iteration, source, target), {})
    direction = _Direction(config, run, iteration, source, target, run.model(config, iteration - 1), file)
    return (request.request_id for request in direction.requests())


class _Direction:
    """One direction: the requests for whole answers, those for paragraphs, and the rows made of both."""

    def __init__(
        self, config: Config, run_dir: RunDir, iteration: int, source: str, target: str, model: Model, file: RowFile
    ) -> None:
        self.config, self.run_dir, self.iteration = config, run_dir, iteration
        self.source, self.target, self.model, self.guided = source, target, model, config.translations.guided
        self.file, self.paragraphs = file, RowFile(paragraphs_path(file.path), {})

    def log(self, done: Json) -> None:
        direction = f"{self.source}->{self.target}"
        self.run_dir.log("stage", iteration=self.iteration, stage="translations", direction=direction, **done)

    def _asked(self) -> Iterator[tuple[Request, str, str]]:
        """(request, prompt id, source text) of every answer to be translated."""
        settings = {"translations": self.config.translations.model_dump(), "system": self.config.system_prompt}
        strategy = strategy_of(self.config)
        for answers in read_answers(self.config, self.run_dir, self.iteration, [self.source]):
            if (self.source, self.target) not in strategy.translations(answers, self.config):
                continue
            sample = translated_sample(answers, self.source, self.config)
            answer = direct(answers, self.source, self.config, sample)
            if answer.text is None or answer.problem:
                continue
            turns = [answers.prompts[self.source].text, answers.prompts[self.target].text] if self.guided else []
            row_id = content_id(
                FORMAT, self.model.fingerprint, answers.prompt_id, answer.text, self.source, self.target, settings,
                request_template(self.config), self.config.seed, *turns,
            )  # fmt: skip
            request = self._guide(row_id, answer.text, *turns) if turns else self._translate(row_id, answer.text)
            yield request, answers.prompt_id, answer.text

    def _guide(self, row_id: str, text: str, source_prompt: str, target_prompt: str) -> Request:
        """A conversation: the prompt and the answer in the source language, then the prompt in the target language."""
        values = {"language": get_language(self.target).name, "prompt": target_prompt}
        request = fill_template(request_template(self.config), **values)
        return Request(row_id, (*chat(self.config, source_prompt), ("assistant", text), ("user", request)))

    def _translate(self, row_id: str, text: str) -> Request:
        content = fill_template(request_template(self.config), language=get_language(self.target).name, text=text)
        return Request(row_id, chat(self.config, content), prefill=PREFILL)

    def requests(self) -> Iterator[Request]:
        return (request for request, _, _ in self._asked())

    def pieces(self) -> Iterator[Request]:
        """One request per paragraph of every answer that is to be rescued."""
        for request, _, text in self._asked():
            if self._rescued(self.file.row(request.request_id), text):
                for number, paragraph in enumerate(split_paragraphs(text)[0::2]):
                    yield self._translate(content_id(request.request_id, number), paragraph)

    def _rescued(self, row: Fields, text: str) -> bool:
        """Whether an answer is translated again by its paragraphs, of which it needs two."""
        if self.guided or row.get("paragraph_tokens") is not None:  # tried before
            return False
        if row["text"] is None:
            lost = row["failure"] in _MENDABLE
        else:
            lost = shortened(row["text"], text) or row["text"] == text.strip()
        return lost and self.config.translations.recover and len(split_paragraphs(text)) > 1

    def rows(self) -> Iterator[Translation]:
        for request, prompt_id, text in self._asked():
            row = self.file.row(request.request_id)
            if self._rescued(row, text):
                made = self._joined(request.request_id, text) or given_up(row, text)
                paragraphs = self._paragraph_tokens(request.request_id, text)
                row = made | {"tokens": row.get("tokens", 0), "paragraph_tokens": paragraphs}
            yield Translation(request.request_id, prompt_id, self.source, self.target, **row)

    def _paragraph_tokens(self, row_id: str, text: str) -> int:
        pieces = range(len(split_paragraphs(text)[0::2]))
        return sum(self.paragraphs.row(content_id(row_id, number)).get("tokens", 0) for number in pieces)

    def _joined(self, row_id: str, text: str) -> Fields | None:
        """The paragraphs' translations, joined; None if one of them failed or the whole is still too short."""
        parts = split_paragraphs(text)
        for number in range(0, len(parts), 2):
            piece = self.paragraphs.row(content_id(row_id, number // 2))["text"]
            if piece is None:
                return None
            parts[number] = piece
        joined = "".join(parts)
        return None if shortened(joined, text) else {"text": joined, "failure": None, "recovered": "paragraphs"}


def shortened(translation: str, text: str) -> bool:
    """Whether a translation is too short for `text` in any language, such as a summary or its last line."""
    return len(translation) < _SHORTEST * len(text)


def given_up(row: Fields, text: str) -> Fields:
    """A row that its paragraphs could not rescue. Unchanged text is kept: translated code often equals its source."""
    if row["text"] is not None and shortened(row["text"], text):
        return {"text": None, "failure": "translation_shortened", "recovered": None}
    return row


def parse_translation(completion: Completion, recover: bool = True) -> Fields:
    """The translation in a completion of the tag protocol, or the reason why there is none.

    The assistant's turn was begun with `<translated>`; generation stopped at the closing tag. A turn that ended
    without the closing tag is accepted when `recover` is on: 7.8 % of Llama-3's en->fr translations lacked it.
    """
    text = completion.text.strip().removeprefix("<translated>").strip()
    failure = recovered = None
    spoiled = any(tag in text for tag in _TAGS) or split_thinking(text).thinking
    if completion.finish_reason == "error":
        failure = "translation_error"
    elif completion.finish_reason == "length":
        failure = "translation_cut_off"
    elif not text:
        failure = "translation_empty"
    elif spoiled or (completion.stopped_by is None and not recover):
        failure = "translation_unparsed"
    elif completion.stopped_by is None:
        recovered = "unclosed"
    return _fields(completion, text, failure, recovered)


def parse_guided(completion: Completion) -> Fields:
    """The guided answer in a completion, or the reason why there is none."""
    text = completion.text.strip()
    failures = {"error": "translation_error", "length": "translation_cut_off"}
    failure = failures.get(completion.finish_reason) or (None if text else "translation_empty")
    return _fields(completion, text, failure)


def _fields(completion: Completion, text: str, failure: str | None, recovered: str | None = None) -> Fields:
    kept = None if failure else text
    return {"text": kept, "failure": failure, "recovered": recovered, "tokens": completion.completion_tokens}


def split_paragraphs(text: str) -> list[str]:
    """Paragraphs at even places and the blank lines between them at odd ones; single lines if there is no blank one.

    `"".join` of the result gives the text again. A text of one line comes back whole.
    """
    text = text.strip()
    parts = re.split(r"(\n[ \t]*(?:\n[ \t]*)+)", text)
    return parts if len(parts) > 1 else re.split(r"(\n+)", text)
