"""Controls and exercises say what is wrong, lock what is committed, and give no answer away."""

from __future__ import annotations

import numpy as np
import pytest

from mmvae_core.pictures.controls import ErrorLine, Slider
from mmvae_core.pictures.exercises import Prediction, check_function, check_number


def test_a_slider_stays_inside_and_refuses_nan() -> None:
    slider = Slider("ρ", "correlation", 0.6, min=-0.95, max=0.95, step=0.01)
    slider.value = 7
    assert slider.value == 0.95
    with pytest.raises(Exception, match="finite"):
        slider.value = float("nan")


def test_a_prediction_locks_and_reveals_once() -> None:
    made = []
    quiz = Prediction("?", ["a", "b"], answer=1, why="so", reveal=lambda: made.append(1) or Slider(
        "x", "x", 0.0))  # fmt: skip
    assert quiz.button.disabled and not made
    quiz.choices.value = 0
    assert not quiz.button.disabled and not made
    quiz.button.click()
    assert quiz.correct is False and made == [1] and "so" in quiz.feedback.value
    quiz.commit(1)
    assert quiz.correct is False and made == [1] and quiz.choices.disabled


def test_a_prediction_on_paper_shows_its_question_and_then_its_options() -> None:
    quiz = Prediction("Is <i>ρ</i> &lt; ½,<br> or a &lt; b?", ["a", "b"], answer=1, why="because")
    text = quiz._repr_mimebundle_()["text/plain"]
    assert text.startswith("Is ρ < ½, or a < b?")
    assert text.endswith("\n  ( ) a\n  ( ) b") and "because" not in text
    long = Prediction("word " * 50, ["a", "b"], answer=0, why="")._repr_mimebundle_()["text/plain"]
    assert max(map(len, long.splitlines())) <= 88 and long.count("word") == 50


def test_a_reveal_that_fails_is_shown() -> None:
    quiz = Prediction("?", ["a", "b"], answer=0, why="", reveal=lambda: 1 / 0)
    quiz.commit(0)
    assert "ZeroDivisionError" in quiz.error.value


@pytest.mark.parametrize(
    ("yours", "says"),
    [
        (None, "no answer yet"), (0.5774, "is right"), (0.57735, "is right"), (0.25, "PoE"),
        (0.58, "do not round"), ("x", "a number is needed"), (0.9, "too large"),
        (float("nan"), "finite"),
        # The sign, the reciprocal, the square, the root, 1 minus it: to name them is to tell.
        (-0.5774, "too small"), (1.7321, "too large"), (0.3333, "too small"), (0.7598, "too large"),
        (0.4226, "too small"),
    ],
)  # fmt: skip
def test_check_number_says_what_is_wrong(yours, says: str, capsys) -> None:
    ok = check_number("ρ*", yours, 3**-0.5, mistakes={0.25: "this is PoE's weight"})
    out = capsys.readouterr().out
    assert says in out and ok == ("is right" in says)
    if not ok:
        assert "0.5774" not in out.replace("-0.5774 is not it", "")  # the answer is not given away


def test_check_function_says_what_is_wrong(capsys) -> None:
    cases = [(1.0,), (2.0,)]
    right = np.sqrt
    assert check_function("root", np.sqrt, right, cases)
    assert not check_function("root", lambda x: x, right, cases, hint="mind the power")
    out = capsys.readouterr().out
    assert "right for 1 of 2 cases; for (2) it gives 2: this is the square" in out
    assert "(mind the power)" in out
    assert not check_function("root", lambda x: None, right, cases)
    assert not check_function("root", lambda x: 1 / 0, right, cases)
    assert not check_function("root", lambda x: [x, x], right, cases)
    out = capsys.readouterr().out
    assert "no answer yet" in out and "ZeroDivisionError" in out and "2 numbers, not 1" in out


def test_error_line_is_quiet_by_default() -> None:
    line = ErrorLine()
    with line.guard():
        pass
    assert line.value == ""
