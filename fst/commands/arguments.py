"""Command-line arguments whose errors are one line, with the nearest option that exists."""

import argparse
import json
import math
from collections.abc import Callable
from typing import Any, NoReturn

from fst.errors import UsageError, nearest


class Parser(argparse.ArgumentParser):
    """argparse, raising UsageError instead of printing its usage and leaving."""

    def __init__(self, prog: str, description: str, **options: Any) -> None:
        options.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(prog=prog, description=description, allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        """Raise UsageError."""
        prefix, _, unknown = message.partition("unrecognized arguments: ")
        if not prefix and unknown:
            word = unknown.split()[0]
            if word.startswith("-"):
                known = [option for option in self._option_string_actions if option.startswith("--")]
                message = f"unknown option {word}: {nearest(word.split('=')[0], known)}"
        raise UsageError(f"{message} ({self.prog} --help)")


def whole(least: int, most: int | None = None, *, unit: str = "") -> Callable[[str], int]:
    """The `type` of an argument that is a whole number within bounds; `unit` follows them in the error (" pixels")."""

    def whole_number(text: str) -> int:  # argparse calls what is no number an invalid value of this name
        value = int(text)
        if most is None and value < least:
            raise argparse.ArgumentTypeError(f"must be at least {least}{unit}, not {text}")
        if most is not None and not least <= value <= most:
            raise argparse.ArgumentTypeError(f"goes from {least} to {most}{unit}, not {text}")
        return value

    return whole_number


def above_zero(text: str) -> float:
    """The `type` of an argument that is a finite number above 0."""
    value = float(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"must be above 0, not {text}")
    return value


def print_json(value: Any) -> None:
    """Print for another program to read."""
    print(json.dumps(value, indent=2, ensure_ascii=False))
