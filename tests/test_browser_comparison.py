"""Notebook 07 in a real browser: the reader predicts, chooses, presses a mark, and sees samples."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import browser
import pytest
from course.comparison.results import Results
from course.comparison.states import trade_off
from playwright.sync_api import TimeoutError

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(600)]

FIGURES = Path(__file__).resolve().parents[1] / "figures"
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


def await_marks(page: Any, results: Results, x: str, **wanted: Any) -> None:
    """Wait until the page draws the marks that the table has."""
    marks = trade_off(results.select(rho=[None, 0.4], **wanted), x, "conditional_coherence")
    means = {mark.recipe: [mark.x.mean] for mark in marks}
    page.wait_for_function(
        f"""means => {{ const seen = ({_MEANS})();
            return Object.entries(seen).every(([name, x]) => x.length === (means[name] || []).length
              && x.every((value, i) => Math.abs(value - means[name][i]) < 1e-6)); }}""", arg=means
    )  # fmt: skip


def test_the_reader_predicts_chooses_and_presses_a_mark() -> None:
    results = Results.read(FIGURES / "07_comparison.parquet")
    with browser.lab() as lab, browser.notebook(lab, "notebooks/07_comparison.ipynb") as page:
        explorer = page.locator(".PlaneOfRuns")
        assert browser.problems(page) == [] and explorer.count() == 0  # not before the prediction
        card = page.locator(".prediction", has_text="highest joint log-likelihood")
        card.get_by_label("first there too", exact=True).check()
        card.get_by_role("button", name="Commit, then show me").click()
        page.wait_for_selector(".PlaneOfRuns .js-plotly-plot .main-svg")
        await_marks(page, results, "log_likelihood", data="polymnist")
        explorer.get_by_label("data", exact=True).select_option("digits")
        await_marks(page, results, "log_likelihood", data="digits")
        explorer.scroll_into_view_if_needed()
        page.mouse.move(*page.evaluate(_PLACE, "vae"), steps=5)  # which no other mark is near
        explorer.locator(".hoverlayer", has_text="3 seeds").wait_for()
        samples = explorer.get_by_role("img", name="what VAE generates from each view")
        for _ in range(4):  # plotly counts a click only where it has found the mark before
            page.mouse.move(*page.evaluate(_PLACE, "vae"), steps=5)
            page.mouse.click(*page.evaluate(_PLACE, "vae"))
            with suppress(TimeoutError):
                samples.wait_for(timeout=6000)
                break
        explorer.screenshot(path=browser.artefacts() / "07_comparison.png")
        assert samples.count() == 1
        assert browser.problems(page) == []
