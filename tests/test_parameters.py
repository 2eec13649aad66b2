"""Every notebook takes its parameters at their ends, and refuses others at once, in a sentence."""

from __future__ import annotations

import ast
import math
import runpy
from functools import cache
from pathlib import Path
from typing import Any

import nbformat
import papermill
import pytest
from course.comparison.results import Results
from course.parameters import ROOT_VARIABLE, check, flag, folder, folder_with, number, whole
from papermill.translators import PythonTranslator

from mmvae_core.recipes import RECIPES

FOLDER = Path(__file__).resolve().parents[1] / "notebooks"
NOTEBOOKS = {path.stem[:2]: path for path in sorted(FOLDER.glob("*.ipynb"))}
every_notebook = pytest.mark.parametrize("number", NOTEBOOKS)


def cells(number: str) -> tuple[str, str]:
    """The cell of parameters, and the one below it, which checks them."""
    code = [c for c in nbformat.read(NOTEBOOKS[number], 4).cells if c.cell_type == "code"]
    assert code[0].metadata.tags == ["parameters"]
    return code[0].source, code[1].source


def checked(number: str, **told: Any) -> dict[str, Any]:
    """The names of a notebook that was told this by papermill, run as far as the check."""
    own, checks = cells(number)
    history = ["", own, *([PythonTranslator.codify(told, "Parameters")] if told else [])]
    names: dict[str, Any] = {"In": history}
    for cell in [*history, checks]:
        exec(cell, names)
    return names


PARAMETERS = {
    number: [line.targets[0].id for line in ast.parse(cells(number)[0]).body]  # type: ignore
    for number in NOTEBOOKS
}


RUN_PATH, READ = cache(runpy.run_path), cache(Results.read)


@pytest.fixture(autouse=True)
def as_a_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(FOLDER)
    monkeypatch.setattr(runpy, "run_path", RUN_PATH)  # what 07 reads, read once
    monkeypatch.setattr(Results, "read", READ)
    monkeypatch.delenv(ROOT_VARIABLE, raising=False)


# --- the form -------------------------------------------------------------------------------------


@every_notebook
def test_one_parameter_a_line_seen_by_papermill_and_checked(number: str) -> None:
    own, checks = cells(number)
    lines = ast.parse(own).body
    assert all(isinstance(line, ast.Assign) and len(line.targets) == 1 for line in lines)
    names = PARAMETERS[number]
    assert len({line.lineno for line in lines}) == len(names)
    assert list(papermill.inspect_notebook(str(NOTEBOOKS[number]))) == names
    calls = [node for node in ast.walk(ast.parse(checks)) if isinstance(node, ast.Call)]
    call = next(c for c in calls if getattr(c.func, "attr", "") == "check")
    assert sorted(keyword.arg for keyword in call.keywords) == sorted(names)


@every_notebook
def test_a_notebook_takes_its_own_parameters_and_smoke(number: str) -> None:
    checked(number)
    checked(number, smoke=True)


# --- what is refused ------------------------------------------------------------------------------

NO_NUMBERS: list[Any] = ["0.4", None, math.nan, math.inf, -math.inf, 10**400, [0.5], True]
NO_COUNTS: list[Any] = [*NO_NUMBERS, 1.5, 0, -1]
NO_WORDS: list[Any] = ["vqvae", "", None, 3, ["digits"]]
NO_FOLDERS: list[Any] = [
    "", " ", 3, None, ["runs"], "a\0b", "~nobody-of-that-name/runs", "01_two_experts.ipynb",
    "01_two_experts.ipynb/runs", "n" * 300,
]  # fmt: skip
COMMON: dict[str, list[Any]] = {
    "smoke": ["yes", "True", 1, 0, None],
    "seed": [1.5, -1, "0", None, True, math.nan, 2**32],
    "budget_s": [*NO_NUMBERS, 0, -1],
    "recipe": [*NO_WORDS, "CODE_VAE", "code-vae"],
    "epochs": NO_COUNTS,
    "batch_size": [*NO_COUNTS, 12_001],
    "latent_dim": [*NO_COUNTS, 4097],
    "out_dir": NO_FOLDERS,
}
REFUSED: dict[str, dict[str, list[Any]]] = {
    "01": {
        "mu": [4.0, None, [], [4.0], [4.0, 8.0, 9.0], ["4", "8"], [4.0, math.nan], [4.0, 12.1]],
        "variance": [1.0, None, [3.0], [3.0, 0.0], [3.0, -1.0], [1.0, math.inf], [1.0, "1"]],
        "rho": [*NO_NUMBERS, 1, -1, 0.96, -0.96],
        "theta": [*NO_NUMBERS, 13],
    },
    "02": {"rho": [*NO_NUMBERS, -0.2, 1], "noise": [*NO_NUMBERS, 0, -1, 1e-9, 1e9]},
    "03": {"num_experts": [*NO_COUNTS, 1, 6, 3.0]},
    "04": {"noise": [*NO_NUMBERS, 0, -1]},
    "05": {"steps": NO_COUNTS, "figures": [*NO_FOLDERS, ".", "nowhere"]},
    "06": {
        "modalities": [*NO_COUNTS, 1, 9],
        "rho": [None, math.nan, math.inf, True, "0.4", "learnt", [0.4], 1, -0.5],
        "recipe_options": [None, [], "bound", {"bnd": 1}, {"weights": "some"}, {"corr": 3}],
        "beta": [*NO_NUMBERS, 0, -1],
        "samples": NO_COUNTS,
        "subset_samples": [0, -1, 1.5, "2", True, 8],
        "data": [*NO_WORDS, "Digits", "full_polymnist"],
        "data_root": [3, "", "nowhere", "01_two_experts.ipynb"],
        "device": [None, 0, "gpu", "meta", "cuda:99", ""],
    },
    "07": {
        "table": [None, 3, "", "nowhere.parquet", "../README.md", "../figures", "~/nowhere", []],
        "data": [*NO_WORDS, "noisy_copy"],
        "recompute": ["yes", 1, None],
        "studies": [None, [], "recipes_digits", ["recipes"], [3]],
        "max_runs": NO_COUNTS,
        "data_root": [3, "", "nowhere"],
    },
    "09": {
        "missing_rate": [*NO_NUMBERS, -0.1, 0.7, 1],
        "which": ["m3", 0, "", ["m0"], True],
        "soft_options": [None, [], {"bound": "dreg"}, {"alpha": 2}, {"kl": "neither"}],
    },
}


@pytest.mark.parametrize(
    ("number", "name"), [(n, name) for n in NOTEBOOKS for name in PARAMETERS[n]]
)
def test_what_cannot_be_used_is_refused_by_name(number: str, name: str) -> None:
    for value in (COMMON | REFUSED[number])[name]:
        with pytest.raises(ValueError, match=rf"^{name} must be .*; got .*run again$") as refused:
            checked(number, **{name: value})
        came = repr(value)
        assert len(came) > 40 or came in str(refused.value), refused.value
        assert len(str(refused.value)) < 700 and "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("number", "told", "name"),
    [
        ("06", {"data": "noisy_copy"}, "modalities"),  # which has two, and three are the default
        ("06", {"modalities": 5, "rho": -0.3}, "rho"),
        ("06", {"recipe": "mmvae", "recipe_options": {"bound": "dreg"}, "subset_samples": 2},
         "subset_samples"),
        ("06", {"recipe": "vae", "recipe_options": {"rho": 0.4}}, "recipe_options"),
        ("06", {"smoke": True, "batch_size": 641}, "batch_size"),
        ("06", {"data": "polymnist"}, "data_root"),
        ("07", {"recompute": True, "studies": ["rho"]}, "data_root"),
        ("09", {"which": "m1", "missing_rate": 1.0}, "missing_rate"),  # a view hidden everywhere
        ("09", {"smoke": True, "batch_size": 641}, "batch_size"),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_refused(number: str, told: dict, name: str) -> None:
    with pytest.raises(ValueError, match=f"^{name} must be "):
        checked(number, **told)


@pytest.mark.parametrize(
    ("number", "told"),
    [
        ("01", {"mu": [4, 4], "variance": [1, 1.0], "rho": -0.95}),
        ("06", {"rho": "learned", "subset_samples": 7, "data_root": None}),
        ("06", {"data": "noisy_copy", "modalities": 2, "rho": -0.99, "out_dir": "~/runs"}),
        ("06", {"modalities": 8, "rho": -0.133, "recipe_options": {"corr": "learned"}}),
        ("07", {"data": "digits", "recompute": True, "studies": ["rho", "copy"], "data_root": "."}),
        ("09", {"missing_rate": 2 / 3}),
        ("09", {"which": "m2", "missing_rate": 0.99, "soft_options": {"alpha": 0.5}}),
    ],
)
def test_the_ends_are_taken(number: str, told: dict[str, Any]) -> None:
    assert told.items() <= checked(number, **told).items()


def test_every_recipe_is_taken() -> None:
    for recipe in RECIPES:
        checked("06", recipe=recipe)
        checked("09", recipe=recipe)


def test_folders_are_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert folder.holds(tmp_path / "a" / "b") and folder.holds("~/a") and folder.holds("a")
    assert list(tmp_path.iterdir()) == [], "looking leaves nothing behind"
    assert not folder_with("a").holds(tmp_path)
    (tmp_path / "a").touch()
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    assert folder_with("a").holds("~")
    assert not folder.holds(tmp_path / "a" / "b") and not folder.holds(tmp_path / "gone")


# --- names ----------------------------------------------------------------------------------------


@every_notebook
def test_a_name_that_is_no_parameter_is_refused_with_the_nearest(number: str) -> None:
    with pytest.raises(
        ValueError, match=r"^smok is no parameter .* did you mean smoke\? It has sm"
    ):
        checked(number, smok=True)
    with pytest.raises(ValueError, match=r"^xyz is no parameter of this notebook\. It has smoke"):
        checked(number, smoke=True, xyz=1)


def in_a_lab(*cells: str) -> None:
    """Cells as they are run in JupyterLab, one after the other."""
    names: dict[str, Any] = {"In": [""], "check": check, "flag": flag, "n": whole(1, 9)}
    for cell in cells:
        names["In"].append(cell)
        exec(cell, names)


def test_a_name_changed_by_hand_is_refused_until_it_is_mended() -> None:
    good, bad = "smoke = False\ncount = 3", "smoke = False\nCount = 3"
    checks = "check(globals(), smoke=flag, count=n)"
    in_a_lab(good, checks, "total = 3", checks)
    with pytest.raises(ValueError, match=r"^Count is no parameter .* did you mean count"):
        in_a_lab(good, checks, bad, checks)
    with pytest.raises(ValueError, match=r"^count is not set"):
        in_a_lab("smoke = False", checks)
    injected = "# Parameters\ncoutn = 4"
    with pytest.raises(ValueError, match=r"^coutn is no parameter"):
        in_a_lab(good, injected, checks)
    in_a_lab(bad, injected, good, checks)  # what was mended is forgotten
    in_a_lab(good, injected, "# Parameters\ncount = 4", checks)


def test_a_rule_is_looked_up_after_the_values_it_depends_on() -> None:
    names: dict[str, Any] = {"check": check, "number": number, "low": "x", "high": 3}
    call = "check(globals(), low=number(0, 9), high=lambda: number(low, 9))"
    with pytest.raises(ValueError, match=r"^low must be a number from 0 to 9; got 'x'"):
        exec(call, names)
    exec(call, names | {"low": 3})


# --- whole notebooks ------------------------------------------------------------------------------


def run(number: str, out: Path, **told: Any) -> str:
    """Everything that a notebook says at its smoke setting."""
    notebook = papermill.execute_notebook(
        str(NOTEBOOKS[number]), str(out), {"smoke": True, **told}, cwd=str(FOLDER),
        progress_bar=False, execution_timeout=120,
    )  # fmt: skip
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    texts = [o.get("text", "") or o.get("data", {}).get("text/plain", "") for o in outputs]
    return "\n".join(texts)


def test_equal_experts_are_told_as_equal(tmp_path: Path) -> None:
    said = run("01", tmp_path / "out.ipynb", variance=[1.0, 1.0], rho=0.95)
    assert "Equally certain experts weigh the same" in said
    assert "rho 0.9500   weights  0.5000  0.5000   variance 0.9750" in said
    assert "rho 1.0000" not in said and "nowhere: it stays" in said


def test_a_picture_and_its_copy_train(tmp_path: Path) -> None:
    said = run("06", tmp_path / "out.ipynb", data="noisy_copy", modalities=2, rho=-0.99,
               out_dir=str(tmp_path / "runs"))  # fmt: skip
    assert "views noisy, clean" in said
    assert list(tmp_path.glob("runs-smoke/noisy_copy-*/results.json"))


def test_papermill_stops_at_an_unknown_name(tmp_path: Path) -> None:
    with pytest.raises(papermill.PapermillExecutionError, match="did you mean num_experts"):
        run("03", tmp_path / "out.ipynb", num_expert=4)
