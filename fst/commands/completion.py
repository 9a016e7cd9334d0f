"""`fst completion`: the completion script of a shell. After `fst train`, Hydra completes groups, choices and keys."""

import argparse
from collections.abc import Sequence

from fst.cli import COMMANDS
from fst.commands.arguments import Parser

# "fst train" becomes "fst-train" for Hydra, which takes the first word for the program: the same length, so that the
# cursor's place stays true.
_BASH = """\
_fst() {
  local current=${COMP_WORDS[COMP_CWORD]}
  if [[ $COMP_CWORD -gt 1 && ${COMP_WORDS[1]} == train ]]; then
    local line=${COMP_LINE/fst train/fst-train}
    COMPREPLY=($(COMP_LINE=$line COMP_POINT=$COMP_POINT fst train -sc query=bash 2>/dev/null))
    [[ ${COMPREPLY[0]} == *[=/.] ]] && compopt -o nospace 2>/dev/null
    return
  fi
  local words
  if [[ $COMP_CWORD -eq 1 ]]; then
    words="@COMMANDS@ --help --version"
  else
    case "${COMP_WORDS[COMP_CWORD-1]}" in
      --style|-s|show)
        words="$(fst styles --no-timing --json 2>/dev/null | sed -n 's/^ *"name": "\\(.*\\)",$/\\1/p')" ;;
      *) case "${COMP_WORDS[1]}" in
@OPTIONS@
        esac ;;
    esac
  fi
  COMPREPLY=($(compgen -W "$words" -- "$current"))
  [[ ${#COMPREPLY[@]} -eq 0 ]] && compopt -o default 2>/dev/null
}
COMP_WORDBREAKS=${COMP_WORDBREAKS//[=:]}
complete -o bashdefault -F _fst fst
"""

_ZSH = """\
#compdef fst
autoload -Uz bashcompinit && bashcompinit
"""

_FISH = r"""
function __fst_train
  set -lx COMP_LINE (string replace 'fst train' 'fst-train' -- (commandline -cp))
  fst train -sc query=fish 2>/dev/null
end
function __fst_styles
  fst styles --no-timing --json 2>/dev/null | string match -rg '^ *"name": "(.*)",$'
end
complete -c fst -f -n '__fish_seen_subcommand_from train' -a '(__fst_train)'
complete -c fst -n '__fish_seen_subcommand_from stylize' -s s -l style -x -a '(__fst_styles)'
complete -c fst -n '__fish_seen_subcommand_from gallery' -s s -l style -x -a '(__fst_styles)'
complete -c fst -n '__fish_seen_subcommand_from show' -x -a '(__fst_styles)'
"""


def main(argv: Sequence[str]) -> int:
    """Run `fst completion`."""
    made = Parser(
        "fst completion",
        "Print a completion script.",
        epilog='bash, zsh: eval "$(fst completion bash)"    fish: fst completion fish | source',
    )
    made.add_argument("shell", choices=("bash", "zsh", "fish"))
    shell = made.parse_args(argv).shell
    print({"bash": _bash, "zsh": lambda: _ZSH + _bash(), "fish": _fish}[shell](), end="")
    return 0


def _options() -> dict[str, list[str]]:
    """The long options of the commands that have any to speak of."""
    from fst.commands import compare, doctor, evaluate, export, gallery, import_, optimize, show, stylize

    parsers: dict[str, argparse.ArgumentParser] = {
        "stylize": stylize.parser(),
        "optimize": optimize.parser(),
        "eval": evaluate.parser(),
        "compare": compare.parser(),
        "gallery": gallery.parser(),
        "show": show.parser(),
        "export": export.parser(),
        "import": import_.parser(),
        "doctor": doctor.parser(),
    }
    options = {name: [o for o in made._option_string_actions if o.startswith("--")] for name, made in parsers.items()}
    words = {"bench": ["train", "race", "infer", "start"], "completion": ["bash", "zsh", "fish"]}
    return options | words | {"styles": ["--json", "--no-timing", "--help"]}


def _bash() -> str:
    cases = "\n".join(f'          {name}) words="{" ".join(options)}" ;;' for name, options in _options().items())
    return _BASH.replace("@COMMANDS@", " ".join(COMMANDS)).replace("@OPTIONS@", cases)


def _fish() -> str:
    lines = [
        f"complete -c fst -f -n __fish_use_subcommand -a {name} -d '{what}'" for name, (_, what) in COMMANDS.items()
    ]
    for name, options in _options().items():
        seen = f"-n '__fish_seen_subcommand_from {name}'"
        lines += [f"complete -c fst {seen} {'-l ' + o[2:] if o.startswith('--') else '-x -a ' + o}" for o in options]
    return _FISH + "\n".join(lines) + "\n"
