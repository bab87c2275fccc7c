"""The ray engine on a cluster of two nodes: every answer once, through workers and nodes that die."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from lidr.engines import plugin_of
from lidr.engines.base import Completion, Engine, Request, Sampling, ScoreRequest
from lidr.engines.ray import Ray
from lidr.engines.transformers import Transformers
from lidr.engines.transformers import engine as transformers_engine
from lidr.engines.transformers.engine import TransformersEngine
from lidr.errors import EngineError
from lidr.lab import MODEL_PATH
from tests.engines.test_engine import GREEDY, REQUESTS, by_id

ray = pytest.importorskip("ray")
from ray import cloudpickle  # noqa: E402
from ray.cluster_utils import Cluster  # noqa: E402

from lidr.engines.ray import engine as ray_engine  # noqa: E402
from lidr.engines.ray.engine import RayEngine, cut, together  # noqa: E402

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import the tests


class ToyWorker:
    """Answers with the question; notes in the model's folder what it was asked. Some questions are too much for it."""

    def __init__(self, make_engine: partial[Engine]) -> None:
        self.folder = Path(make_engine.args[0])

    def load(self) -> None:
        if (self.folder / "damaged").exists():
            os._exit(1)

    def answer(self, requests: list[Request], sampling: Sampling, done: frozenset[str]) -> Iterator[list[Completion]]:
        yield from together(self.answered(requests, done))

    def answered(self, requests: list[Request], done: frozenset[str]) -> Iterator[Completion]:
        for request in requests:
            if request.request_id not in done:
                with open(self.folder / "asked", "a") as asked:
                    asked.write(f"{request.request_id}\n")
                content = request.messages[-1][1]
                if content == "die" or (content == "die once" and not (self.folder / "died").exists()):
                    (self.folder / "died").touch()
                    os._exit(1)
                if content == "refuse":
                    raise EngineError("engine.worker: the way out")
                if content == "divide":
                    1 // 0  # noqa: B018
                time.sleep(0.02 if content == "slow" else 0)
                yield Completion(request.request_id, content, "stop")

    def close(self) -> None:
        (self.folder / "closed").touch()


def ray_of(folder: Path, settings: Ray) -> RayEngine:
    return RayEngine(settings, partial(plugin_of(settings.worker).open, str(folder), False))


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    node = {"num_cpus": 3, "num_gpus": 0, "object_store_memory": 80 * 2**20}
    cluster = Cluster(initialize_head=True, head_node_args=node | {"include_dashboard": False})
    cluster.add_node(**node)
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    yield cluster
    ray.shutdown()
    cluster.shutdown()


@pytest.fixture(scope="module")
def toys(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayEngine]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ray_engine, "_Worker", ToyWorker)
        engine = ray_of(tmp_path_factory.mktemp("toy"), config(batch_size=2))
        yield engine
        engine.close()


@pytest.fixture
def toy(toys: RayEngine) -> RayEngine:
    """Two toy workers that have not been asked anything; a piece has 2 to 16 requests."""
    for file in Path(toys.make_engine.args[0]).iterdir():
        file.unlink()
    return toys


def config(batch_size: int, **settings: Any) -> Ray:
    worker = Transformers(device="cpu", dtype="float32", batch_size=batch_size)
    return Ray.model_validate({"worker": worker, "workers": 2} | settings)


def ask(number: int, content: str | None = None) -> Request:
    return Request(f"{number:016x}", (("user", content or f"question {number}"),))


def pids(engine: RayEngine) -> list[int]:
    return [ray.get(seat.actor.__ray_call__.remote(lambda worker: os.getpid())) for seat in engine.seats]


def asked(engine: RayEngine) -> Counter[str]:
    return Counter(Path(engine.make_engine.args[0], "asked").read_text().split())


def wait_for(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


def is_running(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.fixture
def lab(cluster: Cluster) -> Iterator[RayEngine]:
    engine = ray_of(MODEL_PATH, config(batch_size=4))
    yield engine
    engine.close()


def test_workers_answer_as_one_engine_does_and_give_all_back(lab: RayEngine) -> None:
    alone = TransformersEngine(MODEL_PATH, Transformers(device="cpu", dtype="float32", batch_size=4))
    greedy = by_id(alone.generate(REQUESTS, GREEDY))
    completions = list(lab.generate(REQUESTS, GREEDY))
    assert len(completions) == len(REQUESTS) and by_id(iter(completions)) == greedy
    done = {request.request_id for request in REQUESTS[::2]}
    rest = by_id(lab.generate(REQUESTS, GREEDY, done))
    assert rest == {request_id: made for request_id, made in greedy.items() if request_id not in done}

    warm = Sampling(20, temperature=3.0, seed=1)
    sampled = by_id(lab.generate(REQUESTS, warm))
    assert sampled == by_id(alone.generate(REQUESTS, warm))
    assert sampled != by_id(lab.generate(REQUESTS, replace(warm, seed=2)))

    given = [ScoreRequest(request.request_id, request.messages, "Yes.") for request in REQUESTS]
    assert {each.request_id: each for each in lab.score(given)} == {
        each.request_id: replace(each, logp=pytest.approx(each.logp, abs=1e-3)) for each in alone.score(given)
    }

    with pytest.raises(EngineError, match=r"the engine of a worker failed: TypeError(?s:.*)transformers/engine.py"):
        list(lab.generate(REQUESTS, replace(GREEDY, max_new_tokens="many")))  # type: ignore[arg-type]

    processes = pids(lab)
    lab.close()
    assert ray.is_initialized()  # it was before
    wait_for(lambda: not any(map(is_running, processes)))


TRAINING = """
import os, sys, time
names = ("RANK", "WORLD_SIZE", "GROUP_RANK", "OMP_NUM_THREADS")
with open(os.environ["RANK"] + ".partial", "w") as file:
    file.write(" ".join([*(os.environ[name] for name in names), str(os.getpid()), *sys.argv[1:]]))
os.rename(file.name, os.environ["RANK"])
while not os.path.exists("0") or os.environ["RANK"] == "0":
    time.sleep(0.1)
sys.exit(1)
"""


def test_training_is_started_on_every_node_and_stopped_on_all(cluster: Cluster, tmp_path: Path) -> None:
    # Before the toys come, since it takes whole nodes.
    (tmp_path / "script.py").write_text(TRAINING)
    command = [sys.executable, "-m", "lidr.training.on_ray", "script.py", "train"]
    environment = os.environ | {"RAY_ADDRESS": cluster.address}
    process = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert process.returncode == 1, process.stderr
    noted = [(tmp_path / str(rank)).read_text().split() for rank in (0, 1)]
    assert [[*note[:4], *note[5:]] for note in noted] == [["0", "2", "0", "3", "train"], ["1", "2", "1", "3", "train"]]
    wait_for(lambda: not any(is_running(int(note[4])) for note in noted))


def test_every_request_is_answered_once_and_read_when_it_is_needed(toy: RayEngine) -> None:
    taken = 0

    def requests() -> Iterator[Request]:
        nonlocal taken
        for taken in range(1, 2501):
            yield ask(taken)

    completions = toy.generate(requests(), GREEDY)
    made = [next(completions)]
    assert taken == 16 * ray_engine.WINDOW_PIECES
    made += completions
    assert sorted(int(completion.request_id, 16) for completion in made) == list(range(1, 2501))
    assert all(completion.text == f"question {int(completion.request_id, 16)}" for completion in made)


def test_what_is_done_is_not_asked_again(toy: RayEngine) -> None:
    done = {ask(number).request_id for number in range(0, 100, 3)}
    made = by_id(toy.generate(map(ask, range(100)), GREEDY, done))
    assert made.keys() == asked(toy).keys() == {ask(number).request_id for number in range(100)} - done
    assert not list(toy.generate(map(ask, range(100)), GREEDY, done | made.keys()))


def test_a_worker_that_dies_costs_only_what_it_has_not_answered(
    toy: RayEngine, capsys: pytest.CaptureFixture[str]
) -> None:
    completions = toy.generate([ask(number, "slow") for number in range(100)], GREEDY)
    victim, _ = pids(toy)
    made = [next(completions) for _ in range(20)]
    os.kill(victim, signal.SIGKILL)
    made += completions
    assert Counter(completion.request_id for completion in made) == Counter(ask(n).request_id for n in range(100))
    assert asked(toy).total() < 110  # again: those whose answer was on its way
    assert "a worker died" in capsys.readouterr().err
    assert victim not in pids(toy)


def test_a_request_that_kills_once_is_answered_and_one_that_kills_always_is_named(toy: RayEngine) -> None:
    made = list(toy.generate([ask(1, "die once"), *map(ask, range(2, 30))], GREEDY))
    assert len(made) == 29
    with pytest.raises(EngineError, match=r"3 workers in a row died of the same .* 0000000000000000: .*died"):
        list(toy.generate([ask(0, "die")], GREEDY))


def test_answers_wait_for_workers_that_are_still_loading(toy: RayEngine) -> None:
    for seat in toy.seats:
        ray.kill(seat.actor)
    toy.seats = [toy._start() for _ in toy.seats]
    assert len(list(toy.generate(map(ask, range(50)), GREEDY))) == 50


def test_workers_that_die_while_they_load_end_the_run(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_engine, "_Worker", ToyWorker)
    (tmp_path / "damaged").touch()
    with pytest.raises(EngineError, match=r"3 workers in a row died before the model was loaded: .*died"):
        ray_of(tmp_path, config(batch_size=2, workers=1))


def test_an_error_of_a_workers_engine_comes_through_and_the_next_call_works(toy: RayEngine) -> None:
    with pytest.raises(EngineError) as refused:
        list(toy.generate([ask(1, "refuse"), *map(ask, range(2, 50))], GREEDY))
    assert str(refused.value) == "engine.worker: the way out"
    with pytest.raises(EngineError, match=r"ZeroDivisionError: .*\nray::(?s:.*)1 // 0"):
        list(toy.generate([ask(1, "divide"), *map(ask, range(2, 50))], GREEDY))
    with pytest.raises(ValueError, match="the caller's own"):
        list(toy.generate((ask(int("the caller's own")) for _ in "x"), GREEDY))
    assert len(list(toy.generate(map(ask, range(50)), GREEDY))) == 50


def test_answers_that_are_no_longer_wanted_are_not_made(toy: RayEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Transformers, "batches_together", 500)
    completions = toy.generate([ask(number, "slow") for number in range(1000)], GREEDY)  # 10 s of each worker
    next(completions)
    completions.close()  # type: ignore[attr-defined]
    assert by_id(toy.generate([ask(2000), ask(2001)], GREEDY)).keys() == {ask(2000).request_id, ask(2001).request_id}
    assert asked(toy).total() < 900


def test_a_node_that_is_lost_leaves_its_work_to_the_others(cluster: Cluster, toy: RayEngine) -> None:
    cluster_node = cluster.add_node(num_cpus=4, num_gpus=0, object_store_memory=80 * 2**20)
    big = ray_of(Path(toy.make_engine.args[0]), config(batch_size=2, workers=None, cpus_per_worker=4))
    assert big.count == 1  # as many as there is room for
    toy.seats += big.seats
    completions = toy.generate([ask(number, "slow") for number in range(150)], GREEDY)
    made = [next(completions) for _ in range(10)]
    cluster.remove_node(cluster_node)
    made += completions
    wait_for(lambda: len(ray_engine._nodes()) == 2)
    assert Counter(completion.request_id for completion in made) == Counter(ask(n).request_id for n in range(150))


def test_more_than_the_cluster_has_is_refused(cluster: Cluster) -> None:
    with pytest.raises(EngineError, match=r"7 with 0 GPUs and 1 CPUs each.* 0 GPUs and 6 CPUs on 2 nodes.*room for 6"):
        ray_of(MODEL_PATH, config(batch_size=1, workers=7))
    with pytest.raises(EngineError, match=r"1 with 0 GPUs and 4 CPUs each, all on one node.*room for 0"):
        ray_of(MODEL_PATH, config(batch_size=1, workers=None, cpus_per_worker=4))
    with pytest.raises(EngineError, match=r"2 with 0.5 GPUs"):
        ray_of(MODEL_PATH, config(batch_size=1, gpus_per_worker=0.5))


def test_room_is_counted_by_node(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = [{"CPU": 16.0}, {"CPU": 16.0, "GPU": 3.0}, {"CPU": 3.0, "GPU": 8.0}]
    monkeypatch.setattr(ray_engine, "_nodes", lambda: nodes)

    def room(cpus: int, gpus: float | None, worker: dict[str, Any] | None = None) -> tuple[float, int]:
        settings = {"worker": worker or {}, "cpus_per_worker": cpus, "gpus_per_worker": gpus}
        options = ray_engine._actor_options(Ray.model_validate(settings))
        return options["num_gpus"], ray_engine._room(options)

    assert room(1, None) == (1, 3 + 3)
    assert room(2, 2) == (2, 1 + 1)
    assert room(1, 0.1) == (0.1, 16 + 3)
    assert room(1, None, {"device": "cpu"}) == (0, 16 + 16 + 3)
    assert room(1, None, {"type": "vllm", "arguments": {"tensor_parallel_size": 4}}) == (4, 2)


@pytest.mark.parametrize("count", [1, 30, 1000, 5000])
def test_pieces_do_not_depend_on_what_is_done(count: int) -> None:
    requests = [ask(number, "x" * (number * 7919 % 1000)) for number in range(count)]
    whole = list(cut(requests, set(), smallest=4, largest=32, workers=3))
    assert sorted(request.request_id for piece in whole for request in piece.requests) == [
        r.request_id for r in requests
    ]
    assert all(len(piece.requests) <= 32 for piece in whole)
    assert all(piece.owed == {request.request_id for request in piece.requests} for piece in whole)
    done = {request.request_id for piece in whole[::2] for request in piece.requests[: 99 if piece is whole[0] else 1]}
    rest = list(cut(requests, done, smallest=4, largest=32, workers=3))
    assert [piece.requests for piece in rest] == [piece.requests for piece in whole[1:]]
    assert set().union(set(), *(piece.owed for piece in rest)) == {request.request_id for request in requests} - done


def test_answers_leave_together_and_what_was_made_before_an_error_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails_after(count: int) -> Iterator[Completion]:
        for number in range(count):
            yield Completion(str(number), "", "stop")
        raise EngineError("the end")

    messages = together(fails_after(5))
    assert [completion.request_id for completion in next(messages)] == ["0", "1", "2", "3", "4"]
    with pytest.raises(EngineError, match="the end"):
        next(messages)
    monkeypatch.setattr(ray_engine, "TOGETHER_S", 0)
    assert [len(message) for message in together(Completion(n, "", "stop") for n in "abc")] == [1, 1, 1, 0]


def test_pieces_get_smaller_so_that_workers_finish_together() -> None:
    def sizes(requests: int, workers: int) -> list[int]:
        pieces = cut(map(ask, range(requests)), set(), smallest=16, largest=128, workers=workers)
        return [len(piece.requests) for piece in pieces]

    many = sizes(1000, workers=3)
    assert many == sorted(many, reverse=True) and many[0] == 128 and many[-1] <= 16
    assert all(size % 16 == 0 for size in many[:-1])
    assert sizes(300, workers=1) == [128, 128, 44]  # nobody to finish together with
    assert sizes(20, workers=2) == [10, 10]
    assert Transformers.batches_together == transformers_engine.GROUP_BATCHES


@pytest.mark.parametrize(
    "settings",
    [{"address": "ray://head:10001"}, {"gpus_per_worker": 1.5}, {"worker": {"device": "cuda:1"}}],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"address: auto|a share of one|at auto"):
        Ray.model_validate(settings)


def test_without_ray_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "lidr.engines.ray.engine")
    with pytest.raises(EngineError, match=r"pip install \"lidr\[ray\]\""):
        import_module("lidr.engines.ray.engine")
