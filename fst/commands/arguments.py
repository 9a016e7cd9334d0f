"""Command-line arguments whose errors are one line, with the nearest option that exists."""

import argparse
import json
import math
import sys
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

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """As argparse's, but what a parser does not know is an error of its own, and not of the one above it."""
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return found, unknown


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


def add_wishes(made: argparse.ArgumentParser) -> None:
    """The arguments by which a model is told more than the photo."""
    made.add_argument("--strength", type=float, metavar="S", help="how much style, from 0, the photo itself, to 1 (1)")
    made.add_argument("--stroke", type=float, metavar="K", help="size of the strokes, from 0.5 to 2 times (1)")
    made.add_argument("--mix", type=_mix, metavar="A=W,B=W", help="several styles of one model; weights sum to 1")


def wished(a: argparse.Namespace, option: str, model: str) -> dict[str, Any]:
    """What `add_wishes` was given, as a Stylizer takes it; `option` is the argument that names the `model`.

    Raises:
        UsageError: the model is MODEL:STYLE, and several styles are to be mixed.
    """
    from fst.bundle import split_style

    style = split_style(model)[1]
    if style is not None and a.mix is not None:
        raise UsageError(f"{option} {model} names one style and --mix several: leave :{style} or --mix out")
    return {"strength": a.strength, "stroke": a.stroke, "styles": a.mix}


def _mix(text: str) -> dict[str, float]:
    """{"wave": 0.7, "udnie": 0.3} of "wave=0.7,udnie=0.3"."""
    mixed: dict[str, float] = {}
    for part in text.split(","):
        name, equals, weight = part.strip().rpartition("=")
        try:
            if not equals or name in mixed:
                raise ValueError
            mixed[name] = float(weight)
        except ValueError:
            raise argparse.ArgumentTypeError(f"is like wave=0.7,udnie=0.3, each style once, not {text}") from None
    return mixed


def print_json(value: Any) -> None:
    """Print for another program to read: letters as they are where the output can hold them, else as JSON's escapes."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "ascii")
    except UnicodeEncodeError:
        text = json.dumps(value, indent=2)
    print(text)
