"""Damaged files and bad calls, a few of each kind; ``fuzz.py`` runs as many as asked for."""

from __future__ import annotations

import warnings

import fuzz_files
import pytest
from fuzz import end_of, seed_of

FILES = 40
CLEAR = 0.95  # of the errors


@pytest.mark.parametrize("kind", fuzz_files.SCENES)
def test_whole_files_are_read_without_a_word(as_user, kind):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        found = fuzz_files.SCENES[kind]().run(lambda path: None)
    assert found == fuzz_files.result_of(kind)


def test_a_damaged_file_is_named_or_made_good(as_user, request):
    seed = seed_of(request.config)
    ends = [(*end_of(fault), fault) for fault in fuzz_files.faults(seed, FILES)]
    told = [f"{fault.kind}, {fault.what}: {end}, {words}" for end, words, fault in ends]
    bad = [line for line, (end, *_) in zip(told, ends, strict=True) if end in ("silent", "hangs")]
    assert not bad, "\n".join(bad)
    errors = [line for line, (end, *_) in zip(told, ends, strict=True) if end != "right"]
    unclear = [line for line, (end, *_) in zip(told, ends, strict=True) if end == "unclear"]
    assert len(unclear) <= (1 - CLEAR) * len(errors), "\n".join(unclear)
    assert errors and len(errors) < FILES
