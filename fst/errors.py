"""What goes wrong, in one line for the person at the keyboard.

Every error that a user can cause is an `FstError`: its message names what was given, what was wanted and what to do
next. The command line prints that line and ends with `exit_code`; code that imports fst catches one class.
"""

import difflib
from collections.abc import Iterable
from typing import ClassVar


class FstError(Exception):
    """Something failed: an unreadable picture, a damaged model file, a download that broke off."""

    exit_code: ClassVar[int] = 1


class UsageError(FstError):
    """fst was asked for something that cannot be: an unknown style, a wrong value, a missing argument."""

    exit_code: ClassVar[int] = 2


def nearest(word: str, known: Iterable[str], *, most: int = 3) -> str:
    """Say which of the `known` names `word` may have meant: "did you mean wave?", or the list when none is near."""
    names = sorted(known)
    close = difflib.get_close_matches(word, names, n=most, cutoff=0.55)
    if close:
        return f"did you mean {' or '.join(close)}?"
    return f"known: {', '.join(names)}" if names else "there are none"


def reason(error: OSError) -> str:
    """What the system refused, in one line: "runs: Permission denied", or no file's name where it gives none."""
    why = error.strerror or (str(error).strip().splitlines() or [type(error).__name__])[0]
    return f"{error.filename}: {why}" if error.filename else why
