"""Every notebook in a real browser: it runs from top to bottom, and its predictions reveal.

In notebook 07 the reader also chooses, presses a mark, and sees samples.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import nbformat
import pytest
from browser import ROOT, Lab, artefacts, lab, notebook, painted, problems
from course.comparison.results import Results
from course.comparison.states import trade_off
from papermill.iorw import load_notebook_node
from papermill.parameterize import parameterize_notebook
from playwright.sync_api import TimeoutError

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]
# Where every mark of the means is drawn, in the data's units; plotly may pack numbers.
_MEANS = """
() => Object.fromEntries(document.querySelector('.PlaneOfRuns .js-plotly-plot')._fullData
  .filter(t => t.hovertemplate).map(t => [t.name.split(' ').pop(), Array.from(t.x)]))
"""
# Where on the screen the mark of a recipe is.
_PLACE = """
name => {
  const gd = document.querySelector('.PlaneOfRuns .js-plotly-plot');
  const trace = gd._fullData.find(t => t.name === 'plane ' + name);
  const frame = gd.getBoundingClientRect(), {xaxis, yaxis} = gd._fullLayout;
  return [frame.x + xaxis._offset + xaxis.l2p(trace.x[0]),
          frame.y + yaxis._offset + yaxis.l2p(trace.y[0])];
}
"""
NOTEBOOKS = sorted(path.name for path in (ROOT / "notebooks").glob("*.ipynb"))


@pytest.fixture(scope="module")
def server() -> Iterator[Lab]:
    with lab() as running:
        yield running


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_runs_and_its_predictions_reveal(name: str, server: Lab) -> None:
    path = server.root / "notebooks" / name
    nbformat.write(parameterize_notebook(load_notebook_node(str(path)), {"smoke": True}), path)
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
        if name == "07_comparison.ipynb":
            choose_and_press(page)
        assert problems(page) == []


def await_marks(page: Any, results: Results, x: str, **wanted: Any) -> None:
    """Wait until the page draws the marks that the table has."""
    marks = trade_off(results.select(rho=[None, 0.4], **wanted), x, "conditional_coherence")
    means = {mark.recipe: [mark.x.mean] for mark in marks}
    page.wait_for_function(
        f"""means => {{ const seen = ({_MEANS})();
            return Object.entries(seen).every(([name, x]) => x.length === (means[name] || []).length
              && x.every((value, i) => Math.abs(value - means[name][i]) < 1e-6)); }}""", arg=means
    )  # fmt: skip


def choose_and_press(page: Any) -> None:
    """The plane of runs follows its menus, tells of a mark, and shows samples of one pressed."""
    results = Results.read(ROOT / "figures" / "07_comparison.parquet")
    plane = page.locator(".PlaneOfRuns")
    plane.locator(".js-plotly-plot .main-svg").first.wait_for()
    await_marks(page, results, "log_likelihood", data="polymnist")
    plane.get_by_label("data", exact=True).select_option("digits")
    await_marks(page, results, "log_likelihood", data="digits")
    plane.scroll_into_view_if_needed()
    page.mouse.move(*page.evaluate(_PLACE, "vae"), steps=5)  # which no other mark is near
    plane.locator(".hoverlayer", has_text="3 seeds").wait_for()
    samples = plane.get_by_role("img", name="what VAE generates from each view")
    for _ in range(4):  # plotly counts a click only where it has found the mark before
        page.mouse.move(*page.evaluate(_PLACE, "vae"), steps=5)
        page.mouse.click(*page.evaluate(_PLACE, "vae"))
        with suppress(TimeoutError):
            samples.wait_for(timeout=6000)
            break
    plane.screenshot(path=artefacts() / "07_comparison.png")
    assert samples.count() == 1
