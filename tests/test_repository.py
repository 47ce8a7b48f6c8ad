"""The repository: what documents promise exists, nothing names a machine, linters pass."""

import ast
import dataclasses
import itertools
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import click
import pytest

import gategrad
from gategrad.boards.board import boards
from gategrad.cli import cli
from gategrad.graph import Input, Learn, Network, Quantisation, Training
from gategrad.operations import LAYERS

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("gategrad", "golden", "hdl", "sim", "boards")
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("examples/*/*.md")])
TEXT = {".py", ".md", ".toml", ".v", ".cpp", ".c", ".h", ".json", ".yml", ".cfg", ""}
#: Folders of one machine, in pieces so that this file is clean.
FOLDERS = ("root", "home", "Users", "work", "opt")
MACHINE = re.compile(rf"(?<![\w.$-])/({'|'.join(FOLDERS)})/\w")
#: Scratch folders, which only tests may name.
SCRATCH = re.compile(r"(?<![\w.$-])/(var/)?tmp/\w")
#: Hosts that a link may name.
HOSTS = {"keepachangelog.com"}
#: Registries and mirrors, in pieces as well: named by nothing, as a link or otherwise.
REGISTRY = re.compile(rf"\b({'|'.join(('pypi', 'pythonhosted', 'npmjs', 'crates'))})\.(org|com|io)")
SKIPS = ("skip", "skipif", "importorskip")
#: Modules of hdl/ without a test file of their own name, and where they are tested instead.
ELSEWHERE = {
    "channel_table": "part of Requantise and Activation: test_requantise, test_activation",
    "ecp5": "test_cells compares the cells with their models",
    "ice40": "test_cells compares the cells with their models",
    "estimate": "costs, which `make bench` compares with place and route",
    "multiplier": "part of Requantise: test_requantise",
    "pipe": "part of Requantise and Activation: test_requantise, test_activation",
    "streams": "every test of a component moves frames with it; test_resize",
    "technology": "a table",
    "component": "every test of a component makes one",
    "gearbox": "part of Resize: test_resize",
    "global_pool": "test_pool",
    "learn_join": "of LearnAdd and LearnConcatenate: test_learn_add, test_learn_concatenate",
    "reduce": "test_pool",
    "element_loss": "part of Loss: test_loss",
    "hinge": "part of Loss: test_loss",
    "loss_unit": "part of Loss: test_loss",
    "window_loops": "part of LineBuffer: test_line_buffer",
    "window_schedule": "part of LineBuffer: test_line_buffer",
}


def tracked() -> list[Path]:
    """The files of the repository, or of the folder where there is no git."""
    if shutil.which("git") and (ROOT / ".git").exists():
        done = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
        if done.returncode == 0 and done.stdout:
            return [p for name in done.stdout.split("\n") if name and (p := ROOT / name).is_file()]
    folders = (*PACKAGES, "host", "tests", "docs", "examples", "bench", ".ci")
    found = [p for folder in folders for p in (ROOT / folder).rglob("*") if p.is_file()]
    return [p for p in found if not {".cache", "__pycache__"} & set(p.parts)]


def blocks(document: Path, *languages: str) -> list[str]:
    """The fenced code blocks of ``document`` in the given languages ("" for none)."""
    found = re.findall(r"^```(\w*)\n(.*?)^```", document.read_text(), re.MULTILINE | re.DOTALL)
    return [text for language, text in found if language in languages]


def commands(document: Path) -> list[str]:
    """Lines of ``document`` that a reader types: in code blocks, and in `code` of the prose."""
    lines = [line for block in blocks(document, "", "sh") for line in block.splitlines()]
    lines += re.findall(r"`((?:gategrad|make) [^`]*)`", document.read_text())
    return [re.split(r"\s{2,}#|\s{3,}", line.strip())[0] for line in lines]


def problem(command: str) -> str | None:
    """What is wrong with a `gategrad` or `make` command line, None if nothing is."""
    words = command.split()
    if words[0] == "make":
        text = (ROOT / "Makefile").read_text()
        goals = [word for word in words[1:] if re.fullmatch(r"[a-z]+", word)]
        missing = [goal for goal in goals if not re.search(rf"^{goal}:", text, re.MULTILINE)]
        return f"no target {missing[0]}" if missing else None
    verb = words[1]
    if verb not in cli.commands:
        return f"no command {verb}"
    known = {o for p in cli.commands[verb].params for o in p.opts} | {"--help"}
    options = [word for word in words[2:] if word.startswith("-")]
    unknown = [option for option in options if option not in known]
    return f"{verb} has no option {unknown[0]}" if unknown else None


def test_no_machine_is_named():
    for path in tracked():
        if path.suffix in TEXT:
            text = path.read_text(errors="replace")
            assert not MACHINE.search(text), f"{path.relative_to(ROOT)}: {MACHINE.search(text)}"
            assert not REGISTRY.search(text), f"{path.relative_to(ROOT)}: {REGISTRY.search(text)}"
            if "tests" not in path.parts:
                assert not SCRATCH.search(text), f"{path.relative_to(ROOT)}: {SCRATCH.search(text)}"
            for host in re.findall(r"https?://([\w.-]+)", text):
                assert host in HOSTS, f"{path.relative_to(ROOT)} names the host {host}"


@pytest.mark.parametrize("text", ["/".join(("", "root", "x")), "in " + "/".join(("", "work", "a"))])
def test_a_machine_path_would_be_found(text):
    assert MACHINE.search(text)
    assert not MACHINE.search("GET a/work/b and /dev/ttyUSB1")


def test_a_registry_or_scratch_folder_would_be_found():
    assert REGISTRY.search("see pypi" + ".org/simple") and not REGISTRY.search("PyPI has it.")
    assert SCRATCH.search("writes /tmp" + "/x") and not SCRATCH.search("demo/tmp/x")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: p.name)
def test_commands_exist(document):
    typed = [c for c in commands(document) if re.match(r"(gategrad|make) [a-z]", c)]
    assert [f"{c}: {why}" for c in typed if "|" not in c and (why := problem(c))] == []


def test_a_wrong_command_would_be_found():
    assert problem("gategrad train NET --dat mnist -o x") == "train has no option --dat"
    assert problem("gategrad fly") == "no command fly"
    assert problem("make tea") == "no target tea"
    assert any(c.startswith("gategrad build") for c in commands(ROOT / "README.md"))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: p.name)
def test_links_resolve(document):
    for target in re.findall(r"\]\(([^)\s]+)", document.read_text()):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        path = document.parent / name if name else document
        assert path.exists(), f"{document.name}: {target}"
        assert not anchor or anchor in anchors(path), f"{document.name}: {target}"


def anchors(document: Path) -> set[str]:
    """Names of the headings of ``document``, as links spell them."""
    headings = re.findall(r"^#+ (.*)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", text.lower()).replace(" ", "-") for text in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: p.name)
def test_blocks_are_valid(document, tmp_path):
    """Networks load, and what Python blocks import from gategrad is there."""
    for block in blocks(document, "toml"):
        path = tmp_path / "net.toml"
        path.write_text(block)
        assert Network.load(path).nodes
    for block in blocks(document, "python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("gategrad"):
                module = __import__(node.module, fromlist=["x"])
                assert [a.name for a in node.names if not hasattr(module, a.name)] == []
            names_it = isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
            if names_it and node.value.id == "gategrad":
                assert hasattr(gategrad, node.attr), f"gategrad.{node.attr}"


def test_the_longest_example_in_python_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    example = max(blocks(ROOT / "docs" / "getting-started.md", "python"), key=len)
    names: dict = {}
    exec(example, names)
    assert (tmp_path / "core-digits" / "core.v").stat().st_size
    assert names["model"].info["accuracy"] > 0.9 and names["plan"]["fits"]
    assert capsys.readouterr().out.rstrip().endswith("0")  # mismatches


def test_every_key_of_a_network_is_documented():
    """With its range: what ``settings.key`` was given, in the row of the table."""
    text = (ROOT / "docs" / "getting-started.md").read_text().partition("## All keys")[2]
    rows = re.findall(r"^\| (`\w+`[^|]*) \|(.*)", text.replace(",", ""), re.MULTILINE)
    layers = [row.layer for row in LAYERS.values()]
    for settings in (Input, Training, Quantisation, Learn, *layers):
        for field in dataclasses.fields(settings):
            found = [row for keys, row in rows if f"`{field.name}`" in keys]
            assert found, f"{settings.__name__}.{field.name} is in no table"
            for choice in field.metadata.get("choices", ()):
                assert choice in text, f"{field.name}: {choice}"
            high = field.metadata.get("high")
            if isinstance(high, int) and high < 1 << 62:
                assert any(str(high) in row for row in found), f"{field.name}: {high}"


@pytest.mark.parametrize("path", sorted(ROOT.glob("examples/*.toml")), ids=lambda p: p.name)
def test_examples_load_and_say_how_to_train_them(path):
    assert Network.load(path).nodes
    hint = re.search(r"gategrad train examples/\S+", path.read_text())
    assert hint is None or hint[0].endswith(path.name)


def test_paths_in_documents_exist():
    for document in DOCUMENTS:
        folders = "golden|hdl|sim|boards|host|tests|docs|examples|bench"
        for name in re.findall(rf"`((?:{folders})/[\w./-]+)`", document.read_text()):
            assert "X" in name or (ROOT / name).exists(), f"{document.name}: {name}"


def components() -> dict[str, str]:
    """Component classes of hdl/, with their files."""
    found = {}
    for path in sorted((ROOT / "hdl").glob("*.py")):
        for node in ast.parse(path.read_text()).body:
            bases = getattr(node, "bases", [])
            if any(ast.unparse(base).endswith(("Component", "Linear", "Join")) for base in bases):
                found[node.name] = path.name
    return found


def test_every_component_is_tested():
    """By name, or inside the component of which it is a part, which then has a test."""
    parts = {"ChannelTable", "SerialMultiplier", "Serialise", "Loader", "Multiplier",
             "DualMultiplier", "WideMultiplier", "SinglePortRam", "MatVec", "Gearbox",
             "Component", "Linear", "LossUnit", "Join"}  # fmt: skip
    tests = "\n".join(p.read_text() for p in (ROOT / "tests").glob("*.py") if p != Path(__file__))
    whole = components()
    assert {"Dense", "Conv", "MacArray", "Replay"} <= set(whole) and parts <= set(whole)
    for name, file in whole.items():
        if name not in parts:
            assert re.search(rf"\b{name}\(", tests), f"no test makes a {name} of hdl/{file}"
    hdl = {p.name: p.read_text() for p in (ROOT / "hdl").glob("*.py")}
    hdl["core.py"] = (ROOT / "gategrad" / "core.py").read_text()
    for name in parts:
        others = [text for file, text in hdl.items() if file != whole[name]]
        assert any(re.search(rf"\b{name}\b", text) for text in others), f"{name} is no part"


def test_golden_has_a_test_for_every_module():
    tests = "\n".join(p.read_text() for p in (ROOT / "tests").glob("test_*.py"))
    for path in (ROOT / "golden").glob("[a-z]*.py"):
        name = path.stem
        named = rf"gategrad\.golden\.{name}\b|from gategrad\.golden import [^\n]*\b{name}\b"
        assert re.search(named, tests) or name == "exact", f"no test imports golden/{name}.py"


def test_every_module_of_hdl_has_a_test_file_or_a_reason():
    modules = {p.stem for p in (ROOT / "hdl").glob("[a-z]*.py")}
    without = {name for name in modules if not (ROOT / "tests" / f"test_{name}.py").exists()}
    assert without == set(ELSEWHERE)
    for name, reason in ELSEWHERE.items():
        for test in re.findall(r"test_\w+", reason):
            assert (ROOT / "tests" / f"{test}.py").exists(), f"{name}: {test}"


def test_files_are_small():
    long = {
        str(path.relative_to(ROOT)): lines
        for path in tracked()
        if path.suffix == ".py" and (lines := len(path.read_text().splitlines())) > 500
    }
    assert long == {}


def test_board_table_is_complete():
    text = (ROOT / "docs" / "boards.md").read_text()
    for board in boards():
        family, _, size = board.name.rpartition("-")
        assert f"`{board.name}`" in text or (f"`{family}-" in text and f"`-{size}`" in text)


def test_package_data_and_version():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["project"]["version"] == gategrad.__version__
    installed = set(project["tool"]["setuptools"]["package-dir"].values())
    assert installed == set(PACKAGES)
    heading = rf"^## (Unreleased$|\[?{re.escape(gategrad.__version__)})"
    assert re.search(heading, (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert project["project"]["license"] == "BSD-2-Clause"
    assert (ROOT / "LICENSE").read_text().startswith("BSD 2-Clause")


def test_every_dependency_says_why():
    """A comment stands above each dependency, or beside it; no range is open at the top."""
    text = (ROOT / "pyproject.toml").read_text()
    listed = re.search(r"^dependencies = \[\n(.*?)^\]", text, re.MULTILINE | re.DOTALL)
    assert listed
    lines = [line.strip() for line in listed[1].splitlines()]
    for before, line in itertools.pairwise(lines):
        if line.startswith('"'):
            assert before.startswith("#"), f"{line} says not what it is for"
            assert "<" in line, f"{line} has no upper end"


def test_every_command_has_an_example():
    for name, command in cli.commands.items():
        text = click.Context(command).command.help or ""
        assert f"gategrad {name}" in text, f"gategrad {name} --help has no example"


def test_what_is_skipped_says_what_would_make_it_run():
    helps = re.compile(r"install |docs/|have them")
    calls = [
        (path.name, ast.unparse(call))
        for path in ROOT.glob("tests/**/*.py")
        for call in ast.walk(ast.parse(path.read_text()))
        if isinstance(call, ast.Call) and getattr(call.func, "attr", "") in SKIPS
    ]
    assert len(calls) > 10
    assert [found for found in calls if not helps.search(found[1])] == []


def test_lint():
    """ruff and mypy: what `make lint` runs."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    done = subprocess.run(
        [str(ROOT / ".ci" / "lint")],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PATH": path},
    )
    assert done.returncode == 0, f"\n{done.stdout}{done.stderr}"
