"""Exercises: predict, then reveal; and checks that say what is wrong with an answer.

* :class:`Prediction`: the reader commits to an answer, then the picture unlocks.
* :func:`check_number` and :func:`check_function`: judge what the reader has worked out.
"""

from __future__ import annotations

import html
import math
import re
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import ipywidgets as widgets

from mmvae_core.pictures.controls import ErrorLine
from mmvae_core.pictures.style import INK

__all__ = ["Prediction", "check_function", "check_number"]


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


_CARD_TEXT = (
    "font-size:15px;line-height:1.5;max-width:60em;padding:2px 8px;"
    f"color:var(--jp-content-font-color1,{INK})"
)


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
    if _near(value, right, decimals):
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
