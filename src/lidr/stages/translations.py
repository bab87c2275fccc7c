"""Step 3: the same model brings its own answers into another language, y_i^{d->l} and y_i^{l->d}.

It translates them, or (`Translating.guided`) answers the prompt in the other language after seeing them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

from lidr.config import Config
from lidr.engines import Completion, Request, Sampling, open_engine
from lidr.records import Json, Translation, content_id
from lidr.run_dir import Model, RunDir
from lidr.seals import Inputs, Outputs, RowFile, digest
from lidr.stages.answers import read_answers
from lidr.stages.generation import FORMAT, Part, chat, fill, sampling_of
from lidr.strategies.base import all_translating, direct, strategy_of, translated_sample, translating_of
from lidr.strategies.translating import PREFILL, STOP, Translating
from lidr.thinking import split_thinking

Fields = dict[str, Any]  # what is kept of a translation: its text, failure, recovered and tokens

_TAGS = ("<translated>", "<sentence>", "</sentence>")
_MENDABLE = ("translation_cut_off", "translation_unparsed")  # failures that a translation by paragraphs may avoid
# Of 1,112 answers that Qwen2.5-Coder-0.5B translated out of English, 404 came back as their last sentence alone, with
# under a fifth of their characters, and 177 unchanged (docs/evidence). Chinese needs a third of English's characters.
_SHORTEST = 0.2


def inputs(config: Config, run: RunDir, iteration: int, source: str, target: str) -> Inputs:
    """Everything that the translations of one direction depend on."""
    gates, way = config.pairs.gates, translating_of(config)
    return {
        "format": FORMAT,
        "model": run.model(config, iteration - 1).fingerprint,
        "prompts": digest(run.prompts(iteration)),
        "responses": digest(run.responses(iteration, source)),
        "template": content_id(way.template, *(() if way.guided else (PREFILL, STOP))),
        "system_prompt": config.system_prompt,
        "translations": config.translations.model_dump() | {"guided": way.guided},
        "dominant": config.dominant,
        "dominant_rejected": config.pairs.dominant_rejected,
        "gates": {"truncated": gates.truncated, "translation_tasks": gates.translation_tasks},
        "strategy": strategy_of(config).translation_identity(),
        "rescued": [_SHORTEST, *_MENDABLE],
        "seed": config.seed,
    }


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
    guided = translating_of(config).guided
    parse = parse_guided if guided else partial(parse_translation, recover=config.translations.recover)
    ways = list(dict.fromkeys(sampling for each in owed for _, sampling in each.ways))
    title = f"{run_dir.title(iteration)}  translate"
    with ExitStack() as stack:
        engine = cache(lambda: stack.enter_context(open_engine(config, model.folder)))
        parts = [Part(each.file, each.requests, parse, each.log, requests_of=each.requests) for each in owed]
        fill(parts, engine, ways, title)
        broken = [each for each in owed if any(True for _ in each.pieces())]
        parts = [Part(each.paragraphs, each.pieces, parse, each.log, requests_of=each.pieces) for each in broken]
        fill(parts, engine, ways, f"{title} (paragraphs)")
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


@dataclass(frozen=True, slots=True)
class _Asked:
    """The request for a translation of the answer `text`, which has number `sample`, and how it is made."""

    request: Request
    prompt_id: str
    text: str
    sample: int
    translating: Translating
    sampling: Sampling


class _Direction:
    """One direction: the requests for whole answers, those for paragraphs, and the rows made of both."""

    def __init__(
        self, config: Config, run_dir: RunDir, iteration: int, source: str, target: str, model: Model, file: RowFile
    ) -> None:
        self.config, self.run_dir, self.iteration = config, run_dir, iteration
        self.source, self.target, self.model = source, target, model
        self.file, self.paragraphs = file, RowFile(paragraphs_path(file.path), {})
        ways = all_translating(config)  # by part of the strategy
        self.ways = [(way, sampling_of(config, way.decoding, way.stop)) for way in ways]
        self.settings = [
            {"translations": way.decoding.model_dump() | {"guided": way.guided}, "system": config.system_prompt}
            for way in ways
        ]

    def log(self, done: Json) -> None:
        direction = f"{self.source}->{self.target}"
        self.run_dir.log("stage", iteration=self.iteration, stage="translations", direction=direction, **done)

    def _asked(self) -> Iterator[_Asked]:
        """Every translation to be made. The number of samples is not in a row's id: more of them keep the first."""
        strategy = strategy_of(self.config)
        for answers in read_answers(self.config, self.run_dir, self.iteration, [self.source]):
            if (self.source, self.target) not in strategy.translations(answers, self.config):
                continue
            chosen = translated_sample(answers, self.source, self.config)
            answer = direct(answers, self.source, self.config, chosen)
            if answer.text is None or answer.problem:
                continue
            part = strategy.part_of(answers.prompt_id, self.config)
            way, sampling = self.ways[part]
            turns = [answers.prompts[code].text for code in (self.source, self.target) if way.guided]
            defining = (
                FORMAT, self.model.fingerprint, answers.prompt_id, answer.text, self.source, self.target,
                self.settings[part], way.template, self.config.seed, *turns,
            )  # fmt: skip
            for sample in range(way.samples):
                row_id = content_id(*defining, *([sample] if sample else []))
                request = self._request(row_id, way, answer.text, turns)
                yield _Asked(request, answers.prompt_id, answer.text, sample, way, sampling)

    def _request(self, row_id: str, way: Translating, text: str, turns: Sequence[str] = ()) -> Request:
        """The request for a translation or, with the prompt in both languages as `turns`, for a guided answer.

        That is a conversation: the prompt and the answer in the source language, then the prompt in the other one.
        """
        if not turns:
            return Request(row_id, chat(self.config, way.request(text, self.target)), prefill=PREFILL)
        before, now = turns
        request = way.request(now, self.target)
        return Request(row_id, (*chat(self.config, before), ("assistant", text), ("user", request)))

    def requests(self, sampling: Sampling | None = None) -> Iterator[Request]:
        """One request per whole answer and sample, of all or of those that are decoded in one way."""
        return (asked.request for asked in self._asked() if sampling in (None, asked.sampling))

    def pieces(self, sampling: Sampling | None = None) -> Iterator[Request]:
        """One request per paragraph of every translation that is to be rescued."""
        for asked in self._asked():
            row_id, is_meant = asked.request.request_id, sampling in (None, asked.sampling)
            if is_meant and self._rescued(self.file.row(row_id), asked):
                for number, paragraph in enumerate(split_paragraphs(asked.text)[0::2]):
                    yield self._request(content_id(row_id, number), asked.translating, paragraph)

    def _rescued(self, row: Fields, asked: _Asked) -> bool:
        """Whether an answer is translated again by its paragraphs, of which it needs two."""
        text = asked.text
        if asked.translating.guided or row.get("paragraph_tokens") is not None:  # tried before
            return False
        if row["text"] is None:
            lost = row["failure"] in _MENDABLE
        else:
            lost = shortened(row["text"], text) or row["text"] == text.strip()
        return lost and self.config.translations.recover and len(split_paragraphs(text)) > 1

    def rows(self) -> Iterator[Translation]:
        for asked in self._asked():
            row_id, text = asked.request.request_id, asked.text
            row = self.file.row(row_id)
            if self._rescued(row, asked):
                made = self._joined(row_id, text) or given_up(row, text)
                paragraphs = self._paragraph_tokens(row_id, text)
                row = made | {"tokens": row.get("tokens", 0), "paragraph_tokens": paragraphs}
            yield Translation(row_id, asked.prompt_id, self.source, self.target, **row, sample=asked.sample)

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
