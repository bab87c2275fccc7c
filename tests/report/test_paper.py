from __future__ import annotations

import pytest

from lidr.languages import LANGUAGES
from lidr.plugins import built_in
from lidr.report.paper import MEAN, PAPER_TABLES, paper_table


def row(benchmark: str, name: str) -> tuple[float | None, ...]:
    return dict(PAPER_TABLES[benchmark].rows)[name]


def test_every_row_has_a_number_per_language_on_the_right_scale() -> None:
    for name, table in PAPER_TABLES.items():
        highest = 10 if name == "mt_bench" else 1
        assert set(table.languages) <= {MEAN, *LANGUAGES}
        for _, values in table.rows:
            assert len(values) == len(table.languages)
            assert all(value is not None and 0 <= value <= highest for value in values)


@pytest.mark.parametrize(
    ("benchmark", "name", "mean"),
    [
        ("x_alpacaeval", "M0", 0.1472),
        ("x_alpacaeval", "M1", 0.2086),
        ("x_alpacaeval", "M2", 0.2218),
        ("x_alpacaeval", "Multilingual Alignment", 0.1832),
        ("mt_bench", "M0", 6.80),
        ("mt_bench", "M2", 7.51),
    ],
)
def test_means_are_those_that_the_paper_prints(benchmark: str, name: str, mean: float) -> None:
    values = [value for value in row(benchmark, name) if value is not None]
    assert sum(values) / len(values) == pytest.approx(mean, abs=0.0051 if benchmark == "mt_bench" else 0.000051)


def test_wins_ties_and_losses_make_up_the_whole() -> None:
    columns = zip(*(values for _, values in PAPER_TABLES["head_to_head"].rows), strict=True)
    assert all(sum(column) == pytest.approx(1, abs=0.0011) for column in columns)  # type: ignore[arg-type]


def test_only_the_languages_measured_are_shown_in_their_order() -> None:
    table = paper_table("mgsm", ["th", "te", "en"])
    assert table is not None and table.languages == ("th", "te", "en")
    assert dict(table.rows)["M2"] == (0.536, None, 0.720)
    assert dict(table.rows)["M0, off-target"] == (0.124, None, 0.0)


def test_nothing_where_the_paper_has_nothing() -> None:
    assert paper_table("lab", ["en"]) is None
    assert paper_table("mgsm", ["te", "ko"]) is None
    assert paper_table("mgsm", []) is None


def test_means_over_languages_come_whatever_was_measured() -> None:
    table = paper_table("hellaswag", ["vi"])
    assert table is not None and table.languages == (MEAN,)
    assert table.rows == (("M0", (0.4724,)), ("M2", (0.4763,)))


def test_tables_bear_the_names_of_the_benchmarks() -> None:
    assert set(PAPER_TABLES) <= set(built_in("benchmarks"))
