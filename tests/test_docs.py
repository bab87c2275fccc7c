"""The documents say what the code does: generated pages are current, and the README's commands exist."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_generated_pages_are_current() -> None:
    done = subprocess.run([sys.executable, str(ROOT / "tools/make_docs.py"), "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_links_in_the_documents_lead_somewhere() -> None:
    for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]:
        for link in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
            assert link.startswith("http") or (page.parent / link).exists(), f"{page.name} links to {link}"


def test_commands_in_the_readme_exist() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    help_text = (ROOT / "docs/commands.md").read_text(encoding="utf-8")
    for command in re.findall(r"^lidr ([a-z-]+)", text, re.M):
        assert re.search(rf"^## lidr {command}( |$)", help_text, re.M), command
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"^make (\w+)", text, re.M):
        assert f"\n{target}:" in makefile


def test_the_loop_fits_on_a_page() -> None:
    assert len((ROOT / "src/lidr/loop.py").read_text(encoding="utf-8").splitlines()) <= 120
