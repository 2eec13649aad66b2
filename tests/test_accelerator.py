"""Code for a GPU, checked where there is none: see pretended.py for what stands in for one.

Training and measuring there must give what they give on the CPU (the arithmetic is the CPU's, so a
difference means that something was taken from, or drawn on, the wrong device).
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from models import IDS
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


@pytest.mark.parametrize("kind", ["runs", "gaps"])
@pytest.mark.parametrize("label", IDS)
def test_training_is_the_same_on_both_devices(
    report: dict[str, Any], kind: str, label: str
) -> None:
    here, there = report[kind][label]
    assert here.keys() == there.keys()
    for name, value in here.items():
        assert there[name] == pytest.approx(value, rel=1e-5, abs=1e-5), name


@pytest.mark.parametrize("weights", ["equal", "learned"])
def test_sampled_subsets_train_the_same_on_both_devices(
    report: dict[str, Any], weights: str
) -> None:
    here, there = report["sampled"][f"{weights} weights"]
    assert there == pytest.approx(here, rel=1e-5, abs=1e-5)


def test_no_step_waits_for_the_device(report: dict[str, Any]) -> None:
    """On complete data the host waits for an epoch's end and once a second, not for a step.

    One exception: the torch transform behind a learned correlation matrix indexes with a mask.
    """
    assert len(report["waits"]) == len(IDS) + 2
    waiting = {label for label, (few, many) in report["waits"].items() if few != many}
    assert waiting == {label for label in IDS if "corr=learned" in label}


def test_all_numbers_are_the_same_on_both_devices(report: dict[str, Any]) -> None:
    assert len(report["measured"]) == 2
    for label, (here, there) in report["measured"].items():
        assert len(here) > 100
        assert [name for name, _ in here] == [name for name, _ in there]
        for (name, value), (_, other) in zip(here, there, strict=True):
            both_nan = math.isnan(value) and math.isnan(other)
            assert both_nan or other == pytest.approx(value, rel=1e-3, abs=1e-3), (label, name)
