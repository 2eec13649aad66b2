"""Every notebook in a real browser: it runs from top to bottom, and its predictions reveal."""

from __future__ import annotations

import re
from collections.abc import Iterator

import nbformat
import pytest
from browser import ROOT, Lab, lab, notebook, painted, problems

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]
NOTEBOOKS = sorted(path.name for path in (ROOT / "notebooks").glob("*.ipynb"))


@pytest.fixture(scope="module")
def server() -> Iterator[Lab]:
    with lab() as running:
        yield running


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_runs_and_its_predictions_reveal(name: str, server: Lab) -> None:
    path = server.root / "notebooks" / name
    copy = nbformat.read(path, 4)
    for cell in copy.cells:
        if "parameters" in cell.metadata.get("tags", []):
            cell.source = cell.source.replace("smoke = False", "smoke = True")
    nbformat.write(copy, path)
    with notebook(server, f"notebooks/{name}") as page:
        assert problems(page) == []
        for quiz in page.locator(".prediction").all():
            quiz.scroll_into_view_if_needed()
            assert quiz.locator(".mmvae-picture, .js-plotly-plot").count() == 0
            commit = quiz.get_by_role("button", name="Commit, then show me")
            assert commit.is_disabled()
            quiz.get_by_role("radio").first.check()
            commit.click()
            quiz.get_by_text(re.compile("As you said|You said")).wait_for()
            for picture in quiz.locator(".mmvae-picture").all():
                picture.locator("svg g.layers").first.wait_for(state="attached")
                assert painted(picture)["layers"]
        assert problems(page) == []
