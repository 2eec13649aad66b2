"""Faults of many kinds, made from a seed, and what becomes of them.

    python tests/fuzz.py --seed 7 --files 400 --calls 600

The tests run a few of each kind (``tests/test_fuzz.py``); the script runs as many as asked for and
prints a table. A fault has one of five ends:

========  ==========================================================================================
clear     an error that names the file or the argument, says what came, and what was expected
unclear   an error that lacks one of these
right     no error, and rightly: the result is what it would be without the fault
silent    no error, and a result that is not
hangs     nothing within the time limit
========  ==========================================================================================
"""

from __future__ import annotations

import argparse
import signal
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

ENDS = ("clear", "unclear", "right", "silent", "hangs")
SECONDS = 30
EXPECTED = ("must", "need", "expect", "has to", "have to", "is not", "not a", "cannot", "could not",
            "no such", "there is no", "there are", "no checkpoint", "no results", "has no", 
            "neither", "has the options", "made of")  # fmt: skip


@dataclass(frozen=True)
class Fault:
    """One fault.

    Args:
        kind: of file, or the public function.
        what: is wrong, for a person to read.
        run: meets the fault, and returns whatever comes of it.
        names: what a clear message has in it, one of them at least: file or argument.
        right: whether what came of it is right in spite of the fault.
    """

    kind: str
    what: str
    run: Callable[[], Any]
    names: tuple[str, ...]
    right: Callable[[Any], bool] = lambda _: False


def end_of(fault: Fault) -> tuple[str, str]:
    """How it ends, one of :data:`ENDS`, and with which words."""
    try:
        with time_limit(SECONDS), warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            result = fault.run()
    except TimeoutError as error:
        if str(error) == _OUT_OF_TIME:
            return "hangs", f"nothing within {SECONDS} s"
        return _judged(fault, error)
    except Exception as error:
        return _judged(fault, error)
    if fault.right(result):
        return "right", ""
    told = " ".join(str(warning.message) for warning in said)
    if told and _judged(fault, UserWarning(told))[0] == "clear":
        return "clear", told
    return "silent", f"got {result!r:.200}; warned: {told:.200}"


def _judged(fault: Fault, error: Exception) -> tuple[str, str]:
    words = str(error)
    named = any(name and name in words for name in fault.names)
    expected = any(word in words.lower() for word in EXPECTED)
    end = "clear" if named and expected else "unclear"
    return end, f"{type(error).__name__}: {words}"


_OUT_OF_TIME = "the fault's time is up"


@contextmanager
def time_limit(seconds: int) -> Iterator[None]:
    """Raise ``TimeoutError`` in the main thread after ``seconds``."""

    def up(*_: object) -> None:
        raise TimeoutError(_OUT_OF_TIME)

    before = signal.signal(signal.SIGALRM, up)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def seed_of(config: Any) -> int:
    """The seed that pytest was given for examples of its own, or 0."""
    seed = str(config.getoption("--hypothesis-seed"))
    return int(seed) if seed.isdigit() else 0


def table(faults: Iterable[Fault], *, show: bool = True) -> Counter[str]:
    """Run the faults, print a row for every kind and the words of those that end badly."""
    rows: dict[str, Counter[str]] = defaultdict(Counter)
    for fault in faults:
        end, words = end_of(fault)
        rows[fault.kind][end] += 1
        if show and end not in ("clear", "right"):
            print(f"{end}: {fault.kind}, {fault.what}\n    {words:.400}", flush=True)
    total: Counter[str] = Counter()
    print(f"\n{'':48}" + "".join(f"{end:>9}" for end in ENDS))
    for kind, ends in sorted(rows.items()):
        total += ends
        print(f"{kind:48}" + "".join(f"{ends[end]:9}" for end in ENDS))
    print(f"{'all':48}" + "".join(f"{total[end]:9}" for end in ENDS))
    return total


def main() -> int:
    import fuzz_calls
    import fuzz_files

    parser = argparse.ArgumentParser(description="Faults of files and calls, and their ends.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--files", type=int, default=400, help="how many damaged files")
    parser.add_argument("--calls", type=int, default=600, help="how many bad calls")
    asked = parser.parse_args()
    ends: Counter[str] = Counter()
    if asked.files:
        ends += table(fuzz_files.faults(asked.seed, asked.files))
    if asked.calls:
        ends += table(fuzz_calls.faults(asked.seed, asked.calls))
    return int(ends["silent"] + ends["hangs"] > 0)


if __name__ == "__main__":
    raise SystemExit(main())
