"""Every notebook runs at its smoke setting, and is committed in the form the course keeps."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import nbformat
import papermill
import pytest

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SMOKE_S = 120  # seconds a cell may take at the smoke setting, on two cores
MAX_BYTES = 400_000  # of a committed notebook
WIDGETS = "application/vnd.jupyter.widget-state+json"

every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def errors(notebook: nbformat.NotebookNode) -> Iterator[str]:
    """Errors in the outputs of cells, and in Output widgets, which papermill passes over."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    widgets = notebook.metadata.get("widgets", {}).get(WIDGETS, {}).get("state", {})
    for widget in widgets.values():
        outputs += widget["state"].get("outputs", [])
    for output in outputs:
        if output["output_type"] == "error":
            yield f"{output['ename']}: {output['evalue']}"


@every_notebook
def test_a_notebook_runs_at_its_smoke_setting(path: Path, tmp_path: Path) -> None:
    done = papermill.execute_notebook(
        str(path),
        str(tmp_path / path.name),
        parameters={"smoke": True},
        cwd=str(path.parent),
        execution_timeout=SMOKE_S,
        progress_bar=False,
    )
    assert list(errors(done)) == []


@every_notebook
def test_a_notebook_is_committed_in_the_form_of_the_course(path: Path) -> None:
    notebook = nbformat.read(path, as_version=nbformat.NO_CONVERT)
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
    assert notebook.metadata.kernelspec.name == "python3"
    assert "widgets" not in notebook.metadata, "clear the widget state before committing"
    assert list(errors(notebook)) == []
    tagged = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    assert len(tagged) == 1, "one cell is tagged `parameters`"
    assert "smoke = False" in tagged[0].source
    assert path.stat().st_size < MAX_BYTES, f"{path.stat().st_size} bytes: store less output"


def test_an_error_inside_an_output_widget_is_seen() -> None:
    error = {"output_type": "error", "ename": "ZeroDivisionError", "evalue": "division by zero"}
    state = {"1": {"model_name": "OutputModel", "state": {"outputs": [error]}}}
    notebook = nbformat.v4.new_notebook(metadata={"widgets": {WIDGETS: {"state": state}}})
    assert list(errors(notebook)) == ["ZeroDivisionError: division by zero"]


PAGES = [*NOTEBOOKS, *sorted(ROOT.glob("*.md")), *sorted((ROOT / "notebooks").glob("*.md"))]
LINK = re.compile(r"\]\(([^)\s]+)[^)]*\)|(?:src|href)=[\"']([^\"']+)[\"']")


def text_of(path: Path) -> str:
    """The prose of a notebook or page, without code."""
    if path.suffix == ".ipynb":
        cells = nbformat.read(path, as_version=4).cells
        return "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    return re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)


def anchors(path: Path) -> set[str]:
    """What a link into a page can name: headings, as GitHub and JupyterLab make them, and ids."""
    text = text_of(path)
    found = re.findall(r"^#+ +(.*?) *$", text, flags=re.MULTILINE)
    github = {re.sub(r"[^\w\- ]", "", heading).replace(" ", "-") for heading in found}
    jupyter = {heading.replace(" ", "-") for heading in found}
    ids = set(re.findall(r"<a id=\"([^\"]+)\"", text))
    return {name.lower() for name in github | jupyter | ids}


def dead_links(path: Path, text: str) -> list[str]:
    """Relative links of a page that lead nowhere: no such file, or no such heading in it."""
    dead = []
    for link in filter(None, (a or b for a, b in LINK.findall(text))):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = unquote(link).partition("#")
        target = (path.parent / name).resolve() if name else path
        is_page = target.suffix in (".md", ".ipynb")
        if not target.exists() or (anchor and is_page and anchor.lower() not in anchors(target)):
            dead.append(link)
    return dead


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_every_relative_link_leads_somewhere(path: Path) -> None:
    assert dead_links(path, text_of(path)) == []


def test_a_dead_link_is_seen() -> None:
    text = "[a](nowhere.py) [b](README.md#no-such-heading) [c](README.md#start) [d](https://x.y)"
    assert dead_links(ROOT / "README.md", text) == ["nowhere.py", "README.md#no-such-heading"]
