from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import pytest

from lidr.benchmarks.base import Question
from lidr.benchmarks.shared import alpaca_files
from lidr.benchmarks.shared.alpaca_files import (
    Annotation,
    ModelOutput,
    model_outputs,
    read_annotations,
    read_model_outputs,
    write_rows,
)
from lidr.benchmarks.shared.length_control import LengthControlled, length_controlled_win_rate
from lidr.engines.base import Completion
from lidr.errors import DataError
from lidr.judges import Comparison
from lidr.records import Verdict
from lidr.statistics import wilson_interval

OUTPUTS = Path(__file__).resolve().parents[3] / "shared" / "data" / "x-alpacaeval" / "outputs"
ROW = {"instruction": "Why?", "output": "Because.", "generator": "m", "dataset": "koala"}
NOTE = {
    "instruction": "Why?",
    "output_1": "Because.",
    "generator_1": "ref",
    "output_2": "",
    "generator_2": "m",
    "annotator": "judge",
    "preference": 1.25,
}


def logistic(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def graded(n: int = 240) -> tuple[list[float], list[int], list[int]]:
    """Preferences that grow with the length, (preferences, model's lengths, reference's lengths), without chance."""
    references = [400 + 37 * i % 501 for i in range(n)]
    lengths = [reference + 53 * i % 401 - 120 for i, reference in enumerate(references)]
    preferences = [
        round(logistic(0.3 + 0.004 * (length - reference) + 3 * (29 * i % 61 / 60 - 0.5)), 3)
        for i, (length, reference) in enumerate(zip(lengths, references, strict=True))
    ]
    return preferences, lengths, references


def drawn(n: int, strength: float, length: float, seed: int = 0) -> LengthControlled:
    """Wins and losses with a known win rate at equal lengths, logistic(strength)."""
    rng = random.Random(seed)
    references = [rng.randrange(100, 3000) for _ in range(n)]
    lengths = [max(0, reference + rng.randrange(-500, 1500)) for reference in references]
    preferences = [
        float(rng.random() < logistic(strength + length * math.tanh((mine - other) / 575)))
        for mine, other in zip(lengths, references, strict=True)
    ]
    return length_controlled_win_rate(preferences, lengths, references)


def rates(result: LengthControlled) -> tuple[float, float, float]:
    assert result.raw_win_rate is not None and result.win_rate is not None and result.standard_error is not None
    return result.raw_win_rate, result.win_rate, result.standard_error


def interval(result: LengthControlled) -> tuple[float, float]:
    assert result.ci95 is not None
    return result.ci95


def test_equals_alpaca_eval() -> None:
    # From alpaca-eval 0.6.6 with scikit-learn 1.9.1 on just these 240 pairs (texts of "a"s of these lengths), the table
    # of difficulties patched as in tools/compare_alpaca_eval.py: get_length_controlled_winrate(frame,
    # "length_controlled_minimal", save_weights_dir=None) and the coefficients of its model; its length difference has
    # the other sign, and its solver stops at a tolerance of 1e-4.
    result = length_controlled_win_rate(*graded())
    assert (result.n, result.unscored) == (240, 0)
    assert result.raw_win_rate == pytest.approx(0.6239625, abs=1e-12)
    assert result.raw_standard_error == pytest.approx(0.013406660290363643, abs=1e-12)
    assert result.win_rate == pytest.approx(0.5671162281916599, abs=1e-4)
    assert result.intercept == pytest.approx(0.270095, abs=1e-3)
    assert result.length_coefficient == pytest.approx(0.71228575, abs=1e-3)


def test_unscored_pairs_are_left_out_but_count_for_the_scale() -> None:
    preferences, lengths, references = graded()
    some = [None if i % 3 == 0 else value for i, value in enumerate(preferences)]
    result = length_controlled_win_rate(some, lengths, references)
    assert (result.n, result.unscored) == (160, 80)
    assert result.raw_win_rate == pytest.approx(sum(value for value in some if value is not None) / 160)
    longer = [length + 10_000 * (i % 3 == 0) for i, length in enumerate(lengths)]
    assert length_controlled_win_rate(some, longer, references).win_rate != pytest.approx(result.win_rate, abs=1e-3)


@pytest.mark.parametrize("strength", [-2.0, 0.0, 0.8])
def test_without_length_effect_it_is_the_raw_win_rate(strength: float) -> None:
    result = drawn(3000, strength, 0.0)
    raw, controlled, _ = rates(result)
    assert controlled == pytest.approx(raw, abs=0.02)
    low, high = interval(result)
    assert low < logistic(strength) < high and low < controlled < high


def test_a_model_that_wins_only_by_length_is_pulled_to_a_half() -> None:
    raw, controlled, _ = rates(drawn(3000, 0.0, 2.0))
    assert raw > 0.62
    assert controlled == pytest.approx(0.5, abs=0.03)


def test_a_better_but_shorter_model_gains() -> None:
    preferences, lengths, references = graded()
    shorter = [max(0, 2 * reference - length) for length, reference in zip(lengths, references, strict=True)]
    result = length_controlled_win_rate([1 - value / 2 for value in preferences], shorter, references)
    assert result.length_coefficient is not None and result.length_coefficient > 0
    raw, controlled, _ = rates(result)
    assert controlled > raw + 0.01


def test_the_interval_covers_the_true_win_rate() -> None:
    covered = 0
    for seed in range(200):
        low, high = interval(drawn(100, 0.6, 1.0, seed))
        covered += low <= logistic(0.6) <= high
    assert 183 <= covered <= 198  # 190 +- 2.3 standard errors


def test_the_error_shrinks_with_the_root_of_n() -> None:
    small, large = rates(drawn(200, 0.5, 1.0))[2], rates(drawn(3200, 0.5, 1.0))[2]
    assert small / large == pytest.approx(4, rel=0.15)


@pytest.mark.parametrize("preferences", ["graded", "decided"])
def test_swapping_the_models_gives_the_complement(preferences: str) -> None:
    values, lengths, references = graded()
    if preferences == "decided":
        values = [float(value > 0.6) for value in values]
    result = length_controlled_win_rate(values, lengths, references)
    swapped = length_controlled_win_rate([1 - value for value in values], references, lengths)
    assert rates(swapped)[1] == pytest.approx(1 - rates(result)[1], abs=1e-9)
    assert swapped.length_coefficient == pytest.approx(result.length_coefficient, abs=1e-9)
    assert interval(swapped) == pytest.approx([1 - bound for bound in interval(result)[::-1]], abs=1e-9)


def test_constant_lengths_give_the_raw_win_rate() -> None:
    values = [0.0, 1.0, 1.0, 0.25, 1.0]
    for lengths in ([7] * 5, [0] * 5):
        result = length_controlled_win_rate(values, lengths, [7] * 5)
        raw, controlled, _ = rates(result)
        assert controlled == pytest.approx(raw, abs=2e-3)
        assert result.length_coefficient == 0


@pytest.mark.parametrize("n", [1, 2, 10, 805])
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_all_wins_or_all_losses(n: int, value: float) -> None:
    result = length_controlled_win_rate([value] * n, list(range(n)), [3 * i % 7 for i in range(n)])
    raw, controlled, error = rates(result)
    assert raw == value
    assert controlled == pytest.approx(value, abs=0.05 / math.sqrt(n))
    assert error > 0
    assert interval(result) == wilson_interval(int(value) * n, n)


@pytest.mark.parametrize("n", [2, 20, 805])
def test_wins_that_length_explains_wholly_leave_the_win_rate_open(n: int) -> None:
    lengths = [100 + i for i in range(n)]
    values = [float(i >= n / 2) for i in range(n)]
    result = length_controlled_win_rate(values, lengths, [100 + n // 2] * n)
    low, high = interval(result)
    assert 0 <= low < 0.5 < high <= 1
    assert high - low > (0.9 if n < 10 else 0.2)


def test_nothing_scored_is_no_win_rate() -> None:
    assert length_controlled_win_rate([], [], []) == LengthControlled(n=0, unscored=0)
    result = length_controlled_win_rate([None, None], [3, 4], [4, 3])
    assert result == LengthControlled(n=0, unscored=2)
    assert result.win_rate is None and result.ci95 is None


def test_one_pair_has_no_standard_error_of_the_mean() -> None:
    result = length_controlled_win_rate([0.75], [10], [3])
    assert result.raw_standard_error is None
    low, high = interval(result)
    assert low < 0.1 and high > 0.9


@pytest.mark.parametrize(
    ("preferences", "lengths", "message"),
    [
        ([1.2], [1], "preference 1.2"),
        ([float("nan")], [1], "preference nan"),
        ([0.5], [-1], "below 0"),
        ([0.5, 0.5], [1], "one of each"),
    ],
)
def test_impossible_values_are_refused(preferences: list[float], lengths: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        length_controlled_win_rate(preferences, lengths, [1] * len(lengths))


def questions_and_answers() -> tuple[list[Question], list[Completion]]:
    texts = ["“Ja”, sagt\nsie.", "", "lost"]
    questions = [Question(str(i), "de", f"Frage {i}?", group="koala") for i in range(3)]
    answers = [Completion(str(i), text, "error" if text == "lost" else "stop") for i, text in enumerate(texts)]
    return questions, answers


def test_outputs_come_back_as_written_and_failed_answers_stay_away(tmp_path: Path) -> None:
    write_rows(tmp_path / "m" / "de.json", model_outputs(*questions_and_answers(), "m"))
    assert read_model_outputs(tmp_path / "m", "de") == [
        ModelOutput("Frage 0?", "“Ja”, sagt\nsie.", "m", "koala"),
        ModelOutput("Frage 1?", "", "m", "koala"),
    ]


def verdict(number: int, preference: float | None) -> Verdict:
    return Verdict(question_id=str(number), language="de", preference=preference, outcome=None)


def test_annotations_come_back_as_written(tmp_path: Path) -> None:
    comparisons = [Comparison(str(i), "de", f"Frage {i}?", "ä" * i, "Antwort") for i in range(3)]
    rows = alpaca_files.annotations(
        comparisons, [verdict(0, 1.0), verdict(1, None), verdict(2, 0.25)], "m", "ref", "judge"
    )
    assert [row["preference"] for row in rows] == [2.0, None, 1.25]
    write_rows(tmp_path / "annotations.json", rows)
    assert read_annotations(tmp_path / "annotations.json") == [
        Annotation(f"Frage {i}?", "ref", "m", "judge", preference, 7, i)
        for i, preference in enumerate((1.0, None, 0.25))
    ]


def test_annotations_refuse_verdicts_that_do_not_belong() -> None:
    comparison = Comparison("0", "de", "Frage?", "a", "b")
    with pytest.raises(ValueError, match="question 0 is beside a verdict on 1"):
        alpaca_files.annotations([comparison], [verdict(1, 0.5)], "m", "ref", "judge")
    with pytest.raises(ValueError, match="preference 2 "):
        alpaca_files.annotations([comparison], [verdict(0, 2)], "m", "ref", "judge")


def test_preferences_as_alpaca_eval_writes_them(tmp_path: Path) -> None:
    path = tmp_path / "annotations.json"
    values = [1, 2, 1.5, 0, 0.0, None, float("nan"), 1.0003]
    path.write_text(json.dumps([NOTE | {"preference": value, "raw_completion": {}} for value in values]))
    found = [row.preference for row in read_annotations(path)]
    assert found == [0.0, 1.0, 0.5, 0.5, 0.5, None, None, pytest.approx(0.0003)]


def without(row: dict[str, Any], field: str) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != field}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[{]", r"en\.json:1: not valid JSON"),
        ('{"instruction": "x"}', r"en\.json: .*list"),
        ("[]", r"en\.json: holds no items"),
        (json.dumps([ROW, 3]), r"en\.json item 2: .*object"),
        (json.dumps([ROW, without(ROW, "output")]), r"en\.json item 2: no field 'output' .*generator"),
        (json.dumps([without(ROW, "generator")]), r"item 1: no field 'generator'"),
        (json.dumps([ROW | {"output": None}]), r"item 1: 'output' is not text but 'None'"),
        (json.dumps([ROW | {"instruction": " \n"}]), r"item 1: 'instruction' is empty"),
        (json.dumps([ROW | {"dataset": 3}]), r"item 1: 'dataset' is not text"),
    ],
)
def test_outputs_that_cannot_be_used(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "en.json").write_text(content)
    with pytest.raises(DataError, match=message):
        read_model_outputs(tmp_path, "en")


def test_outputs_without_data_set_can_be_used_and_missing_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "en.json").write_text(json.dumps([without(ROW, "dataset"), ROW | {"dataset": None}]))
    assert [row.dataset for row in read_model_outputs(str(tmp_path), "en")] == ["", ""]
    with pytest.raises(DataError, match=r"fr\.json: no such file .*en\.json"):
        read_model_outputs(tmp_path, "fr")
    with pytest.raises(DataError, match="no such file"):
        read_annotations(tmp_path / "annotations.json")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([NOTE, NOTE | {"preference": 2.5}], r"item 2: preference 2\.5 is not between 1"),
        ([NOTE | {"preference": 0.5}], r"item 1: preference 0\.5"),
        ([NOTE | {"preference": True}], "item 1: preference True"),
        ([NOTE | {"preference": "1"}], "item 1: preference '1'"),
        ([without(NOTE, "preference")], "item 1: no field 'preference'"),
        ([without(NOTE, "output_2")], "item 1: no field 'output_2'"),
        ([NOTE, NOTE | {"generator_2": "n"}], r"several models in 'generator_2' \(m, n\)"),
    ],
)
def test_annotations_that_cannot_be_used(tmp_path: Path, rows: list[dict[str, Any]], message: str) -> None:
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps(rows))
    with pytest.raises(DataError, match=message):
        read_annotations(path)


@pytest.mark.skipif(
    not OUTPUTS.is_dir(), reason=f"the AlpacaEval outputs are not part of the project, nor in {OUTPUTS}"
)
def test_the_real_outputs_are_read() -> None:
    for model in sorted(OUTPUTS.iterdir()):
        for language in ("en", "es", "de"):
            rows = read_model_outputs(model, language)
            assert len({row.instruction for row in rows}) == 805
            assert {row.generator for row in rows} == {model.name}
