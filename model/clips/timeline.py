"""Timelines: what happens when in a clip, written as `[0s-2s: move=1 turn=0.3] [2s: turn=-1 a red room]`.

    timeline := entry*                          any space between
    entry    := "[" time ["-" time] ":" control* [prompt] "]"
    time     := NUMBER ("s" | "ms")             from the clip's first new frame
    control  := NAME "=" NUMBER                 one axis in [-1, 1]; what no entry names is at rest
    prompt   := text                            a backslash before any of [ ] \\, and before a prompt that begins NAME=

An entry without an end lasts until another one gives the same axis or prompt. Entries may overlap if they give
different axes. Where no entry gives a prompt the clip's own holds, and if that is empty, the last one given.
"""

import re
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import zip_longest
from math import ceil

import numpy as np

MAX_TEXT = 20_000
MAX_ENTRIES = 1_000
MAX_PROMPT = 2_000
PROMPT = ""  # the channel of prompts; all others are axes

_TIME = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)(ms|s)(?![\w.])")
_CONTROL = re.compile(r"([A-Za-z_]\w*)=([^\s\[\]]*)")
_NUMBER = re.compile(r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d{1,3})?")
_PROMPT = re.compile(r"(?:[^\[\]\\]|\\.)*", re.DOTALL)
_WORD = re.compile(r"\S{1,24}")
_SPACE = re.compile(r"\s*")


class TimelineError(ValueError):
    """A timeline that is none; `token` at `position` (from 0) is what is wrong with it."""

    def __init__(self, *, expected: str, token: str, position: int) -> None:
        what = repr(token) if token else "the end"
        super().__init__(f"expected {expected}, got {what} at position {position} of the timeline")
        self.token = token
        self.position = position


@dataclass(frozen=True, slots=True)
class Span:
    """One channel's value from `start` up to `end`, in seconds; without an end, to the end of the clip."""

    channel: str
    value: float | str
    start: Fraction
    end: Fraction | None
    position: int = field(default=0, compare=False)  # in the text, for errors

    @property
    def token(self) -> str:
        return self.channel or str(self.value)


@dataclass(frozen=True, slots=True)
class Timeline:
    """Spans by channel, then by start; those of one channel do not overlap."""

    spans: tuple[Span, ...] = ()

    @classmethod
    def parse(cls, text: str) -> "Timeline":
        """Read a timeline; raises TimelineError naming the offending token. Next: `check` it against the model."""
        if len(text) > MAX_TEXT:
            raise TimelineError(
                expected=f"at most {MAX_TEXT} characters", token=text[MAX_TEXT:][:24], position=MAX_TEXT
            )
        return cls(_in_order(_Scanner(text).entries()))

    def check(self, *, axes: tuple[str, ...], accepts_prompt: bool, seconds: Fraction) -> None:
        """Raise TimelineError for what a model with these `axes` or a clip of this length has no use for."""
        for span in self.spans:
            if span.channel == PROMPT and not accepts_prompt:
                raise _error(span, "controls only, since the model takes no prompts")
            if span.channel != PROMPT and span.channel not in axes:
                raise _error(span, f"one of the model's axes {', '.join(axes)}")
            if span.start >= seconds:
                raise _error(span, f"a beginning before the clip's end at {float(seconds):g}s")

    def controls(self, frames: range, *, axes: tuple[str, ...], rate: Fraction) -> np.ndarray:
        """The controls (n, A) float32 of `frames` at `rate` per second; frames before 0 are at rest.

        A frame has the value that holds at its time, frame / rate.
        """
        controls = np.zeros((len(frames), len(axes)), np.float32)
        for span in self.spans:
            if span.channel == PROMPT:
                continue
            first = max(ceil(span.start * rate), frames.start)
            last = frames.stop if span.end is None else min(ceil(span.end * rate), frames.stop)
            if first < last:
                controls[first - frames.start : last - frames.start, axes.index(span.channel)] = span.value
        return controls

    def prompt(self, seconds: Fraction, *, otherwise: str) -> str:
        """The prompt that holds at a time; `otherwise` is the clip's own."""
        last = otherwise
        for span in self.spans:
            if span.channel == PROMPT and span.start <= seconds:
                holds = span.end is None or seconds < span.end or not otherwise
                last = str(span.value) if holds else otherwise
        return last


class _Scanner:
    """Reads entries from left to right; `at` is where the next token begins."""

    def __init__(self, text: str) -> None:
        self.text, self.at = text, 0

    def entries(self) -> list[Span]:
        spans: list[Span] = []
        count = 0
        while self._skip_space() < len(self.text):
            if count == MAX_ENTRIES:
                raise self._unexpected(f"at most {MAX_ENTRIES} entries")
            spans += self._entry()
            count += 1
        return spans

    def _entry(self) -> list[Span]:
        self._take("[", "an entry like [0s-2s: ...]")
        start, end = self._time(), None
        if self._peek() == "-":
            self.at += 1
            position = self._skip_space()
            end = self._time()
            if end <= start:
                raise TimelineError(
                    expected="an end after the beginning", token=self.text[position : self.at], position=position
                )
        self._take(":", "':' or '-' and an end")
        spans = [*self._controls(start, end), *self._prompt(start, end)]
        if not spans:
            raise self._unexpected("controls like move=1, or a prompt")
        self._take("]", "']'")
        return spans

    def _time(self) -> Fraction:
        match = _TIME.match(self.text, self._skip_space())
        if match is None:
            raise self._unexpected("a time like 2s or 500ms")
        self.at = match.end()
        return Fraction(match[1]) / (1000 if match[2] == "ms" else 1)

    def _controls(self, start: Fraction, end: Fraction | None) -> list[Span]:
        spans: list[Span] = []
        while match := _CONTROL.match(self.text, self._skip_space()):
            name, number = match.groups()
            if not _NUMBER.fullmatch(number) or not -1 <= float(number) <= 1:
                raise TimelineError(expected="a number from -1 to 1", token=number or match[0], position=match.start())
            spans.append(Span(name, float(number), start, end, match.start()))
            self.at = match.end()
        return spans

    def _prompt(self, start: Fraction, end: Fraction | None) -> list[Span]:
        position = self._skip_space()
        match = _PROMPT.match(self.text, position)
        assert match is not None, "it matches the empty string"
        self.at = match.end()
        prompt = re.sub(r"\\(.)", r"\1", match[0], flags=re.DOTALL).rstrip()
        if len(prompt) > MAX_PROMPT:
            raise TimelineError(
                expected=f"a prompt of at most {MAX_PROMPT} characters", token=prompt[:24], position=position
            )
        return [Span(PROMPT, prompt, start, end, position)] if prompt else []

    def _take(self, sign: str, expected: str) -> None:
        if self._peek() != sign:
            raise self._unexpected(expected)
        self.at += 1

    def _peek(self) -> str:
        at = self._skip_space()
        return self.text[at : at + 1]

    def _skip_space(self) -> int:
        match = _SPACE.match(self.text, self.at)
        assert match is not None, "it matches the empty string"
        self.at = match.end()
        return self.at

    def _unexpected(self, expected: str) -> TimelineError:
        word = _WORD.match(self.text, self._skip_space())
        return TimelineError(expected=expected, token=word[0] if word else "", position=self.at)


def _in_order(spans: list[Span]) -> tuple[Span, ...]:
    """Spans sorted, open ones closed by the next of their channel; raises TimelineError where two overlap."""
    ordered = sorted(spans, key=lambda span: (span.channel, span.start, span.position))
    closed = []
    for span, after in zip_longest(ordered, ordered[1:]):
        if after is not None and after.channel == span.channel:
            if after.start == span.start or (span.end is not None and after.start < span.end):
                what = f"{span.channel or 'a prompt'} once at a time"
                raise _error(max(span, after, key=lambda s: s.position), what)
            if span.end is None:
                span = replace(span, end=after.start)
        closed.append(span)
    return tuple(closed)


def _error(span: Span, expected: str) -> TimelineError:
    return TimelineError(expected=expected, token=span.token[:24], position=span.position)
