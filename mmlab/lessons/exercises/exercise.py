"""`Exercise`: a task whose answers are judged by what they do, not by how they are written."""

from __future__ import annotations

import dis
import types
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from html import escape
from typing import Any

from mmlab._text import shown_everywhere
from mmlab.lessons.exercises.containment import contained

_CORRECT, _INCORRECT, _NOT_ATTEMPTED = "correct", "incorrect", "not attempted"

_SIGNS = {
    _CORRECT: ("✓", "#007A5A"),
    _INCORRECT: ("✗", "#B42318"),
    _NOT_ATTEMPTED: ("…", "#667085"),
}


class WrongError(Exception):
    """The answer is incorrect.

    Args:
      seen: what was observed and what was expected, in sentences.
      hint: the hint to show, 1 or 2.
    """

    def __init__(self, seen: str, hint: int = 1):
        super().__init__(seen)
        self.hint = hint


class UntouchedError(Exception):
    """The answer does nothing yet; the message says what is missing."""


@shown_everywhere
@dataclass(frozen=True)
class Verdict:
    """The result of a check.

    Attributes:
      outcome: "correct", "incorrect" or "not attempted".
      message: what was observed, in sentences.
      hint: a hint for an incorrect answer; otherwise None.
    """

    outcome: str
    message: str
    hint: str | None = None

    def __repr__(self) -> str:
        first = f"{self.outcome.capitalize()}. {self.message}"
        return first if self.hint is None else f"{first}\n{self.hint}"

    def _repr_html_(self) -> str:
        sign, colour = _SIGNS[self.outcome]
        hint = "" if self.hint is None else f"<br><em>{escape(self.hint)}</em>"
        return (
            f'<div style="border-left: 4px solid {colour}; padding: 4px 12px">'
            f'<strong style="color: {colour}">{sign} {self.outcome.capitalize()}.</strong> '
            f"{escape(self.message)}{hint}</div>"
        )


@dataclass(frozen=True)
class Exercise:
    """One task of a lesson.

    Attributes:
      name: lesson and task, such as "key_mapping.new_scanner".
      judge: takes the answer; returns a sentence about a correct one, or raises `WrongError` or
        `UntouchedError`. Any other exception is taken as raised by the answer.
      hints: a gentle hint, and one that almost gives the solution.
    """

    name: str
    judge: Callable[[Any], str]
    hints: tuple[str, str]

    def check(self, answer: Any) -> Verdict:
        """Check an answer. Always returns a verdict, and undoes its changes to the process.

        Raises:
          KeyboardInterrupt: the user interrupted the check.
        """
        with contained() as interrupts:
            verdict = self._verdict(answer)
        if interrupts:
            raise KeyboardInterrupt
        return verdict

    def _verdict(self, answer: Any) -> Verdict:
        try:
            if _is_untouched(answer):
                return _not_attempted()
            return Verdict(_CORRECT, self.judge(answer))
        except UntouchedError as nothing:
            return _not_attempted(str(nothing))
        except NotImplementedError:
            return _not_attempted()
        except WrongError as wrong:
            return Verdict(_INCORRECT, str(wrong), self.hint(wrong.hint))
        except BaseException as error:  # the answer may raise SystemExit or KeyboardInterrupt
            return Verdict(_INCORRECT, f"It stopped with {first_line(error)}", self.hint(1))

    def hint(self, number: int = 1) -> str:
        """Hint 1 or 2.

        Raises:
          ValueError: `number` is not 1 or 2.
        """
        if number not in (1, 2):
            raise ValueError(f"number must be 1 or 2, got {number!r}")
        return f"Hint {number}: {self.hints[number - 1]}"


def _is_untouched(answer: Any) -> bool:
    """Whether an answer still contains `...` or does nothing.

    >>> _is_untouched({"CONFIG_1": ...}), _is_untouched(lambda pipeline: None)
    (True, True)
    >>> _is_untouched([1, 2])
    False
    """
    if answer is None or answer is ...:
        return True
    if isinstance(answer, types.FunctionType):
        return _does_nothing(answer.__code__) or _holds_ellipsis(answer.__code__)
    if isinstance(answer, Mapping):
        return any(_is_untouched(value) for value in answer.values())
    if isinstance(answer, list | tuple | set):
        return any(_is_untouched(value) for value in answer)
    return False


def _does_nothing(code: types.CodeType) -> bool:
    """Whether a function only returns None."""
    steps = [step for step in dis.get_instructions(code) if step.opname not in ("RESUME", "NOP")]
    constants = [step.argval for step in steps if step.opname in ("LOAD_CONST", "RETURN_CONST")]
    return constants == [None] and all(
        step.opname in ("LOAD_CONST", "RETURN_CONST", "RETURN_VALUE") for step in steps
    )


def _holds_ellipsis(code: types.CodeType) -> bool:
    return any(
        const is ... or (isinstance(const, types.CodeType) and _holds_ellipsis(const))
        for const in code.co_consts
    )


def require_function(answer: Any, name: str) -> None:
    """Raise if the answer is not callable.

    Raises:
      WrongError: the answer is not callable; the message has its type.
    """
    if not callable(answer):
        kind = type(answer).__name__
        raise WrongError(f"The answer has the type {kind}: give the function {name} itself.")


def first_line(error: BaseException) -> str:
    """Type and first line of an exception.

    >>> first_line(KeyError("Z")), first_line(SystemExit())
    ("KeyError: 'Z'", 'SystemExit')
    """
    text = ""
    with suppress(BaseException):  # str() of an exception that the answer defines may raise
        text = next(iter(str(error).strip().splitlines()), "")
    return f"{type(error).__name__}: {text}"[:300] if text else type(error).__name__


def _not_attempted(why: str = "") -> Verdict:
    what_to_do = "Put your own code in the place of ... and run the cell again."
    return Verdict(_NOT_ATTEMPTED, why or what_to_do)
