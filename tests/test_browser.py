"""Every explorer of the course in a real browser.

All subclasses of ``Explorer`` in the course are put into one notebook; each of their controls goes
to both ends and to the middle by keyboard, each preset is pressed, and what the SVG painter has put
on the page is compared with the description of that state, made in this process.
"""

from __future__ import annotations

import html
import pkgutil
import re
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import nbformat
import pytest
from browser import Lab, artefacts, follows, lab, notebook, problems

from mmvae_core.pictures.controls import Choice, Range
from mmvae_core.pictures.explorer import Explorer

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]


def explorers() -> list[type[Explorer]]:
    """All that the course defines and that paint with our own painter."""
    import course

    for module in pkgutil.walk_packages(course.__path__, "course."):
        import_module(module.name)
    found, todo = [], [Explorer]
    while todo:
        todo += (below := todo.pop().__subclasses__())
        found += [one for one in below if one.__module__.startswith("course.")]
    ours = [one for one in found if one._canvas is Explorer._canvas]
    return sorted(ours, key=lambda one: one.__name__)


EXPLORERS = explorers()


@pytest.fixture(scope="module")
def server() -> Iterator[Lab]:
    with lab() as running:
        yield running


def book(cells: list[str]) -> nbformat.NotebookNode:
    made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells])
    made.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
    return made


def test_an_error_in_a_cell_is_a_problem(server: Lab) -> None:
    """The harness itself: it sees an exception, and one that a callback raised."""
    cells = [
        "1 / 0",
        "import ipywidgets as w\nout = w.Output()\nwith out:\n    [][1]\nout",
        "from mmvae_core.pictures.controls import ErrorLine\nline = ErrorLine()\n"
        "with line.guard():\n    int('x')\nline",
        "from mmvae_core.pictures.controls import Slider\n"
        "slider = Slider('x', 'unguarded', 0.0)\n"
        "slider.observe(lambda _: {}['missing'], 'value')\nslider.add_class('unguarded')\nslider",
    ]
    broken = book(cells)
    for cell in broken.cells:
        cell.metadata["tags"] = ["raises-exception"]
    nbformat.write(broken, server.root / "broken.ipynb")
    with notebook(server, "broken.ipynb") as page:
        page.get_by_text("could not be updated").wait_for()
        page.get_by_role("slider", name="unguarded").press("ArrowRight")
        page.wait_for_function(
            "() => window.kernelErrors.some(text => text.startsWith('KeyError'))"
        )
        found = "\n".join(problems(page))
    for error in ("ZeroDivisionError", "IndexError", "ValueError", "KeyError"):
        assert error in found


@pytest.fixture(scope="module")
def gallery(server: Lab) -> Iterator[Any]:
    """A page that shows every explorer, and one of them twice."""
    cells = [
        f"from {one.__module__} import {one.__name__}\n"
        f"{one.__name__}{'.example' if hasattr(one, 'example') else ''}()"
        for one in EXPLORERS
    ]
    cells += [
        "from course.two_experts import TwoExperts\nclass Twice(TwoExperts):\n    pass\n"
        "twice = Twice()\ntwice.set(rho=-0.5)\ntwice",
        "twice.set(rho=-0.7)\ntwice",
    ]
    nbformat.write(book(cells), server.root / "gallery.ipynb")
    with notebook(server, "gallery.ipynb") as page:
        yield page


def made(kind: type[Explorer]) -> Explorer:
    return kind.example() if hasattr(kind, "example") else kind()


_CONTROLS = """
place => ({
  sliders: Object.fromEntries([...place.querySelectorAll('input[type=range]')].map(
    input => [input.getAttribute('aria-label'), Number(input.value)])),
  chosen: Object.fromEntries([...place.querySelectorAll('.widget-toggle-buttons')].map(row => [
    row.querySelector('.widget-label').textContent,
    [...row.querySelectorAll('button')].findIndex(b => b.classList.contains('mod-active'))])),
  pressed: [...place.querySelectorAll('button.mod-active')].map(b => b.textContent.trim()),
})
"""


def values(place: Any, explorer: Explorer) -> dict[str, Any]:
    """Where the page's controls are."""
    seen, found = place.evaluate(_CONTROLS), {}
    for name, control in explorer.controls.items():
        if isinstance(control, Choice):
            found[name] = explorer.inputs[name]._options_full[seen["chosen"][control.label]][1]
        elif isinstance(control, Range):
            found[name] = float(seen["sliders"][control.spoken])
        else:  # a switch
            found[name] = control.label in seen["pressed"]
    return found


@pytest.mark.parametrize("kind", EXPLORERS, ids=lambda kind: kind.__name__)
def test_an_explorer_shows_the_state_of_its_controls(kind: type[Explorer], gallery: Any) -> None:
    explorer = made(kind)
    place = gallery.locator(f".{kind.__name__}")
    picture = place.locator(".mmvae-picture")
    picture.locator("svg").wait_for()
    place.scroll_into_view_if_needed()

    def agree() -> dict[str, Any]:
        def describe() -> Any:
            explorer.set(**values(place, explorer))
            return explorer.picture(explorer.now)

        seen = follows(picture, describe)
        header, rows, _ = explorer.table(explorer.now) or ((), (), ())
        wanted = [list(map(plain, row)) for row in ([header, *rows] if rows else [])]
        assert [list(map(plain, row)) for row in seen["table"]] == wanted
        assert plain(seen["words"]) == plain(explorer.words(explorer.now))
        assert problems(gallery) == []
        return seen

    first = agree()
    assert first["name"], "a picture needs a name, for assistive technology"
    assert first["alt"], "and a description"
    place.screenshot(path=artefacts() / f"{kind.__name__}.png")
    for name, control in explorer.controls.items():
        start = values(place, explorer)[name]
        if isinstance(control, Choice):
            row = place.locator(".widget-toggle-buttons").filter(has_text=control.label)
            for button in row.locator("button").all():
                button.press("Enter")
                agree()
        elif isinstance(control, Range):
            slider = place.get_by_role("slider", name=control.spoken, exact=True)
            slider.focus()
            middle = round((control.max - control.min) / control.step / 2)
            moves = [
                ["Home"],
                ["PageUp"] * (middle // 10) + ["ArrowRight"] * (middle % 10),
                ["End"],
            ]
            before = start
            for keys in moves:
                for key in keys:
                    gallery.keyboard.press(key)
                agree()
                at = values(place, explorer)[name]
                assert at != before or start in (control.min, control.max)
                before = at
            place.screenshot(path=artefacts() / f"{kind.__name__}-{name}.png")
            for _ in range(6):
                gallery.keyboard.press("ArrowLeft")  # held down: no press may be lost or queue
            agree()
        else:
            button = place.get_by_role("button", name=control.label, exact=True)
            for _ in range(2):
                button.press("Enter")
                agree()
    for preset in explorer.presets:
        place.get_by_role("button", name=preset, exact=True).press("Enter")
        agree()


def plain(text: str) -> str:
    """The letters of HTML as the page shows them, whatever lies between them."""
    return re.sub(r"\s+", "", html.unescape(re.sub(r"</?[a-zA-Z][^>]*>", "", text)))


@pytest.mark.parametrize("kind", EXPLORERS, ids=lambda kind: kind.__name__)
def test_an_explorer_fits_a_projector_and_a_phone(kind: type[Explorer], gallery: Any) -> None:
    """1280 x 720: sliders and picture at once. 390: no text leaves the cell's output."""
    place = gallery.locator(f".{kind.__name__}")
    place.locator("svg").first.wait_for()
    high = place.evaluate(
        """place => [place.querySelector('svg').getBoundingClientRect().bottom
                     - place.getBoundingClientRect().top,
                     document.querySelector('.jp-WindowedPanel-outer').clientHeight]"""
    )
    assert high[0] <= high[1], f"{kind.__name__} is {high[0]:.0f} px high, the page {high[1]:.0f}"
    gallery.set_viewport_size({"width": 390, "height": 844})
    try:
        gallery.wait_for_function(
            "name => document.querySelector(`.${name} svg`).viewBox.baseVal.width < 640",
            arg=kind.__name__,
        )
        place.screenshot(path=artefacts() / f"{kind.__name__}-390.png")
        cut = place.evaluate(
            """place => {
                 const edge = place.closest('.jp-OutputArea-output').getBoundingClientRect();
                 return [...place.querySelectorAll('svg text, input, output, label, p')]
                   .filter(e => { const box = e.getBoundingClientRect();
                     const out = box.left < edge.left - 1 || box.right > edge.right + 1;
                     return box.width && out; })
                   .map(e => e.textContent || e.outerHTML);
               }"""
        )
        assert cut == []
    finally:
        gallery.set_viewport_size({"width": 1280, "height": 720})


def test_a_view_made_later_shows_the_state_of_now(gallery: Any) -> None:
    """The picture has changed since its widget was made; and it is shown twice."""
    from course.two_experts import TwoExperts

    explorer = TwoExperts()
    explorer.set(rho=-0.7)
    pictures = gallery.locator(".Twice .mmvae-picture")
    pictures.nth(1).locator("g.layers").first.wait_for(state="attached")
    assert pictures.count() == 2
    for picture in pictures.all():
        picture.scroll_into_view_if_needed()
        follows(picture, lambda: explorer.picture(explorer.now))
    assert problems(gallery) == []


def test_a_difference_is_seen() -> None:
    """What compares page and picture can fail: a point, a colour, a text."""
    from browser import difference, expected

    from mmvae_core.pictures.picture import Label, Layer, Panel, Picture

    def picture(y: float = 1.0, color: str = "#000000", text: str = "a") -> Picture:
        layer = Layer("p", [0, 1], [0, y], color=color)
        label = {"p": [Label(0, 0, text)]}
        return Picture(200, {"p": Panel((0.1, 0.9, 0.1, 0.9))}, {"line": layer}, label)

    wanted = expected(picture())
    assert difference(wanted, wanted) == ""
    for other in (picture(y=0.999), picture(color="#000001"), picture(text="b")):
        assert difference(expected(other), wanted)
