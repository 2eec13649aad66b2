"""Small things that every explorer shares: sliders, predictions, self-checks, a line for errors.

* :class:`Slider`: a labelled slider that a keyboard and a screen reader can use.
* :func:`preset_buttons`: buttons that move many sliders at once.
* :class:`Prediction`: the reader commits to an answer, then the picture unlocks.
* :func:`check_number` and :func:`check_function`: exercises that say what is wrong.
* :class:`Picture`: a plotly figure whose updates cost the kernel as little as they can.
* :class:`ErrorLine`: an exception in a callback is shown in the widget, never swallowed.
* :func:`mime_bundle`: a widget that leaves its static twin where widgets cannot be shown.
"""

from __future__ import annotations

import base64
import html
import math
import re
import textwrap
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import anywidget
import ipywidgets as widgets
import plotly.graph_objects as go
import traitlets
from matplotlib.figure import Figure

from mmvae_core.figures.style import INK, small_png

__all__ = [
    "ErrorLine",
    "Picture",
    "Prediction",
    "Slider",
    "check_function",
    "check_number",
    "mime_bundle",
    "preset_buttons",
    "table",
]

_SLIDER_JS = """
function render({ model, el }) {
  // JupyterLab moves between cells on arrow keys; here they belong to the slider.
  el.dataset.lmSuppressShortcuts = "true";
  el.classList.add("mmvae-slider");
  const label = document.createElement("label");
  const input = Object.assign(document.createElement("input"), { type: "range", step: "any" });
  const number = document.createElement("output");
  label.append(input);
  label.prepend(document.createElement("span"));
  el.append(label, number);

  const grid = value => {           // the nearest value that the slider can be moved to
    const [low, high, step] = ["min", "max", "step"].map(k => model.get(k));
    const steps = Math.round((value - low) / step);
    return Math.min(high, Math.max(low, Number((low + steps * step).toFixed(10))));
  };
  const show = () => {
    const value = model.get("value");
    input.min = model.get("min");
    input.max = model.get("max");
    input.disabled = model.get("disabled");
    if (Number(input.value) !== value) input.value = value;
    number.textContent = value.toFixed(model.get("decimals")).replace("-", "\\u2212");
    label.firstChild.textContent = model.get("label");
    input.setAttribute("aria-label", model.get("spoken") || model.get("label"));
    input.setAttribute("aria-valuetext", value.toFixed(model.get("decimals")));
    input.title = model.get("spoken");
    const share = (value - model.get("min")) / (model.get("max") - model.get("min"));
    el.style.setProperty("--share", `${100 * share}%`);
    el.style.setProperty("--accent", model.get("color"));
  };
  const move = value => {
    model.set("value", grid(value));
    model.save_changes();
    show();
  };
  const keys = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1,
                 PageUp: 10, PageDown: -10, Home: -Infinity, End: Infinity };
  input.addEventListener("input", () => move(Number(input.value)));
  input.addEventListener("keydown", event => {
    const steps = keys[event.key];
    if (steps === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    if (!Number.isFinite(steps)) return move(model.get(steps < 0 ? "min" : "max"));
    move(model.get("value") + steps * model.get("step"));
  });
  model.on("change", show);
  show();
  return () => model.off("change", show);
}
export default { render };
"""

_SLIDER_CSS = """
.mmvae-slider { display: grid; grid-template-columns: 1fr 3.6em; align-items: center;
  column-gap: 8px; min-width: 0; height: 34px; padding: 0 4px; color: #1f2430; font-size: 14px; }
.mmvae-slider label { display: grid; grid-template-columns: 2.1em 1fr; align-items: center; }
.mmvae-slider label span { font-size: 16px; font-weight: 600; }
.mmvae-slider output { font-variant-numeric: tabular-nums; font-size: 15px; text-align: right; }
.mmvae-slider input { -webkit-appearance: none; appearance: none; width: 100%; height: 24px;
  margin: 4px 0; background: transparent; cursor: pointer; }
.mmvae-slider input::-webkit-slider-runnable-track { height: 4px; border-radius: 2px;
  background: linear-gradient(to right, var(--accent) var(--share), #d9dce1 var(--share)); }
.mmvae-slider input::-moz-range-track { height: 4px; border-radius: 2px; background: #d9dce1; }
.mmvae-slider input::-moz-range-progress { height: 4px; border-radius: 2px;
  background: var(--accent); }
.mmvae-slider input::-webkit-slider-thumb { -webkit-appearance: none; width: 18px; height: 18px;
  margin-top: -7px; border-radius: 50%; border: 3px solid var(--accent); background: white; }
.mmvae-slider input::-moz-range-thumb { width: 12px; height: 12px; border-radius: 50%;
  border: 3px solid var(--accent); background: white; }
.mmvae-slider input:focus-visible { outline: 3px solid #E69F00; outline-offset: 0;
  border-radius: 6px; }
.mmvae-slider input:disabled { opacity: 0.4; cursor: default; }
"""


class Slider(anywidget.AnyWidget):
    """A slider with a visible label, an accessible name and steps on the keyboard.

    Arrow keys move by ``step``, PageUp and PageDown by ten steps, Home and End to the ends. A
    value set from Python is kept exactly, also between two steps (the square root of 3, say);
    only what the reader moves lands on a step.

    Args:
        label: a short symbol, shown on the left (``"μ₁"``).
        spoken: what it means, for screen readers and as a tooltip (``"mean of expert 1"``).
        value, min, max, step: as of any slider; a value outside is drawn to the nearest end.
        decimals: how many are shown.
        color: of the bar, as CSS.

    >>> s = Slider("ρ", "correlation of the errors", 0.6, min=-0.95, max=0.95, step=0.01)
    >>> s.value = 3
    >>> s.value
    0.95
    """

    _esm = _SLIDER_JS
    _css = _SLIDER_CSS
    value = traitlets.Float(0.0).tag(sync=True)
    min = traitlets.Float(0.0).tag(sync=True)
    max = traitlets.Float(1.0).tag(sync=True)
    step = traitlets.Float(0.1).tag(sync=True)
    decimals = traitlets.Int(2).tag(sync=True)
    label = traitlets.Unicode("").tag(sync=True)
    spoken = traitlets.Unicode("").tag(sync=True)
    color = traitlets.Unicode(INK).tag(sync=True)
    disabled = traitlets.Bool(False).tag(sync=True)

    def __init__(self, label: str, spoken: str, value: float | int, **options: Any) -> None:
        # The ends first: a value is checked against them.
        super().__init__(label=label, spoken=spoken, **options)
        self.value = value

    @traitlets.validate("value")
    def _inside(self, proposal: dict[str, Any]) -> float:
        value = float(proposal["value"])
        if not math.isfinite(value):
            raise traitlets.TraitError(f"{self.label} must be a finite number; got {value}")
        return min(max(value, self.min), self.max)


def preset_buttons(
    presets: Mapping[str, Mapping[str, float | int]],
    apply: Callable[[Mapping[str, float | int]], None],
) -> widgets.HBox:
    """One button for each preset; a click hands the preset's values to ``apply``.

    ``apply`` should set all sliders and redraw once (see ``TwoExperts.set``).
    """
    buttons = []
    for name, values in presets.items():
        button = widgets.Button(description=name, layout=widgets.Layout(width="auto"))
        button.on_click(lambda _, values=values: apply(values))
        buttons.append(button)
    return widgets.HBox(buttons, layout=widgets.Layout(flex_flow="row wrap"))


class Picture(go.FigureWidget):
    """A plotly figure that is told what to draw and does not listen to what the page reports back.

    After every update the page sends plotly's defaults for all traces to the kernel. No explorer
    reads them, they would keep the kernel busy for longer than the update itself, and plotly 7.1
    cannot take them in where a trace holds NumPy arrays: each message would end in a ValueError
    that only the server's log shows.
    """

    @traitlets.observe("_js2py_traceDeltas")
    def _handler_js2py_traceDeltas(self, change: Any) -> None:
        self._trace_edit_in_process = False

    @traitlets.observe("_js2py_layoutDelta")
    def _handler_js2py_layoutDelta(self, change: Any) -> None:
        self._layout_edit_in_process = False


class ErrorLine(widgets.HTML):
    """A line, empty while all is well, that shows an exception of a callback to the reader.

    >>> line = ErrorLine()
    >>> with line.guard():
    ...     raise ValueError("rho must lie in (-1, 1); got 2")
    >>> "rho must lie in (-1, 1); got 2" in line.value
    True
    >>> with line.guard():
    ...     pass
    >>> line.value
    ''
    """

    @contextmanager
    def guard(self) -> Iterator[None]:
        """Run a block; show its exception here instead of raising it, clear the line if none."""
        try:
            yield
        except Exception as error:
            self.last = error
            last = traceback.extract_tb(error.__traceback__)[-1]
            text = html.escape(f"{type(error).__name__}: {error}")
            where = html.escape(f"{last.filename.rsplit('/', 1)[-1]}, line {last.lineno}")
            self.value = (
                '<div role="alert" style="background:#fff4ec;border-left:4px solid #D55E00;'
                f'padding:6px 10px;color:{INK};line-height:1.4"><b>This picture could not be '
                f"updated.</b> {text} <small>({where})</small></div>"
            )
        else:
            self.last = None
            if self.value:
                self.value = ""

    last: Exception | None = None


class Prediction:
    """Predict, then reveal: the reader commits to an answer, then the picture unlocks.

    Before, only the question and its options show, and ``reveal`` is not on the page. After
    :meth:`commit` the options are locked, the chosen one is judged, ``why`` is told and
    ``reveal`` appears. There is no way back: a prediction that can be changed is not one. Where
    widgets cannot be shown, the question and its options stand as text.

    Args:
        question: what will happen? HTML allowed.
        options: the possible answers, as text.
        answer: index of the right one.
        why: the explanation, shown after either answer. HTML allowed.
        reveal: what to unlock: a widget, an explorer (anything with a ``widget``), or a function
            that makes one (called once, at the reveal); None where there is only text.

    >>> quiz = Prediction("1 + 1 = ?", ["1", "2"], answer=1, why="Count.")
    >>> quiz.commit(0)
    >>> quiz.correct
    False
    """

    def __init__(
        self,
        question: str,
        options: Sequence[str],
        *,
        answer: int,
        why: str,
        reveal: Any = None,
    ) -> None:
        if not 0 <= answer < len(options):
            raise ValueError(f"answer must be an index of {len(options)} options; got {answer}")
        self.answer = answer
        self.correct: bool | None = None  # None until committed
        self._why, self._reveal = why, reveal
        self._asked, self._options = _plain(question), list(options)
        self.question = widgets.HTML(f'<div style="{_CARD_TEXT}"><b>Predict.</b> {question}</div>')
        self.choices = widgets.RadioButtons(
            options=list(zip(options, range(len(options)), strict=True)),
            value=None,
            layout=widgets.Layout(width="auto", margin="2px 0 2px 8px"),
        )
        self.button = widgets.Button(
            description="Commit, then show me",
            disabled=True,
            tooltip="choose an answer first",
            button_style="primary",
            layout=widgets.Layout(width="auto", margin="2px 0 6px 8px", align_self="flex-start"),
        )
        self.feedback = widgets.HTML()
        self.error = ErrorLine()
        self.choices.observe(self._chosen, "value")
        self.button.on_click(lambda _: self.commit(self.choices.value))
        self.widget = widgets.VBox(
            [self.question, self.choices, self.button, self.feedback, self.error],
            layout=widgets.Layout(padding="4px 0"),
        )
        self.widget.add_class("prediction")

    def _chosen(self, _: dict[str, Any]) -> None:
        if self.correct is None:
            self.button.disabled = self.choices.value is None

    def commit(self, choice: int | None) -> None:
        """Lock in option number ``choice`` and unlock the picture; the first answer counts."""
        if self.correct is not None or choice is None:
            return
        self.correct = choice == self.answer
        self.choices.value = choice
        self.choices.disabled = self.button.disabled = True
        self.button.layout.display = "none"
        said = html.escape(self._options[choice])
        verdict = (
            f"<b style='color:#0072B2'>✓ As you said: {said}.</b>"
            if self.correct
            else f"<b style='color:#D55E00'>✗ You said: {said}. "
            f"It is: {html.escape(self._options[self.answer])}.</b>"
        )
        self.feedback.value = f'<div style="{_CARD_TEXT}">{verdict} {self._why}</div>'
        if self._reveal is not None:
            with self.error.guard():
                shown = self._reveal() if callable(self._reveal) else self._reveal
                self.widget.children = (*self.widget.children, getattr(shown, "widget", shown))

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        bundle = self.widget._repr_mimebundle_(**kwargs)
        asked = f"{self._asked} (To be answered in a running notebook.)"
        asked = textwrap.fill(asked, 88, break_on_hyphens=False)
        bundle["text/plain"] = "\n".join([asked, *(f"  ( ) {text}" for text in self._options)])
        return bundle


def _plain(text: str) -> str:
    """HTML without its tags, for where only text is shown."""
    return html.unescape(re.sub(r"</?[a-zA-Z][^>]*>", "", text))


_CARD_TEXT = f"font-size:15px;line-height:1.5;max-width:60em;color:{INK};padding:2px 8px"


def check_number(
    name: str,
    yours: Any,
    right: float | int,
    *,
    mistakes: Mapping[float | int, str] | None = None,
    decimals: int = 4,
) -> bool:
    """Judge a number that the reader has worked out, and say what is wrong with it.

    ``None`` is "not answered yet". A wrong number is looked up in ``mistakes`` (the values that
    the usual slips lead to); otherwise it is only called rounded, too large or too small. The
    right number is never printed, nor what it could be computed from.

    Args:
        name: what was asked for.
        yours: the reader's answer.
        right: the right one, computed, not typed.
        mistakes: ``value -> what the reader has probably done``.
        decimals: digits that have to agree.

    Returns:
        Whether the answer is right. Prints the verdict.

    >>> check_number("variance of PoE", 1.0, 0.75, mistakes={1.0: "this is expert 2's"})
    ✗ variance of PoE: 1 is not it: this is expert 2's
    False
    >>> check_number("variance of PoE", 0.75, 0.75)
    ✓ variance of PoE: 0.75 is right
    True
    """
    if yours is None:
        print(f"… {name}: no answer yet; replace None and run the cell again")
        return False
    try:
        value = float(yours)
    except (TypeError, ValueError):
        print(f"✗ {name}: a number is needed; got {type(yours).__name__}")
        return False
    if abs(value - right) <= 0.5000001 * 10**-decimals:
        print(f"✓ {name}: {value:.{decimals}g} is right")
        return True
    why = next(
        (says for slip, says in (mistakes or {}).items() if _near(value, slip, decimals)),
        _diagnosis(value, right, decimals),
    )
    print(f"✗ {name}: {value:.{decimals + 2}g} is not it: {why}")
    return False


def _near(value: float, other: float, decimals: int) -> bool:
    return abs(value - other) <= 0.5000001 * 10**-decimals


def _diagnosis(value: float, right: float | int, decimals: int) -> str:
    if not math.isfinite(value):
        return "it is not a finite number"
    if abs(value - right) < 0.01 * abs(right):
        return f"close, but {decimals} digits are asked for; do not round on the way"
    return "too large" if value > right else "too small"


def _related(value: float, right: float, decimals: int) -> str | None:
    """What ``value`` is to ``right``. It gives ``right`` away: for values of functions only."""
    tries = [
        (-right, "the size is right, the sign is not"),
        (right**2, "this is the square: is a standard deviation asked for, not a variance?"),
        (1 / right if right else math.nan, "this is the reciprocal: precision or variance?"),
        (math.sqrt(right) if right > 0 else math.nan, "this is the square root: is a variance "
         "asked for, not a standard deviation?"),
        (1 - right, "this is 1 minus the answer: the other expert's weight?"),
    ]  # fmt: skip
    return next((says for other, says in tries if _near(value, other, decimals)), None)


def check_function(
    name: str,
    yours: Callable[..., Any] | None,
    right: Callable[..., Any],
    cases: Iterable[tuple[Any, ...]],
    *,
    hint: str = "",
    atol: float = 1e-8,
) -> bool:
    """Judge a function that the reader has written, on every one of ``cases``.

    Says on which input it fails first, what it gave and what is wrong with that: a sign, a square
    or root, a reciprocal, or only too large or too small. (One value told is no formula told.)

    Args:
        name: what was asked for.
        yours: the reader's function; one that returns None is "not answered yet".
        right: the right one.
        cases: tuples of arguments, the simplest first.
        hint: one sentence, printed after a wrong answer.
        atol: how far numbers may be off.

    Returns:
        Whether all cases agree. Prints the verdict.

    >>> check_function("square", lambda x: x + x, lambda x: x * x, [(0,), (2,), (3,)])
    ✗ square: right for 2 of 3 cases; for (3) it gives 6: too small
    False
    """
    cases = list(cases)
    if yours is None:
        print(f"… {name}: no answer yet; write the function and run the cell again")
        return False
    after = f" ({hint})" if hint else ""
    for case in cases:
        shown = (
            f"({', '.join(f'{a:.4g}' if isinstance(a, (int, float)) else f'{a}' for a in case)})"
        )
        try:
            got = yours(*case)
        except Exception as error:  # the reader's own code: any error of it is the verdict
            print(f"✗ {name}: for {shown} it raises {type(error).__name__}: {error}{after}")
            return False
        if got is None:
            print(f"… {name}: no answer yet; let the function return something")
            return False
        expected = right(*case)
        try:
            given, wanted = _flat(got), _flat(expected)
        except (TypeError, ValueError):
            print(f"✗ {name}: for {shown} it gives {type(got).__name__}, not numbers{after}")
            return False
        if len(given) != len(wanted):
            print(f"✗ {name}: for {shown} it gives {len(given)} numbers, not {len(wanted)}{after}")
            return False
        for g, w in zip(given, wanted, strict=True):
            if not abs(g - w) <= atol:  # false for NaN too
                right_sofar = sum(_agree(yours, right, c, atol) for c in cases)
                why = _related(g, w, 8) or _diagnosis(g, w, 8)
                print(
                    f"✗ {name}: right for {right_sofar} of {len(cases)} cases; for {shown} it "
                    f"gives {g:.6g}: {why}{after}"
                )
                return False
    print(f"✓ {name}: right in all {len(cases)} cases")
    return True


def _agree(yours: Callable, right: Callable, case: tuple, atol: float) -> bool:
    try:
        return all(
            abs(g - w) <= atol
            for g, w in zip(_flat(yours(*case)), _flat(right(*case)), strict=True)
        )
    except Exception:  # the reader's own code; a case that raises is a case that is wrong
        return False


def _flat(value: Any) -> list[float]:
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, (tuple, list)):
        return [number for part in value for number in _flat(part)]
    return [float(value)]


def mime_bundle(widget: widgets.Widget, twin: Figure, alt: str, **kwargs: Any) -> dict[str, Any]:
    """How a cell shows ``widget``: live where widgets run, its static ``twin`` elsewhere.

    A running JupyterLab takes the widget; GitHub and print take the picture, and ``alt`` is the
    text. To be returned by ``_repr_mimebundle_`` of an explorer.
    """
    bundle = widget._repr_mimebundle_(**kwargs)
    bundle["image/png"] = base64.b64encode(small_png(twin, colors=64)).decode("ascii")
    bundle["text/plain"] = alt
    return bundle


def table(header: Sequence[str], rows: Iterable[Sequence[str]], colors: Sequence[str]) -> str:
    """An HTML table of numbers: first column the names with a coloured bar, the rest aligned."""
    cell = "padding:2px 14px 2px 0;text-align:right;font-variant-numeric:tabular-nums"
    head = "".join(
        f'<th scope="col" style="{cell};text-align:{"left" if i == 0 else "right"};'
        f'font-weight:600;color:{MUTED_TEXT};border-bottom:1px solid #d9dce1">{text}</th>'
        for i, text in enumerate(header)
    )
    body = "".join(
        f'<tr><th scope="row" style="{cell};text-align:left;font-weight:600;'
        f'border-left:5px solid {color};padding-left:8px">{row[0]}</th>'
        + "".join(f'<td style="{cell}">{text}</td>' for text in row[1:])
        + "</tr>"
        for row, color in zip(rows, colors, strict=True)
    )
    return (
        f'<table style="border-collapse:collapse;font-size:14px;line-height:1.5;color:{INK}">'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    )


MUTED_TEXT = "#5c6370"  # MUTED is for lines; text needs more contrast
