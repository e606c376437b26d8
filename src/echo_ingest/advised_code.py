"""A code that is stored, with what it means and what to do about it in words."""

from enum import StrEnum
from typing import Self


class AdvisedCode(StrEnum):
    """The base of such codes. The value is stored, so it never changes; the texts may."""

    summary: str
    """What is wrong, as one sentence that holds for everything with this code."""
    advice: str
    """What to do about it."""

    def __new__(cls, value: str, summary: str, advice: str) -> Self:
        """Make a member of its stored value and its two texts."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.summary = summary
        member.advice = advice
        return member
