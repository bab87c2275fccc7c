"""Log-probabilities of answers: what engines say of them, and the stage that asks for those that a strategy needs."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from lidr.commands.plan.plan import make_plan
from lidr.config import Config
from lidr.engines import Request, Sampling, open_model
from lidr.engines.base import Scored, ScoreRequest
from lidr.engines.transformers import Transformers
from lidr.engines.transformers.engine import TransformersEngine, segments_of
from lidr.errors import ConfigError
from lidr.lab import MODEL_PATH
from lidr.lab.world import FACTS, question
from lidr.models import end_of_turn_ids, load_model, load_tokenizer
from lidr.preflight import check
from lidr.replacing import find_replaced
from lidr.seals import is_sealed, read_rows, write_sealed
from lidr.stages import scores
from lidr.strategies.base import Likelihood
from tests.conftest import ToyEngine, ToyRun, make_config

ANSWERS = ("The capital of France is Paris.", "No.", "El río Nilo está en África.")
REQUESTS = [
    ScoreRequest(f"{16 * n + m:016x}", (("user", question(fact, code, 0)),), answer, ended=m != 1)
    for n, (fact, code) in enumerate(zip(FACTS[:6], ("en", "es", "fr", "de", "ru", "en"), strict=True))
    for m, answer in enumerate(ANSWERS)
]


@pytest.fixture(scope="module")
def engine() -> Iterator[Any]:
    with open_model(Transformers(device="cpu", dtype="float32", batch_size=4), str(MODEL_PATH)) as found:
        yield found


def by_hand(request: ScoreRequest) -> tuple[float, int]:
    """The sum and the number of the answer's tokens, from the chat template's own text and plain logits."""
    tokenizer, model = load_tokenizer(MODEL_PATH), load_model(MODEL_PATH, dtype=torch.float32).eval()
    messages = [{"role": role, "content": content} for role, content in request.messages]
    template = {"tokenize": True, "return_dict": False}
    prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, **template)
    whole = tokenizer.apply_chat_template([*messages, {"role": "assistant", "content": request.answer}], **template)
    ends = end_of_turn_ids(MODEL_PATH, tokenizer)
    last = next(place for place in range(len(prompt), len(whole)) if whole[place] in ends)
    ids = whole[: last + 1 if request.ended else last]
    with torch.no_grad():
        logps = model(torch.tensor([ids])).logits[0].log_softmax(-1)
    own = range(len(prompt), len(ids))
    return float(sum(logps[place - 1, ids[place]] for place in own)), len(own)


def test_scores_are_those_of_a_plain_pass_over_the_conversation(engine: TransformersEngine) -> None:
    found = {scored.request_id: scored for scored in engine.score(REQUESTS)}
    assert len(found) == len(REQUESTS)
    for request in REQUESTS:
        logp, tokens = by_hand(request)
        assert found[request.request_id].completion_tokens == tokens
        assert found[request.request_id].logp == pytest.approx(logp, abs=2e-3)


def test_what_is_done_is_not_computed_and_the_model_answers_as_before(engine: TransformersEngine) -> None:
    asked, sampling = [Request("01", REQUESTS[0].messages)], Sampling(max_new_tokens=12)
    before = list(engine.generate(asked, sampling))
    done = {request.request_id for request in REQUESTS[:9]}
    first = {scored.request_id: scored for scored in engine.score(REQUESTS)}
    again = {scored.request_id: scored for scored in engine.score(REQUESTS, done) if scored.request_id not in done}
    assert again == {request_id: scored for request_id, scored in first.items() if request_id not in done}
    assert not list(engine.score(REQUESTS, first.keys()))
    assert list(engine.generate(asked, sampling)) == before


def test_an_answer_beyond_the_context_is_an_error_of_its_own(engine: TransformersEngine) -> None:
    long = ScoreRequest("ff", (("user", "Tell me."),), "word " * 5000)
    found = {scored.request_id: scored for scored in engine.score([long, *REQUESTS[:2]])}
    assert found["ff"].logp is None and "the model's context is" in str(found["ff"].error)
    assert found[REQUESTS[0].request_id].logp is not None


def test_segments_keep_to_the_budget() -> None:
    answers = [(f"{n:02x}", [1] * (n % 3 + 1), [2] * 5) for n in range(30)]
    segments = list(segments_of(answers, 20))
    assert sorted(request_id for _, found in segments for request_id in found) == [name for name, _, _ in answers]
    assert all(len(prompt) + 5 * len(found) <= 20 for prompt, found in segments)


# --- the stage --------------------------------------------------------------------------------------------------------

STRATEGY = """
from lidr.strategies.base import Candidate, Likelihood, Strategy, direct
class Mine(Strategy):
    models: list[str] = ["policy", "initial"]
    def scorers(self, config): return self.models
    def needs_initial(self, config): return True
    def scores(self, answers, config):
        return [Likelihood(name, "en", code) for code in answers.responses for name in self.models]
    def candidates(self, answers, config):
        for code, found in answers.responses.items():
            assert answers.initial[code] == found  # iteration 1 is M_0's
            assert {key.model for key in answers.scores} == set(self.models)
            side = direct(answers, code, config)
            yield Candidate(answers.prompt_id, code, "mine", answers.prompts[code], side, side)
"""


class ScoringToy(ToyEngine):
    """Scores by rule: minus the answer's words."""

    def score(self, requests: Iterable[ScoreRequest], done: Collection[str] = frozenset()) -> Iterator[Scored]:
        for request in reversed(list(requests)):
            if request.request_id not in done:
                if self.stop_after is not None and len(self.asked) >= self.stop_after:
                    raise ConnectionError("the engine died")
                self.asked.append(request)  # type: ignore[arg-type]
                yield Scored(request.request_id, -float(len(request.answer.split())), len(request.answer))


@pytest.fixture
def strategy(tmp_path: Path) -> str:
    file = tmp_path / "mine.py"
    file.write_text(STRATEGY, encoding="utf-8")
    return f"{file}:Mine"


def config_of(toy_run: ToyRun, strategy: str, **changes: Any) -> Config:
    return make_config(toy_run.prompts, pairs={"strategy": {"type": strategy, **changes}})


def test_a_killed_stage_goes_on_and_one_model_with_two_names_is_asked_once(toy_run: ToyRun, strategy: str) -> None:
    config = config_of(toy_run, strategy)
    toy_run.run("prompts", "responses", config=config)
    dying = toy_run.use(ScoringToy(stop_after=10))
    with pytest.raises(ConnectionError):
        toy_run.run("scores", config=config)
    rest = toy_run.use(ScoringToy())
    toy_run.run("scores", "pairs", config=config)
    assert len(dying.asked) == 10 and len(rest.asked) == 24 - 10
    assert scores.files(config, toy_run.run_dir, 1).keys() == {"policy", "initial"}
    [file] = set(scores.files(config, toy_run.run_dir, 1).values())
    rows = list(read_rows(file))
    assert [row["prompt_id"] for row in rows] == [f"p{n}" for n in range(6) for _ in range(4)]
    assert {row["given"] for row in rows} == {"en"} and {row["logp"] for row in rows} != {None}

    whole = file.read_bytes()
    file.unlink()
    toy_run.run("scores", config=config)
    assert file.read_bytes() == whole


def test_scores_stay_if_only_the_strategy_changes(toy_run: ToyRun, strategy: str) -> None:
    toy_run.run("prompts", "responses", config=config_of(toy_run, strategy))
    toy_run.use(ScoringToy())
    toy_run.run("scores", "pairs", config=config_of(toy_run, strategy))
    changed = config_of(toy_run, strategy, models=["initial"])
    again = toy_run.use(ScoringToy())
    toy_run.run("scores", "pairs", config=changed)
    assert again.asked == []
    [file] = scores.files(changed, toy_run.run_dir, 1).values()
    assert all(is_sealed(*output) for output in scores.outputs(changed, toy_run.run_dir, 1)) and file.exists()


def test_a_score_file_that_is_gone_is_no_loss_of_what_came_after(toy_run: ToyRun, strategy: str) -> None:
    config = config_of(toy_run, strategy)
    toy_run.use(ScoringToy())
    toy_run.run("prompts", "responses", "scores", "pairs", config=config)
    [file] = set(scores.files(config, toy_run.run_dir, 1).values())
    file.unlink()
    assert find_replaced(config, toy_run.run_dir) == []


@pytest.mark.parametrize(("key", "says"), [
    ("Likelihood('other', 'en', code)", "'other', which its scorers leave out"),
    ("Likelihood('policy', 'xx', code)", "makes no such answer"),
    ("Likelihood('policy', 'en', 'en-es')", "makes no such answer"),
    ("Likelihood('policy', 'en', code, 1)", "makes no such answer"),
])  # fmt: skip
def test_what_no_prompt_can_have_is_refused(toy_run: ToyRun, strategy: str, key: str, says: str) -> None:
    file = Path(strategy.partition(":")[0])
    file.write_text(STRATEGY.replace('Likelihood(name, "en", code)', key), encoding="utf-8")
    config = config_of(toy_run, strategy)
    toy_run.use(ScoringToy())
    toy_run.run("prompts", "responses", config=config)
    with pytest.raises(ConfigError, match=says):
        toy_run.run("scores", config=config)


def test_answers_that_failed_are_not_scored(toy_run: ToyRun, strategy: str) -> None:
    config = config_of(toy_run, strategy, models=["policy"])
    toy_run.run("prompts", "responses", config=config)
    responses = toy_run.run_dir.responses(1, "es")
    without = [
        row | {"text": None, "error": "empty"} if row["prompt_id"] == "p2" else row for row in read_rows(responses)
    ]
    write_sealed(responses, {}, [json.dumps(row) for row in without])
    engine = toy_run.use(ScoringToy())
    toy_run.run("scores", config=config)
    assert len(engine.asked) == 23


@pytest.mark.parametrize(
    ("models", "says"), [(["nowhere"], "'nowhere', which is not policy, initial"), ([], "leave out")]
)
def test_a_model_that_is_none_is_named(toy_run: ToyRun, strategy: str, models: list[str], says: str) -> None:
    config = config_of(toy_run, strategy, models=models)
    toy_run.use(ScoringToy())
    toy_run.run("prompts", "responses", config=config)
    if models:
        with pytest.raises(ConfigError, match=says):
            scores.outputs(config, toy_run.run_dir, 1)
    else:
        assert scores.outputs(config, toy_run.run_dir, 1) == []


def test_a_server_is_refused_before_anything_is_spent(toy_run: ToyRun, strategy: str) -> None:
    server = {"type": "openai", "launch": "python {model} {port}"}
    config = make_config(toy_run.prompts, pairs={"strategy": strategy}, engine=server, iterations=1)
    with pytest.raises(ConfigError, match=r"needs log-probabilities of answers, which engine.type openai does not"):
        check(config, toy_run.run_dir)


def test_the_plan_counts_one_model_once(toy_run: ToyRun, strategy: str, tmp_path: Path) -> None:
    pairs = {"strategy": {"type": strategy, "models": ["policy", "initial", "reference"]}}
    config = make_config(toy_run.prompts, pairs=pairs, iterations=3)
    steps = [step for step in make_plan(config, None, tmp_path / "planned").steps if step.name == "score"]
    assert [(step.iterations, step.requests) for step in steps] == [([1], 24), ([2, 3], 48)]
    assert Likelihood("policy", "en", "es") != Likelihood("policy", "es", "es")
