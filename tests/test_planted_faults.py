"""The planted faults can be planted, and docs/contributing.md lists them."""

from pathlib import Path

import pytest

from tests.planted_faults import FAULTS, SOURCES

pytestmark = pytest.mark.once
ROOT = Path(__file__).parent.parent


def test_each_line_is_in_the_source_once():
    files = [path for folder in SOURCES for path in (ROOT / folder).rglob("*.py")]
    source = "\0".join(path.read_text("utf-8") for path in files)
    found = {name: source.count(fault.old) for name, fault in FAULTS.items()}
    assert found == dict.fromkeys(FAULTS, 1)


def test_the_page_lists_them():
    page = (ROOT / "docs/contributing.md").read_text("utf-8")
    for name, fault in FAULTS.items():
        file, _, test = fault.test.removeprefix("tests/").partition("::")
        says = name.replace("_", " ")
        row = f"| {fault.kind} | {says} | {fault.ring} | `{file}`: `{test}` |"
        assert row in page
