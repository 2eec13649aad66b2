"""Notebook 02 in a real browser: every slider by keyboard; the page draws what Python computes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import browser
import numpy as np
import pytest

from mmvae_core.figures.many_experts import crowd_picture
from mmvae_core.figures.picture import Picture
from mmvae_core.figures.readings import readings_picture
from mmvae_core.many_experts import crowd_state
from mmvae_core.readings import readings_state

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(600)]

NOTEBOOK = "02_many_experts.ipynb"
RHO = "correlation of the experts' errors that CoDE assumes"
CROWD = browser.Explorer(
    NOTEBOOK,
    "prediction .explore-crowd",
    {
        "count": "number of experts",
        "rho": RHO,
        "says": "what the odd expert says",
        "sigma": "standard deviation of the odd expert",
    },
)
READINGS = browser.Explorer(
    NOTEBOOK,
    "prediction .explore-readings",
    {
        "count": "number of experts",
        "noise": "variance of the noise of a reading",
        "rho": RHO,
        "contrast": "contrast: the noisiest reading has c times the middle variance, the best one "
        "a c-th of it",
    },
)


@pytest.fixture(scope="module")
def page() -> Iterator[Any]:
    with browser.lab() as lab, browser.notebook(lab, f"notebooks/{NOTEBOOK}") as page:
        yield page


def assert_page_draws(page: Any, css: str, picture: Picture) -> None:
    seen = browser.settled(page, css)
    for name, layer in picture.layers.items():
        np.testing.assert_allclose(seen[name]["x"], layer.x, atol=1e-9, err_msg=name)
        np.testing.assert_allclose(seen[name]["y"], layer.y, atol=1e-9, err_msg=name)
    # Plotly leaves out a text whose point lies outside of the axes: look for the texts themselves.
    shown = page.locator(f".{css} .textpoint text").all_text_contents()
    wanted = [label.text for labels in picture.labels.values() for label in labels]
    assert sorted(shown) == sorted(wanted)


def sweep(page: Any, explorer: browser.Explorer, picture_at: Callable[..., Picture]) -> None:
    """Every slider to its lower end, its upper end and back between, by keyboard alone."""
    at = {}
    for name, label in explorer.sliders.items():
        at[name] = browser.slider_value(browser.focus_slider(page, explorer.css, label))
    assert_page_draws(page, explorer.css, picture_at(**at))
    for name, label in explorer.sliders.items():
        handle = browser.focus_slider(page, explorer.css, label)
        seen = []
        for keys in (["Home"], ["End"], ["ArrowLeft", "ArrowLeft"]):
            for key in keys:
                page.keyboard.press(key)
            browser.settled(page, explorer.css)
            at[name] = browser.slider_value(handle)
            seen.append(at[name])
            assert_page_draws(page, explorer.css, picture_at(**at))
        assert seen[0] < seen[2] < seen[1], (name, seen)
    assert browser.problems(page) == []


def reveal(page: Any, question: str, answer: str, css: str) -> None:
    """Answer a prediction as a reader does; the picture is not on the page before."""
    assert page.locator(f".{css}").count() == 0
    card = page.locator(".prediction", has_text=question)
    card.get_by_label(answer, exact=True).check()
    card.get_by_role("button", name="Commit, then show me").click()
    page.wait_for_selector(f".{css} .js-plotly-plot .main-svg")
    browser.settled(page, css)


def shoot(page: Any, css: str, name: str) -> None:
    page.locator(f".{css}").screenshot(path=browser.artefacts() / f"02_{name}.png")


def test_a_crowd_behind_its_prediction(page):
    assert browser.problems(page) == []
    reveal(page, "You ask ten experts", "about 1/2, then 1/20", CROWD.css)
    assert page.get_by_text("It is: about 1/2, then 1/2").count() == 1
    shoot(page, CROWD.css, "crowd")
    sweep(page, CROWD, lambda **at: crowd_picture(crowd_state(**at)))


def test_readings_behind_their_prediction(page):
    reveal(page, "Two sensors", "yes, most when the sensors are bad", READINGS.css)
    shoot(page, READINGS.css, "readings")
    sweep(page, READINGS, lambda **at: readings_picture(readings_state(**at)))
    page.locator(f".{READINGS.css}").get_by_role("button", name="Five unlike experts").click()
    browser.settled(page, READINGS.css)
    shoot(page, READINGS.css, "readings_unlike")


def test_an_explorer_fits_the_page(page):
    for css in ("explore-crowd", "explore-readings"):
        wide = page.evaluate(
            """css => { const e = document.querySelector(css);
                        const cell = e.closest('.jp-OutputArea-output');
                        return [e.scrollWidth, cell.clientWidth]; }""",
            f".{css}",
        )
        assert wide[0] <= wide[1], (css, wide)
