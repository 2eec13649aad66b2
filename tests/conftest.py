"""Settings shared by all tests: shapes checked at run time, one thread, fixed seeds, a browser.

Shapes and types in signatures (jaxtyping) are checked by beartype here, and only here: a call
with a wrong shape raises ``jaxtyping.TypeCheckError`` before the function's own check can speak.
A test of that own check, the ``ValueError`` a user sees, asks for the fixture ``as_user``.
"""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Iterator
from pathlib import Path

from jaxtyping import config as jaxtyping_config
from jaxtyping import install_import_hook

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "notebooks"))  # the course
install_import_hook(["mmvae_core", "course"], "typecheck.checked")  # before they are imported

import numpy as np  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402
from hypothesis import settings  # noqa: E402

LONGEST = ("test_browser.py", "test_browser_notebooks.py", "test_sweeps.py", "test_regression.py",
           "test_training.py", "test_course.py", "test_incomplete.py", "test_comparison.py",
           ".ipynb::")  # fmt: skip
SEED = 2505  # any number; fixed, so that a Monte-Carlo test fails always or never


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--torch-threads",
        type=int,
        default=1,
        help="threads of torch inside one test process (default 1: sums in a fixed order, and "
        "no contest between the processes of pytest-xdist); 0 leaves torch's own choice",
    )


def pytest_configure(config: pytest.Config) -> None:
    # The same examples at every run, unless a seed for others is given.
    repeatable = config.getoption("--hypothesis-seed") is None
    for name, count in (("short", 40), ("long", 2000)):
        settings.register_profile(
            name, deadline=None, database=None, max_examples=count, derandomize=repeatable
        )
    settings.load_profile(config.getoption("--hypothesis-profile") or "short")
    if threads := config.getoption("--torch-threads"):
        torch.set_num_threads(threads)
        # For the kernels that tests start: two threads each, contending for two cores, made a
        # training step ten times slower than one.
        os.environ.setdefault("OMP_NUM_THREADS", str(threads))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes long comes first, so that no process waits for another's last file."""
    items.sort(key=lambda item: next((n for n, name in enumerate(LONGEST) if name in item.nodeid),
                                     len(LONGEST)))  # fmt: skip


def pytest_make_parametrize_id(val: object) -> str | None:
    # pytest would write the bytes out: unreadable, and with gzip's time stamp in them not even the
    # same in two processes, which pytest-xdist refuses.
    return f"{len(val)} bytes" if isinstance(val, bytes) else None


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("browser") is None:
        return
    from browser import chromium

    if chromium() is None:
        reason = "no Chromium or Chrome on the PATH (set CHROMIUM to the path of one)"
        if on_ci():
            pytest.fail(f"{reason}; under CI=true a browser test may not be skipped")
        pytest.skip(reason)


def on_ci() -> bool:
    """Whether this is continuous integration, where nothing may be skipped for lack of a tool."""
    return os.environ.get("CI", "").lower() in ("1", "true", "yes")


@pytest.fixture(autouse=True)
def _seeded() -> None:
    random.seed(SEED)
    np.random.seed(SEED)
    torch.manual_seed(SEED)


@pytest.fixture
def as_user() -> Iterator[None]:
    """Run-time shape checks off, as they are for a user: the library's own errors come through."""
    jaxtyping_config.update("jaxtyping_disable", True)
    yield
    jaxtyping_config.update("jaxtyping_disable", False)
