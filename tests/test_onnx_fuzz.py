"""Thousands of broken models: each is taken, and then it runs, or refused in words that help."""

import collections
import json
import subprocess
import sys

import onnx_mutations
import pytest

COUNT = 2100
WHOLE = 500  # seconds for all, on a machine that is busy


@pytest.fixture(scope="module")
def outcomes():
    """``(number, what was done, what became of it, the message)`` of all."""
    command = [sys.executable, "-W", "ignore", onnx_mutations.__file__, "0", str(COUNT)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=WHOLE)
    lines = run.stdout.split("\n")[:-1]
    assert run.returncode == 0, f"mutation {lines[-1][:80]}: {run.returncode} {run.stderr[-2000:]}"
    found = [(int(n), *json.loads(line)) for n, line in zip(lines[::2], lines[1::2], strict=True)]
    assert len(found) == COUNT
    return found


def test_each_is_taken_or_refused(outcomes):
    failed = [(number, what, message) for number, what, how, message in outcomes if how == "failed"]
    shown = "\n".join(f"mutation {number}, {what}:\n{message}" for number, what, message in failed)
    assert not failed, f"{len(failed)} of {COUNT}\n{shown[:8000]}"


def test_refusals_name_the_file_and_are_short(outcomes):
    for number, what, how, message in outcomes:
        if how != "refused":
            continue
        first, *others = message.split("\n")
        named = "model.onnx: " in first or first.startswith("data fuzz: ")
        assert named and len(first) < 800, f"{number}, {what}: {message}"
        assert all(line.startswith("  node '") for line in others), f"{number}, {what}: {message}"


def test_both_happen(outcomes):
    """Of every kind of change some are refused; of most of them some are harmless."""
    kinds = collections.defaultdict(set)
    for _, what, how, _ in outcomes:
        kinds[what.split(": ")[1]].add(how)
    single = {kind: hows for kind, hows in kinds.items() if " " not in kind}
    assert len(single) >= 20
    assert all("refused" in hows for hows in single.values())
    assert sum("taken" in hows for hows in single.values()) >= 15


def test_mutations_follow_from_their_number():
    assert onnx_mutations.mutated(77) == onnx_mutations.mutated(77)
    assert onnx_mutations.mutated(77) != onnx_mutations.mutated(78)
