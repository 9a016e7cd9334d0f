"""`fst show`: a model's card."""

import json
from collections.abc import Sequence

from fst.commands.arguments import Parser, print_json
from fst.errors import FstError, reason

_EPILOG = """
examples:
  fst show starry_night
  fst show mine.onnx > mine.md                 # a card to complete

The card is NAME.md beside NAME.onnx. Where there is none, it is made of what the model file says of itself.
"""


def parser() -> "Parser":
    """The arguments of `fst show`."""
    made = Parser("fst show", "Print a model's card: what it is, how it was made, its limits.", epilog=_EPILOG)
    made.add_argument("model", metavar="MODEL[:STYLE]", help="a shipped style (fst styles) or a model file")
    made.add_argument("--json", action="store_true", help="print the recipe and the files as JSON")
    return made


def main(argv: Sequence[str]) -> int:
    """Run `fst show`."""
    a = parser().parse_args(argv)
    from fst import bundle, card
    from fst.inputs import settle

    file, style = bundle.split_style(a.model)
    model = bundle.read(bundle.locate(file))
    recipe = model.recipe
    settle(recipe.inputs, {"styles": style}, styles=recipe.style_names, model=recipe.name)  # refuses an unknown style
    beside = card.written(model.path)
    if a.json:
        files = [
            {"path": str(each.path), "size_bytes": len(each.graph), "sha256": each.sha256} for each in card.files(model)
        ]
        told = {"files": files, "weights": model.weights, "card": None if beside is None else str(beside)}
        print_json(told | {"recipe": json.loads(recipe.to_json())})
        return 0
    try:
        text = card.compose(model) if beside is None else beside.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise FstError(reason(error)) from error
    print(text.rstrip("\n"))
    return 0
