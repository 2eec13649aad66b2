"""Code for a GPU, checked where there is none: see pretended.py for what stands in for one.

Training and measuring there must give what they give on the CPU (the arithmetic is the CPU's, so a
difference means that something was taken from, or drawn on, the wrong device).
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from models import IDS, MEASURED, SAMPLED
from torch.utils import backend_registration


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    """What the program saw."""
    if not hasattr(backend_registration, "_setup_privateuseone_for_python_backend"):
        pytest.skip(f"torch {torch.__version__} has no devices made in Python")
    program = Path(__file__).with_name("pretended.py")
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


def test_the_pretended_device_keeps_the_rules_of_a_real_one(report: dict[str, Any]) -> None:
    rules = report["rules"]
    assert "two devices" in rules["two devices"]
    assert "generator of another device: cpu" in rules["a generator of the CPU"]
    assert "generator of another device: pretended" in rules["a generator of the device"]
    assert "not supported" in rules["NumPy"]
    assert rules["waits"] == "_local_scalar_dense _to_copy nonzero tolist"


LABELS = [("runs", label) for label in (*IDS, *(f"sampled subsets, {w}" for w in SAMPLED))]


@pytest.mark.parametrize(("kind", "label"), [*LABELS, *(("gaps", label) for label in IDS)])
def test_training_is_the_same_on_both_devices(
    report: dict[str, Any], kind: str, label: str
) -> None:
    here, there = report["here"][kind][label], report["there"][kind][label]
    assert there == pytest.approx(here, rel=1e-5, abs=1e-5)


def test_no_step_waits_for_the_device(report: dict[str, Any]) -> None:
    """On complete data the host waits for an epoch's end and once a second, not for a step.

    One exception: the torch transform behind a learned correlation matrix indexes with a mask.
    """
    waits = report["there"]["waits"]  # from the end of the first step to that of the second
    assert waits.keys() == report["there"]["runs"].keys()
    waiting = {label: ops for label, ops in waits.items() if ops}
    assert waiting.keys() == {label for label in IDS if "corr=learned" in label}, waiting


@pytest.mark.parametrize("label", MEASURED)
def test_all_numbers_are_the_same_on_both_devices(report: dict[str, Any], label: str) -> None:
    here, there = (report[place]["measured"][label] for place in ("here", "there"))
    assert len(here) > 100
    assert [name for name, _ in here] == [name for name, _ in there]
    for (name, value), (_, other) in zip(here, there, strict=True):
        assert other == pytest.approx(value, rel=1e-3, abs=1e-3, nan_ok=True), name
