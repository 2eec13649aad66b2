"""The interactive notebooks in a real browser: every slider by keyboard, every number compared.

What the page shows (plotly's arrays, the table's text) has to be what ``mmvae_core`` computes for
the values on the sliders. Screenshots go to the folder ``MMVAE_ARTEFACTS``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from browser import (
    Explorer,
    Lab,
    artefacts,
    drawn,
    focus_slider,
    lab,
    notebook,
    problems,
    readout,
    settled,
    slider_value,
)

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]

TWO_EXPERTS = Explorer(
    notebook="01_two_experts.ipynb",
    css="explore-two-experts",
    sliders={
        "mu_1": "mean of expert 1",
        "mu_2": "mean of expert 2",
        "sigma_1": "standard deviation of expert 1",
        "sigma_2": "standard deviation of expert 2",
        "rho": "correlation of the experts' errors",
        "theta": "true value",
    },
)
# From end to end, in steps and in leaps.
KEYS = ["Home", "ArrowRight", "ArrowUp", "PageUp", "PageUp", "End", "ArrowLeft", "PageDown"]
ATOL = 1e-9  # plotly is sent float64; nothing is rounded on the way


@pytest.fixture(scope="module")
def server() -> Iterator[Lab]:
    with lab() as running:
        yield running


def two_experts_agree(page: Any, css: str, at: dict[str, float]) -> None:
    """Curves, ellipses, markers and table are those of ``two_experts_state`` at ``at``."""
    from mmvae_core.explore.two_experts import table_rows
    from mmvae_core.toy import DRAWN, two_experts_state

    state = two_experts_state(
        (at["mu_1"], at["mu_2"]), (at["sigma_1"] ** 2, at["sigma_2"] ** 2), at["rho"], at["theta"]
    )
    seen = drawn(page, css)

    def same(name: str, x: Any, y: Any) -> None:
        np.testing.assert_allclose(seen[name]["x"], x, atol=ATOL, err_msg=f"{name}, x, {at}")
        np.testing.assert_allclose(seen[name]["y"], y, atol=ATOL, err_msg=f"{name}, y, {at}")

    for name in DRAWN:
        same(f"density {name}", *state.density[name])
        mean, std = state.mean[name], state.std[name]
        np.testing.assert_allclose(seen[f"row {name}"]["x"], [mean - std, mean, mean + std])
    same("ellipse unit", *state.ellipse_unit)
    same("ellipse code", *state.ellipse_code)
    same("ellipse poe", *state.ellipse_poe)
    for name, touch in (("code", state.touch_code), ("poe", state.touch_poe)):
        same(f"path {name}", *np.stack([state.point, touch], axis=1))
    for i in (0, 1):
        same(f"weight expert_{i + 1}", state.rho_grid, state.weights_by_rho[i])
        same(f"weight now expert_{i + 1}", [state.rho], [state.weights["code"][i]])
    same("variance code", state.rho_grid, state.variance_by_rho)
    same("variance now", [state.rho], [state.variance["code"]])
    shown, expected = readout(page, css)[1:], table_rows(state)
    assert [row[0] for row in shown] == [row[0] for row in expected]
    # The last digit may differ by one where the sixteenth decides how the fourth is rounded.
    np.testing.assert_allclose(numbers(shown), numbers(expected), rtol=0, atol=1.01e-4)


def numbers(rows: list[list[str]]) -> np.ndarray:
    return np.array([[float(text.replace("−", "-")) for text in row[1:]] for row in rows])


def drive(page: Any, explorer: Explorer, agree: Callable[..., None], shots: list[str]) -> None:
    """Move every slider through ``KEYS``; after each press compare page and ``mmvae_core``."""
    handles = {name: focus_slider(page, explorer.css, says)
               for name, says in explorer.sliders.items()}  # fmt: skip
    at = {name: slider_value(handle) for name, handle in handles.items()}
    agree(page, explorer.css, at)
    for name, says in explorer.sliders.items():
        start, seen = at[name], drawn(page, explorer.css)
        handle = focus_slider(page, explorer.css, says)
        for key in KEYS:
            page.keyboard.press(key)
            now = settled(page, explorer.css)
            value = slider_value(handle)
            assert value != at[name], f"{key} did not move {says}"
            at[name] = value
            moved = [trace for trace in now if not same_trace(now[trace], seen[trace])]
            assert moved, f"the picture did not follow {says}"
            seen = now
            agree(page, explorer.css, at)
            assert problems(page) == []
            if key in ("Home", "End"):
                shoot(page, explorer, f"{name}-{key.lower()}", shots)
        # Back to where the slider was, as a reader would: a step at a time would take too long.
        page.locator(f".{explorer.css}").get_by_role("button", name="The paper’s toy").click()
        settled(page, explorer.css)
        at = {n: slider_value(h) for n, h in handles.items()}
        assert at[name] == start


def same_trace(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return all(np.array_equal(one[axis], other[axis]) for axis in ("x", "y") if axis in one)


def shoot(page: Any, explorer: Explorer, name: str, shots: list[str]) -> None:
    path = artefacts() / f"{explorer.notebook.removesuffix('.ipynb')}-{name}.png"
    page.locator(f".{explorer.css}").first.screenshot(path=path)
    shots.append(path.name)


def test_two_experts(server: Lab) -> None:
    """Predict, unlock, drive all sliders, press all presets; no cell or output holds an error."""
    shots: list[str] = []
    with notebook(server, f"notebooks/{TWO_EXPERTS.notebook}") as page:
        assert problems(page) == []
        # Locked: the first explorer is not on the page before an answer is given.
        quiz = page.locator(".prediction")
        quiz.wait_for()
        assert quiz.locator(".js-plotly-plot").count() == 0
        commit = quiz.get_by_role("button", name="Commit, then show me")
        assert commit.is_disabled()
        quiz.get_by_label("toward the surer expert, never past it").check()
        commit.click()
        quiz.locator(".js-plotly-plot").wait_for()
        assert "It is: past the surer expert" in quiz.inner_text()
        page.screenshot(path=artefacts() / "01_two_experts-unlocked.png")
        inside = Explorer(
            TWO_EXPERTS.notebook, f"prediction .{TWO_EXPERTS.css}", TWO_EXPERTS.sliders
        )
        page.locator(f".{inside.css}").get_by_role("button", name="The paper’s toy").click()
        settled(page, inside.css)
        shoot(page, inside, "toy", shots)
        drive(page, inside, two_experts_agree, shots)
        for preset in ("Equal experts", "One overconfident expert"):
            page.locator(f".{inside.css}").get_by_role("button", name=preset).click()
            settled(page, inside.css)
            at = {
                name: slider_value(focus_slider(page, inside.css, says))
                for name, says in inside.sliders.items()
            }
            two_experts_agree(page, inside.css, at)
            shoot(page, inside, preset.lower().replace(" ", "-"), shots)
        assert problems(page) == []
    assert len(shots) == 1 + 2 * len(TWO_EXPERTS.sliders) + 2


def test_an_error_in_a_cell_is_a_problem(server: Lab) -> None:
    """The harness itself: it sees an exception, and one that a callback raised."""
    import nbformat

    cells = [
        "1 / 0",
        "import ipywidgets as w\nout = w.Output()\nwith out:\n    [][1]\nout",
        "from mmvae_core.explore.controls import ErrorLine\nline = ErrorLine()\n"
        "with line.guard():\n    int('x')\nline",
        "from mmvae_core.explore.controls import Slider\n"
        "slider = Slider('x', 'unguarded', 0.0)\n"
        "slider.observe(lambda _: {}['missing'], 'value')\nslider.add_class('unguarded')\nslider",
    ]
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells])
    book.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
    for cell in book.cells:
        cell.metadata["tags"] = ["raises-exception"]
    nbformat.write(book, server.root / "broken.ipynb")
    with notebook(server, "broken.ipynb") as page:
        page.get_by_text("could not be updated").wait_for()
        page.get_by_role("slider", name="unguarded").press("ArrowRight")
        page.wait_for_timeout(1000)
        found = "\n".join(problems(page))
    for error in ("ZeroDivisionError", "IndexError", "ValueError", "KeyError"):
        assert error in found
