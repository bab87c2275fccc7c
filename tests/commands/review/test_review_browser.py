"""The review page in a real browser, by keyboard alone: judge, comment, come back, save, and read the file back."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lidr.commands.review.cli import review
from lidr.run_dir import RunDir
from tests.commands.review.test_review import TEXTS, make_run

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
expect = sync_api.expect
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on the PATH")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """A run with its sheets: five pairs in each of four languages."""
    _, run = make_run(tmp_path_factory.mktemp("review") / "run")
    review(run.path, pairs=5)
    return run


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []  # Chromium's sandbox does not start for root
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield browser
        browser.close()


class Visit:
    """A page of the sheet in a browser of its own, with all that it asked for and said."""

    def __init__(self, browser: Any, sheet: Path, **settings: Any) -> None:
        self.context = browser.new_context(accept_downloads=True, **settings)
        self.page = self.context.new_page()
        self.requests: list[str] = []
        self.errors: list[str] = []
        self.context.on("request", lambda request: self.requests.append(request.url))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", lambda message: self.errors.append(message.text))
        self.page.goto(sheet.as_uri())

    def wait_for_status(self, text: str) -> None:
        """Not by a JavaScript predicate: the page's policy forbids evaluating one."""
        expect(self.page.locator("#status")).to_contain_text(text)

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def type_into(self, label: str, text: str) -> None:
        """Reach a field by Tab, and type."""
        for _ in range(30):
            self.press("Tab")
            if self.focused() == label:
                self.page.keyboard.type(text)
                return
        raise AssertionError(f"no field {label} within 30 tabs")

    def focused(self) -> str:
        return str(self.page.evaluate("document.activeElement.id"))

    def text(self, element: str) -> str:
        return str(self.page.locator(f"#{element}").text_content())

    def pressed(self) -> list[str]:
        found: list[str] = self.page.evaluate(
            "[...document.querySelectorAll('[aria-pressed=true]')].map((button) => button.dataset.verdict)"
        )
        return found

    def save(self, folder: Path) -> Path:
        with self.page.expect_download() as download:
            self.press("s")
        path = folder / str(download.value.suggested_filename)
        download.value.save_as(path)
        return path

    def close(self) -> None:
        """Nothing was asked of a network, and nothing went wrong in the page."""
        assert [url for url in self.requests if not url.startswith(("file:", "blob:"))] == []
        assert self.errors == []
        assert "owned" not in self.page.title()
        self.context.close()


@pytest.fixture
def visit(browser: Any, run: RunDir) -> Iterator[Visit]:
    opened = Visit(browser, run.path / "review" / "review-toy-run-es.html")
    yield opened
    opened.close()


def chosen_key(visit: Visit, language: str = "es") -> str:
    """The side on which the pair on the screen has the text that the run chose."""
    chosen = TEXTS[language][1]
    sides = [side for side in "AB" if visit.text(f"text-{side}").startswith(chosen)]
    assert len(sides) == 1
    return sides[0]


def other(side: str) -> str:
    return {"A": "B", "B": "A"}[side]


def test_from_keys_to_accuracy(visit: Visit, run: RunDir, tmp_path: Path) -> None:
    """Chosen, chosen, rejected, tie, can't judge: two of three decided pairs."""
    assert visit.text("place") == "Pair 1 of 5"
    first = chosen_key(visit)
    visit.press("c")
    visit.page.keyboard.type("a b t u 1 2 s? ¡Sí!")  # text in a field is no command
    visit.press("Escape", first.lower())
    assert visit.text("place") == "Pair 2 of 5" and "is better" in visit.text("status")
    visit.press({"A": "1", "B": "2"}[chosen_key(visit)])
    visit.press(other(chosen_key(visit)).lower(), "t", "?")
    assert visit.text("judged") == "5 judged" and "All judged" in visit.text("status")
    assert visit.pressed() == ["unsure"]

    visit.press("s")  # who is it?
    assert visit.focused() == "name" and "Not saved yet" in visit.text("status")
    visit.page.keyboard.type("Ana Núñez")
    visit.press("Escape")
    visit.type_into("level", "native")
    visit.press("Escape")
    saved = visit.save(tmp_path)
    assert saved.name == "review-toy-run-es-Ana-Núñez.json"
    content = json.loads(saved.read_text(encoding="utf-8"))
    assert set(content) == {
        "schema", "kind", "run", "iteration", "language", "sheet", "seed", "reviewer", "saved", "verdicts",
    }  # fmt: skip
    assert all(set(entry) == {"pair", "verdict", "comment"} for entry in content["verdicts"])
    assert content["verdicts"][0]["comment"] == "a b t u 1 2 s? ¡Sí!"

    done = subprocess.run(
        [sys.executable, "-m", "lidr", "review", str(run.path), "--read", str(saved)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    (entry,) = json.loads((run.path / "review" / "summary.json").read_text())["languages"]
    human = entry["human"]
    assert (human["wins"], human["losses"], human["ties"], human["unscored"]) == (2, 1, 1, 1)
    assert human["value"] == 0.6667 and "0.667" in done.stdout
    assert entry["reviewers"][0]["name"] == "Ana Núñez" and entry["reviewers"][0]["level"] == "native"


def test_progress_stays_and_a_saved_file_goes_on_elsewhere(
    visit: Visit, browser: Any, run: RunDir, tmp_path: Path
) -> None:
    visit.press("a", "b", "c")
    visit.page.keyboard.type("a note")
    visit.press("Escape")
    visit.page.reload()
    expect(visit.page.locator("#place")).to_have_text("Pair 3 of 5")  # it may come a little after the page
    expect(visit.page.locator("#judged")).to_have_text("2 judged")
    expect(visit.page.locator("#comment")).to_have_value("a note")
    visit.press("ArrowLeft")
    assert visit.pressed() == ["B"]
    visit.press("ArrowLeft", "ArrowLeft")
    assert visit.text("place") == "Pair 1 of 5" and visit.pressed() == ["A"]
    visit.press("n")
    assert visit.text("place") == "Pair 3 of 5"
    visit.type_into("name", "Bo")
    visit.type_into("level", "fluent")
    visit.press("Escape")
    saved = visit.save(tmp_path)

    elsewhere = Visit(browser, run.path / "review" / "review-toy-run-es.html")
    elsewhere.page.set_input_files("#load", saved)
    elsewhere.wait_for_status("Loaded")
    assert elsewhere.text("judged") == "2 judged" and elsewhere.page.locator("#name").input_value() == "Bo"
    again = json.loads(elsewhere.save(tmp_path).read_text())
    before = json.loads(saved.read_text())
    assert len(before["verdicts"]) == 3 and before | {"saved": ""} == again | {"saved": ""}
    for content, told in ((before | {"sheet": "other"}, "is for another sheet"), ({}, "no file saved by this page")):
        (tmp_path / "bad.json").write_text(json.dumps(content))
        elsewhere.page.set_input_files("#load", tmp_path / "bad.json")
        elsewhere.wait_for_status(told)
    elsewhere.close()


def test_opening_a_sheet_writes_nothing_and_two_tabs_agree(visit: Visit) -> None:
    """What another tab, or this page before a reload, has yet to write must not be overwritten."""
    assert visit.page.evaluate("localStorage.length") == 0
    second = visit.context.new_page()
    second.goto(visit.page.url)
    second.keyboard.press("b")
    expect(visit.page.locator("#judged")).to_have_text("1 judged")
    expect(visit.page.locator("#place")).to_have_text("Pair 2 of 5")
    visit.press("a")
    expect(second.locator("#judged")).to_have_text("2 judged")


def test_keys_of_other_layouts(visit: Visit) -> None:
    """By the key's place where the layout has other letters, by the letter where it is Latin."""
    press = (
        "([key, code]) => document.body.dispatchEvent(new KeyboardEvent('keydown', {key, code, bubbles: true, "
        "cancelable: true}))"
    )
    for key, code, verdict in (
        ("ф", "KeyA", "A"),  # Russian
        ("١", "Digit1", "A"),  # Arabic
        ("&", "Digit1", "A"),  # French
        ("и", "KeyB", "B"),
    ):
        visit.page.evaluate(press, [key, code])
        assert "is better" in visit.text("status")
        visit.press("ArrowLeft")
        assert visit.pressed() == [verdict], key
        visit.press("ArrowRight")
    before = visit.text("status"), visit.text("place")
    visit.page.evaluate(press, ["q", "KeyA"])  # French again: this key is a q
    visit.press("Control+a")
    assert (visit.text("status"), visit.text("place")) == before


def test_shortcuts_can_be_switched_off_and_buttons_do_the_same(visit: Visit) -> None:
    visit.type_into("shortcuts", " ")
    visit.press("Escape", "a")
    assert visit.text("judged") == "0 judged"
    for _ in range(30):
        visit.press("Tab")
        if visit.page.evaluate("document.activeElement.dataset.verdict") == "tie":
            break
    visit.press("Enter")
    assert visit.text("judged") == "1 judged" and visit.focused() == "place"


def test_focus_can_be_seen(visit: Visit) -> None:
    style = (
        "(({outlineStyle, textDecorationLine}) => [outlineStyle, textDecorationLine])"
        "(getComputedStyle(document.activeElement))"
    )
    seen = []
    for _ in range(12):
        visit.press("Tab")
        if visit.focused() == "load":  # invisible above its button, which has the outline
            continue
        seen.append(visit.page.evaluate(style)[0])
    assert set(seen) == {"solid"}
    visit.press("a")
    assert visit.focused() == "place" and visit.page.evaluate(style)[1] == "underline"


def test_names_and_roles_for_screen_readers(visit: Visit) -> None:
    tree = visit.page.locator("body").aria_snapshot()
    for line in (
        'heading "Pair 1 of 5"', 'article "Prompt"', 'article "Answer A"', 'article "Answer B"',
        'progressbar "Judged pairs"', 'group "Which answer is better?"', 'textbox "Your name or initials"',
        'combobox "Your Spanish"', "status", 'button "Previous pair"', 'button "A better',
    ):  # fmt: skip
        assert line in tree, line


def test_every_script_runs_its_own_way_and_fits_a_phone(browser: Any, run: RunDir) -> None:
    for language, direction in (("ar", "rtl"), ("ja", "ltr")):
        visit = Visit(
            browser, run.path / "review" / f"review-toy-run-{language}.html", viewport={"width": 360, "height": 740}
        )
        assert visit.page.evaluate("document.documentElement.scrollWidth") == 360
        for element in ("prompt", f"text-{chosen_key(visit, language)}"):
            box = visit.page.locator(f"#{element}")
            assert (box.get_attribute("lang"), box.get_attribute("dir")) == (language, direction)
            assert box.evaluate("(box) => getComputedStyle(box).whiteSpace").startswith("pre-wrap")
        assert visit.text("prompt").startswith(TEXTS[language][0])
        for button in visit.page.locator(".controls button").all():
            size = button.bounding_box()
            assert size["height"] >= 44 and size["width"] >= 44
        visit.close()


def test_a_browser_that_keeps_nothing_says_so(browser: Any, run: RunDir) -> None:
    context = browser.new_context()
    context.add_init_script(
        "Object.defineProperty(window, 'localStorage', {get() { throw new DOMException('no', 'SecurityError'); }})"
    )
    page = context.new_page()
    page.goto((run.path / "review" / "review-toy-run-es.html").as_uri())
    assert page.locator("#no-storage").is_visible()
    page.keyboard.press("a")
    assert page.locator("#judged").text_content() == "1 judged"
    context.close()


def test_what_the_page_stores_tells_no_sides(visit: Visit) -> None:
    visit.press("a", "b", "t")
    stored = visit.page.evaluate("JSON.stringify({...localStorage})")
    assert '\\"verdict\\":\\"A\\"' in stored
    assert not re.search("chosen|rejected", stored + visit.page.content(), re.I)
