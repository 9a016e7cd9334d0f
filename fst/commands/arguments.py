"""Command-line arguments whose errors are one line, with the nearest option that exists."""

import argparse
import json
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


def print_json(value: Any) -> None:
    """Print for another program to read."""
    print(json.dumps(value, indent=2, ensure_ascii=False))
