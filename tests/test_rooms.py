"""The order of the rooms: a file imports only from those above it, and none knows a notebook."""

from __future__ import annotations

import ast
from importlib.util import resolve_name
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "mmvae_core"

# The one list. A room is a module or a folder of mmvae_core; inside a folder anything goes.
ROOMS = [
    "subsets",
    "tableau",
    "distributions",
    "checks",
    "files",
    "fused",
    "aggregation",
    "learned",
    "geometry",
    "toy",
    "averages",
    "bounds",
    "networks",
    "data",
    "objectives",
    "recipes",
    "sources",
    "model",
    "laboratory",
    "exact_bounds",
    "metrics",
    "bound_gaps",
    "many_experts",
    "readings",
    "learned_rules",
    "identifiable",
    "training",
    "sweeps",
    "published",
    "comparison",
    "figures",
    "explore",
]
OUTSIDE = {"notebooks", "tests"}  # code that stands on the library, never under it


def room_of(path: Path) -> str:
    """The room a file of the package belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(source: str, package: str) -> list[str]:
    """Every module that ``source``, a file of ``package``, imports, wherever in the file."""
    names = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = resolve_name("." * node.level + (node.module or ""), package)
            names += [f"{base}.{alias.name}" for alias in node.names]
    return names


def complaints(room: str, source: str, package: str = "mmvae_core") -> list[str]:
    """What is wrong with the imports of a file in ``room``; empty where nothing is."""
    if room not in ROOMS:
        return [f"the room {room!r} is not in ROOMS of tests/test_rooms.py: add it to the list"]
    found = []
    for name in imported(source, package):
        top, *rest = name.split(".")
        if top in OUTSIDE:
            found.append(f"{name}: no module knows a notebook or a test")
        elif top == "mmvae_core":
            other = rest[0] if rest else ""
            if other not in ROOMS:
                found.append(f"{name}: import from a room of ROOMS, or add {other!r} to the list")
            elif ROOMS.index(other) > ROOMS.index(room):
                found.append(f"{name}: {room} stands above {other} and may not import from it")
    return found


FILES = [path for path in sorted(PACKAGE.rglob("*.py")) if path != PACKAGE / "__init__.py"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_imports_only_from_the_rooms_above_it(path: Path) -> None:
    package = ".".join(path.parent.relative_to(ROOT).parts)
    assert complaints(room_of(path), path.read_text(encoding="utf-8"), package) == []


@pytest.mark.parametrize(
    ("room", "source", "complaint"),
    [
        ("subsets", "from mmvae_core.tableau import Tableau", "subsets stands above tableau"),
        ("subsets", "def f():\n    import mmvae_core.tableau", "subsets stands above tableau"),
        ("model", "from mmvae_core import subsets, training", "model stands above training"),
        ("subsets", "from .tableau import Tableau", "subsets stands above tableau"),
        ("subsets", "from . import tableau", "subsets stands above tableau"),
        ("model", "from mmvae_core import poe", "add 'poe' to the list"),
        ("training", "from notebooks import helpers", "no module knows a notebook"),
        ("attic", "import torch", "'attic' is not in ROOMS"),
    ],
)
def test_a_wrong_import_is_named(room: str, source: str, complaint: str) -> None:
    (found,) = complaints(room, source)
    assert complaint in found


def test_a_right_import_passes() -> None:
    source = "import torch\nfrom mmvae_core import subsets\nfrom .dataset import Batch"
    assert complaints("data", source, "mmvae_core.data") == []
