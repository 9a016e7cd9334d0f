"""The command `fst`: one table of commands; a command's module is imported only when it is called."""

import contextlib
import importlib
import io
import os
import sys
from collections.abc import Sequence

from fst.errors import FstError, UsageError, nearest, reason
from fst.version import __version__

COMMANDS = {
    "stylize": ("fst.commands.stylize:main", "repaint photos with a style"),
    "styles": ("fst.commands.styles:main", "list the styles that are ready to use"),
    "show": ("fst.commands.show:main", "print a model's card"),
    "train": ("fst.commands.train:main", "learn a style from a picture"),
    "optimize": ("fst.commands.optimize:main", "paint one photo in a picture's style, without training"),
    "eval": ("fst.commands.evaluate:main", "score a model, with a page of pictures"),
    "compare": ("fst.commands.compare:main", "show several models side by side"),
    "gallery": ("fst.commands.gallery:main", "show styles on photos, before and after, on one page"),
    "export": ("fst.commands.export:main", "make a model file of a training run"),
    "import": ("fst.commands.import_:main", "make a model file of a foreign checkpoint"),
    "bench": ("fst.commands.bench:main", "measure fst beside the plain recipe"),
    "doctor": ("fst.commands.doctor:main", "say what is installed, found and missing"),
    "completion": ("fst.commands.completion:main", "print the completion script of a shell"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code: 0 done, 1 failed, 2 wrong use."""
    words = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in words
    if debug:
        words.remove("--debug")
    _take_any_file_name()
    try:
        try:
            code = _dispatch(words)
        except SystemExit:  # of --help
            _flush()
            raise
        _flush()
        return code
    except FstError as error:
        if debug:
            raise
        print(f"fst: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        if debug:
            raise
        print("fst: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output has gone, as `head` does
        return 1
    except OSError as error:  # a folder that may not be looked into, a name too long, a full disk
        if debug:
            raise
        print(f"fst: {reason(error)}", file=sys.stderr)
        return 1
    finally:  # what was printed before an error, which is told whether that can be written or not
        with contextlib.suppress(OSError):
            _flush()


def _take_any_file_name() -> None:
    """Print names that are not of the output's encoding, too: of UTF-8 as the bytes that they are, else as escapes."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        utf8 = sys.stdout.encoding.lower().replace("-", "") == "utf8"
        sys.stdout.reconfigure(errors="surrogateescape" if utf8 else "backslashreplace")


def _flush() -> None:
    """Write what was printed; where that cannot be, no more of it, or Python complains at its end."""
    if sys.stdout is None:
        return
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise


def _dispatch(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        print(_help())
        return 0 if words else 2
    if words[0] in ("-V", "--version"):
        print(f"fst {__version__}")
        return 0
    name, arguments = words[0], words[1:]
    if name not in COMMANDS:
        raise UsageError(f"there is no command {name!r}: {nearest(name, COMMANDS)}")
    module, function = COMMANDS[name][0].split(":")
    code: int = getattr(importlib.import_module(module), function)(arguments)
    return code


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = "\n".join(f"  {name:{width}}  {what}" for name, (_, what) in COMMANDS.items())
    return (
        f"fst {__version__}: fast style transfer\n\n"
        f"usage: fst COMMAND ...   (fst COMMAND --help says more)\n\n{lines}\n\n"
        "  --debug on any command shows where an error comes from"
    )


if __name__ == "__main__":
    sys.exit(main())
