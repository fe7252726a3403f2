"""The programs of README.md and docs/ run as they stand; links and commands are right.

The words after a block's language say how it runs:

- `backend=jax`: under this backend; else under the one of the tests;
- `needs=module,module`: the packages without which it is skipped;
- `program=name`: the blocks with this name run one after another in one folder;
  a block without runs alone, one with `name,name` is in several programs;
- `file=name`: it is a file of the program, not run by itself;
- `slow`: it trains;
- `run=no`: it is not run; the text says what it waits for.

A block `text` behind a program is what the program prints; "..." stands for anything.
"""

import doctest
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import keras
import pytest

from training.release.tables import tables

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\S*)[ ]?(.*?)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
TORCH = os.environ.get("EXPORT_PYTHON_TORCH", "")


class Block(NamedTuple):
    """A fenced block: its language, the words behind it, and its text."""

    language: str
    words: dict[str, str]
    text: str


class Program(NamedTuple):
    """Blocks that run one after another in one folder."""

    blocks: list[Block]
    words: dict[str, str]


def blocks_of(text):
    for language, info, body in BLOCK.findall(text):
        pairs = (word.partition("=") for word in info.split())
        yield Block(language, {key: value for key, _, value in pairs}, body)


def programs_of(page):
    """Programs by name; one that is alone is named after its place on the page."""
    programs, last = {}, None
    for number, block in enumerate(blocks_of(page.read_text()), 1):
        is_output = block.language == "text" and last is not None
        if is_output:
            programs[last].blocks.append(block)
            last = None
        elif "program" in block.words or block.language == "python":
            for name in block.words.get("program", str(number)).split(","):
                program = programs.setdefault(name, Program([], {}))
                program.blocks.append(block)
                needs = [w.get("needs", "") for w in (program.words, block.words)]
                program.words.update(block.words)
                program.words["needs"] = ",".join(filter(None, needs))
                last = name
        else:
            last = None
    return programs


def parameters():
    for page in PAGES:
        for name, program in programs_of(page).items():
            if program.words.get("run") == "no":
                continue
            if "ray" in program.words["needs"].split(","):
                continue  # tests/integrations/test_rllib.py runs it, without a network
            marks = [pytest.mark.process]
            if page.name != "README.md" or "backend" in program.words:
                marks.append(pytest.mark.once)
            if "slow" in program.words:
                marks.append(pytest.mark.slow)
            yield pytest.param(program, id=f"{page.stem}-{name}", marks=marks)


def interpreter(needs):
    """The Python that has the packages: this one, or that of the torch environment."""
    missing = [name for name in needs if importlib.util.find_spec(name) is None]
    if not missing:
        return sys.executable
    if {"torch", "onnxruntime"} & set(missing) and Path(TORCH).is_file():
        return TORCH
    pytest.skip(f"needs {', '.join(missing)}")


def run(block, python, folder, environment):
    """Runs a block, or writes it where it is a file; gives what it prints."""
    if "file" in block.words:
        (folder / block.words["file"]).write_text(block.text)
        return ""
    if block.language == "python":
        command = [python, "-c", block.text]
    else:
        # `python` in a command is the interpreter that has what the program needs.
        alias = f'python() {{ "{python}" "$@"; }}'
        command = ["bash", "-ec", f"{alias}\n{block.text}"]
    result = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.parametrize("program", list(parameters()))
def test_a_program_runs(program, tmp_path):
    python = interpreter(list(filter(None, program.words["needs"].split(","))))
    backend = program.words.get("backend", keras.backend.backend())
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "KERAS_BACKEND": backend}
    environment.pop("TF_USE_LEGACY_KERAS", None)
    printed = ""
    for block in program.blocks:
        if block.language == "text":
            same = doctest.OutputChecker().check_output(
                block.text, printed, doctest.ELLIPSIS
            )
            assert same, printed
        else:
            printed = run(block, python, tmp_path, environment)


def test_the_mechanism_sees_programs_and_their_output(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "```python needs=jax\nprint(1)\n```\n```text\n1\n```\n"
        "```\nnot a program\n```\n"
        "```python program=a file=a.py\nA = 1\n```\n"
        "```bash program=a slow\npython\n```\n"
    )
    programs = programs_of(page)
    assert list(programs) == ["1", "a"]
    assert [block.language for block in programs["1"].blocks] == ["python", "text"]
    assert programs["1"].words == {"needs": "jax"}
    assert set(programs["a"].words) == {"program", "file", "slow", "needs"}


def anchors_of(page):
    """The anchors that GitHub gives to the headings of a page."""
    text = BLOCK.sub("", page.read_text())
    for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE):
        words = re.sub(r"[^\w\- ]", "", heading.lower())
        yield words.replace(" ", "-")


@pytest.mark.once
def test_tables_are_those_of_the_catalogs():
    for page, text in tables().items():
        assert page.read_text() == text, f"{page.name}: run `python -m training cards`"


@pytest.mark.once
@pytest.mark.parametrize(
    "page", [*PAGES, ROOT / "zoo" / "README.md"], ids=lambda page: page.name
)
def test_links_lead_somewhere(page):
    text = BLOCK.sub("", page.read_text())
    images = re.findall(r'src="([^"]+)"', text)
    for target in [*images, *re.findall(r"\]\(([^)]+)\)", text)]:
        if target.startswith("http"):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        if anchor:
            assert anchor in anchors_of(file), target


@pytest.mark.once
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_name_what_exists(page):
    text = page.read_text()
    for recipe in re.findall(r"training/recipes/[\w.]+\.toml", text):
        assert (ROOT / recipe).is_file(), recipe
    ours = r"python -m ((?:keras_agalite|training|benchmarks|tests)\b[\w.]*)"
    for module in re.findall(ours, text):
        assert importlib.util.find_spec(module.rstrip(".")) is not None, module
    for test in re.findall(r"\btests/[\w/]+\.py", text):
        assert (ROOT / test).is_file(), test
