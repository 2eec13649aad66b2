"""The files that describe the environment and the release say the same thing."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


PROJECT = tomllib.loads(text("pyproject.toml"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
GROUPS = {"core": PROJECT["dependencies"], **EXTRAS}
REQUIREMENTS = [
    pytest.param(Requirement(line), id=f"{group}-{Requirement(line).name}")
    for group, lines in GROUPS.items()
    for line in lines
]
CONSTRAINTS = [line for line in text("constraints.txt").splitlines() if not line.startswith("#")]
PINS = {canonicalize_name(line.split("==")[0]): line.split("==")[-1] for line in CONSTRAINTS}
CONDA = yaml.safe_load(text("environment.yml"))
MAKE_TARGETS = set(re.findall(r"^([a-z]+):", text("Makefile"), flags=re.MULTILINE))
CITATION = yaml.safe_load(text("CITATION.cff"))


# --- ranges and pins ---------------------------------------------------------------------------


@pytest.mark.parametrize("requirement", REQUIREMENTS)
def test_a_range_is_bounded_and_its_pin_inside(requirement: Requirement) -> None:
    operators = {spec.operator for spec in requirement.specifier}
    assert operators == {">=", "<"}, f"give {requirement.name} a range >=tested,<next major"
    pin = PINS.get(canonicalize_name(requirement.name))
    assert pin is not None, f"constraints.txt has no version of {requirement.name}"
    assert requirement.specifier.contains(pin), f"{pin} is tested, but outside {requirement}"


def test_a_package_has_one_range() -> None:
    ranges: dict[str, set[str]] = {}
    for group in GROUPS.values():
        for requirement in map(Requirement, group):
            name = canonicalize_name(requirement.name)
            ranges.setdefault(name, set()).add(str(requirement.specifier))
    assert {name: found for name, found in ranges.items() if len(found) > 1} == {}


def test_constraints_are_plain_versions_each_once() -> None:
    """No URL, no local build (``+cpu``), no hash: the same file serves every machine."""
    plain = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*==[0-9][A-Za-z0-9.]*")
    assert [line for line in CONSTRAINTS if not plain.fullmatch(line)] == []
    assert len(PINS) == len(CONSTRAINTS)
    assert sorted(CONSTRAINTS, key=lambda line: canonicalize_name(line.split("==")[0])) == (
        CONSTRAINTS
    )


def test_torch_is_the_tested_one_and_its_range_admits_older_and_newer() -> None:
    (torch,) = (r for r in map(Requirement, GROUPS["core"]) if r.name == "torch")
    assert PINS["torch"] == "2.13.0"
    assert all(
        torch.specifier.contains(version) for version in ("2.6.0", "2.11.0", "2.13.0", "2.15.0")
    )
    assert f"PyTorch {PINS['torch']}" in text("README.md")


def test_pre_commit_runs_the_pinned_ruff() -> None:
    (repo,) = yaml.safe_load(text(".pre-commit-config.yaml"))["repos"]
    assert repo["rev"] == f"v{PINS['ruff']}"
    assert {hook["id"] for hook in repo["hooks"]} == {"ruff-check", "ruff-format"}
    assert all("jupyter" in hook["types_or"] for hook in repo["hooks"])


FILES_OF_THE_SET_UP = [
    "pyproject.toml",
    "constraints.txt",
    "environment.yml",
    "Makefile",
    ".ci/run",
]


@pytest.mark.parametrize("name", FILES_OF_THE_SET_UP)
def test_no_file_records_where_packages_come_from(name: str) -> None:
    """Which index pip asks is the machine's business."""
    traces = r"://|index-url|find-links|--hash|\.whl\b|\.tar\.gz|\+cpu|\+cu\d"
    assert re.findall(traces, text(name)) == []


# --- Python and conda --------------------------------------------------------------------------


def test_python_versions_agree() -> None:
    required = SpecifierSet(PROJECT["requires-python"])
    (conda,) = (line for line in CONDA["dependencies"] if str(line).startswith("python"))
    offered = Requirement(conda).specifier
    named = re.findall(r"Programming Language :: Python :: (3\.\d+)", str(PROJECT["classifiers"]))
    assert named, "pyproject.toml names no Python version"
    for version in named:
        assert required.contains(version)
        assert offered.contains(version)
        assert version in text("README.md")
    oldest = min(map(Version, named))
    older = f"{oldest.major}.{oldest.minor - 1}"
    newer = f"3.{max(map(Version, named)).minor + 1}"
    assert not required.contains(older)
    assert not offered.contains(older)
    assert not offered.contains(newer)
    assert f"version_info < ({oldest.major}, {oldest.minor})" in text("Makefile")
    assert f"Python {oldest} or newer" in text("Makefile")


def test_conda_installs_this_project_with_its_constraints() -> None:
    assert CONDA["channels"] == ["conda-forge"]
    plain = [line for line in CONDA["dependencies"] if isinstance(line, str)]
    assert [re.split(r"[<>=]", line)[0] for line in plain] == ["python", "pip"]
    (pip,) = (line["pip"] for line in CONDA["dependencies"] if isinstance(line, dict))
    assert "--constraint constraints.txt" in pip
    (project,) = (line for line in pip if line.startswith("-e"))
    extras = Requirement(project.replace("-e .", PROJECT["name"])).extras
    assert extras == {"lab", "evaluation", "test"}
    assert extras <= set(EXTRAS)


def test_make_installs_extras_that_exist() -> None:
    (found,) = re.findall(r'--editable "\.\[([a-z,]+)\]"', text("Makefile"))
    assert set(found.split(",")) == set(EXTRAS)
    assert "--constraint constraints.txt" in text("Makefile")


def test_the_set_up_is_made_anew_when_its_files_change() -> None:
    (line,) = re.findall(r"^\$\(READY\):(.*)$", text("Makefile"), flags=re.MULTILINE)
    assert {"pyproject.toml", "constraints.txt"} <= set(line.split())


# --- README, release, JupyterLab ---------------------------------------------------------------


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_commands_that_are_told_exist(name: str) -> None:
    told = set(re.findall(r"(?:^|`)make ([a-z]+)", text(name), flags=re.MULTILINE))
    assert told
    assert told <= MAKE_TARGETS


def test_readme_sets_up_with_two_commands() -> None:
    first = re.search(r"```bash\n(.*?)```", text("README.md"), flags=re.DOTALL)
    assert first is not None
    assert first[1].split("\n") == ["make lab", "make test", ""]
    assert text(".ci/run").rstrip().endswith("\nmake test")


def test_readme_shows_the_conda_environment_by_its_name() -> None:
    assert f"conda activate {CONDA['name']}\n" in text("README.md")


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_inside_the_repository_lead_somewhere(name: str) -> None:
    links = re.findall(r"\]\((?!https?://)([^)#]+)\)", text(name))
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_readme_maps_the_notebooks_that_are_here() -> None:
    rows = re.findall(r"^\| \[?(\d\d_\w+).*\| (here|planned) \|$", text("README.md"), flags=re.M)
    here = sorted(name for name, state in rows if state == "here")
    assert here == sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))


def test_one_version_everywhere() -> None:
    entries = re.findall(r"^## \[(.+?)\] - (\S+)$", text("CHANGELOG.md"), flags=re.MULTILINE)
    newest, date = entries[0]
    assert newest == PROJECT["version"] == str(CITATION["version"])
    assert date == str(CITATION["date-released"])


def test_citation_and_license_are_complete() -> None:
    for key in ("cff-version", "message", "title", "type", "authors", "license"):
        assert CITATION[key]
    (author,) = CITATION["authors"]
    assert author == {"name": PROJECT["authors"][0]["name"]}
    assert author["name"] in text("LICENSE")
    assert CITATION["license"] == PROJECT["license"] == "MIT"


def test_jupyterlab_keeps_canvases_that_scroll_out_of_view() -> None:
    """The installed settings say "defer", and JupyterLab knows that value."""
    from jupyterlab.commands import get_app_dir
    from jupyterlab_server.settings_utils import get_settings

    plugin = "@jupyterlab/notebook-extension:tracker"
    app = Path(get_app_dir())
    found, warnings = get_settings(
        str(app / "settings"), str(app / "schemas"), "", schema_name=plugin
    )
    mode = found["schema"]["properties"]["windowingMode"]
    shipped = json.loads(text("jupyter/consensus-lab.json"))[plugin]["windowingMode"]
    assert warnings is None or plugin not in str(warnings)
    assert shipped in [choice["const"] for choice in mode["oneOf"]]
    assert mode["default"] == shipped, "run `make lab` or `make test` once: it installs the setting"
