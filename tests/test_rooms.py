"""The order of the rooms: a file imports only from those above it, and nothing imports in a circle.

A room is a module or a folder of ``mmvae_core``. Between rooms the list below holds; inside a
folder, and over all files of library and course, the imports form no circle. The library knows
neither a notebook nor a test.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from graphlib import CycleError, TopologicalSorter
from importlib.util import resolve_name
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# The one list, from the ground up.
ROOMS = [
    "files",
    "arguments",
    "checks",
    "subsets",
    "tableau",
    "distributions",
    "fused",
    "aggregation",
    "learned",
    "geometry",
    "bounds",
    "networks",
    "data",
    "objectives",
    "recipes",
    "model",
    "worlds",
    "exact_bounds",
    "metrics",
    "checkpoints",
    "training",
    "sweeps",
    "pictures",
]
OUTSIDE = {"course", "notebooks", "tests"}  # code that stands on the library, never under it


def files(folder: Path, package: str) -> dict[str, Path]:
    """Every module below a folder, by its dotted name."""
    found = {}
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder).with_suffix("").parts
        parts = parts[:-1] if parts[-1] == "__init__" else parts
        found[".".join((package, *parts))] = path
    return found


LIBRARY = files(ROOT / "mmvae_core", "mmvae_core")
COURSE = files(ROOT / "notebooks" / "course", "course")


def imported(name: str, source: str, is_package: bool = False) -> list[str]:
    """Every name that the module ``name`` imports while it is itself imported, or later."""
    package = name if is_package else name.rpartition(".")[0]
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = resolve_name("." * node.level + (node.module or ""), package)
            found += [f"{base}.{alias.name}" for alias in node.names]
    return found


def room_of(name: str) -> str:
    return name.split(".")[1] if "." in name else ""


def complaints(name: str, source: str) -> list[str]:
    """What is wrong with the imports of a module of the library; empty where nothing is."""
    room = room_of(name)
    if room not in ROOMS:
        return [f"the room {room!r} is not in ROOMS of tests/test_rooms.py: add it to the list"]
    found = []
    for other in imported(name, source):
        top = other.split(".")[0]
        if top in OUTSIDE:
            found.append(f"{other}: no module of the library knows a notebook or a test")
        elif top == "mmvae_core":
            below = room_of(other)
            if below not in ROOMS:
                found.append(f"{other}: import from a room of ROOMS, or add {below!r} to the list")
            elif ROOMS.index(below) > ROOMS.index(room):
                found.append(f"{other}: {room} stands above {below} and may not import from it")
    return found


def circle(sources: Mapping[str, str], packages: frozenset[str] = frozenset()) -> list[str]:
    """Modules that import each other in a circle; empty where there is none."""
    graph: dict[str, set[str]] = {}
    for name, source in sources.items():
        graph[name] = set()
        for other in imported(name, source, name in packages):
            while other and other not in sources:
                other = other.rpartition(".")[0]
            if other and other != name:
                graph[name].add(other)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return error.args[1]
    return []


@pytest.mark.parametrize("name", [name for name in LIBRARY if name != "mmvae_core"])
def test_a_file_imports_only_from_the_rooms_above_it(name: str) -> None:
    assert complaints(name, LIBRARY[name].read_text(encoding="utf-8")) == []


def test_nothing_imports_in_a_circle() -> None:
    everything = LIBRARY | COURSE
    sources = {name: path.read_text(encoding="utf-8") for name, path in everything.items()}
    packages = frozenset(n for n, path in everything.items() if path.name == "__init__.py")
    assert circle(sources, packages) == []


def test_every_room_of_the_list_is_there() -> None:
    assert [room for room in ROOMS if f"mmvae_core.{room}" not in LIBRARY] == []


@pytest.mark.parametrize("name", LIBRARY)
def test_a_file_of_the_library_can_be_read_in_one_sitting(name: str) -> None:
    lines = len(LIBRARY[name].read_text(encoding="utf-8").splitlines())
    assert lines <= 450, f"{name} has {lines} lines: what in it is a thing of its own?"


@pytest.mark.parametrize(
    ("name", "source", "complaint"),
    [
        ("subsets", "from mmvae_core.tableau import Tableau", "subsets stands above tableau"),
        ("subsets", "def f():\n    import mmvae_core.tableau", "subsets stands above tableau"),
        ("model.vae", "from mmvae_core import subsets, training", "model stands above training"),
        ("subsets", "from .tableau import Tableau", "subsets stands above tableau"),
        ("subsets", "from . import tableau", "subsets stands above tableau"),
        ("model.vae", "from mmvae_core import poe", "add 'poe' to the list"),
        ("training", "from course import bounds", "no module of the library knows a notebook"),
        ("attic", "import torch", "'attic' is not in ROOMS"),
    ],
)
def test_a_wrong_import_is_named(name: str, source: str, complaint: str) -> None:
    (found,) = complaints(f"mmvae_core.{name}", source)
    assert complaint in found


def test_a_circle_is_seen_inside_a_folder_and_through_it() -> None:
    pair = {"p.a": "from p.b import x", "p.b": "def f():\n    from . import a"}
    assert set(circle(pair)) == {"p.a", "p.b"}
    through = {"p": "from p.a import x", "p.a": "from p import y"}
    assert set(circle(through, frozenset({"p"}))) == {"p", "p.a"}
    assert circle({"p": "from p.a import x", "p.a": "import q"}, frozenset({"p"})) == []
