"""What a network may be told beside the photo: the further inputs of a model file, their ranges and their values.

A network declares those that it has as {name: neutral value}: a number for an input of shape (B,), a list of K numbers
for (B, K). The neutral value is what leaving an input out means.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from fst.errors import UsageError, nearest

Value = float | list[float]


class Kind(NamedTuple):
    """An input: what it says, the range of its numbers, and whether it is a row of shares, which sum to 1."""

    meaning: str
    least: float
    most: float
    shares: bool = False


KINDS = {
    "strength": Kind("how much style", 0.0, 1.0),
    "stroke": Kind("size of the strokes, 1 as trained", 0.5, 2.0),
    "styles": Kind("mix of the learnt styles", 0.0, 1.0, shares=True),
}
_ROUNDING = 0.005  # 0.33,0.33,0.34 and three times 0.333 are both meant to be 1


def problem(declared: Mapping[str, Any]) -> str | None:
    """What is wrong with a declaration, or None."""
    for name, value in declared.items():
        if name not in KINDS:
            return f"there is no input {name!r}: {nearest(name, KINDS)}"
        if KINDS[name].shares != isinstance(value, list) or not _is_within(name, value):
            return f"the neutral value of the input {name!r} cannot be {value!r:.40}"
    return None


def settle(
    declared: Mapping[str, Value], wishes: Mapping[str, Any], *, styles: Sequence[str] = (), model: str = "the model"
) -> dict[str, Value]:
    """The value of every declared input: what is wished, else the neutral one.

    Args:
        declared: the model's inputs.
        wishes: by input; None wishes nothing. That of "styles" is a style's name, {name: weight}, or a weight for each.
        styles: names of the styles that the model has learnt, in their order.
        model: how to call it in an error.

    Raises:
        UsageError: no such input or style, one that the model does not have, a number outside its range, or weights
            that do not sum to 1.
    """
    settled = dict(declared)
    for name, wish in wishes.items():
        if name not in KINDS:
            raise UsageError(f"there is no input {name!r}: {nearest(name, KINDS)}")
        if wish is None:
            continue
        if name not in declared:
            raise UsageError(f"{model} {_lacks(name, styles)}")
        settled[name] = _mix(wish, styles, model) if name == "styles" else _number(name, wish)
    return settled


def _lacks(name: str, styles: Sequence[str]) -> str:
    if name == "styles":
        return f"has one style{f', {styles[0]},' if styles else ''} and none to choose or mix"
    return f"was not trained with {name}: leave it out, or train with adjustable=true"


def _number(name: str, wish: Any) -> float:
    if not _is_within(name, wish):
        kind = KINDS[name]
        raise UsageError(f"{name} ({kind.meaning}) goes from {kind.least:g} to {kind.most:g}, not {wish!r}")
    return float(wish)


def _mix(wish: Any, styles: Sequence[str], model: str) -> list[float]:
    """Weights in the order of `styles`, from a name, a mapping or such a list."""
    if isinstance(wish, str):
        wish = {wish: 1.0}
    if isinstance(wish, Mapping):
        for name in wish:
            if name not in styles:
                raise UsageError(f"{model} has no style {name!r}: {nearest(str(name), styles)}")
        weights = [wish.get(name, 0.0) for name in styles]
    else:
        weights = list(wish)
        if len(weights) != len(styles):
            raise UsageError(f"{model} has {len(styles)} styles ({', '.join(styles)}), not {len(weights)}")
    if not all(_is_number(weight) and 0 <= weight < float("inf") for weight in weights):
        raise UsageError(f"the weights of styles are numbers from 0 to 1, not {weights}")
    total = sum(map(float, weights))
    if abs(total - 1) > _ROUNDING:
        named = ((name, weight) for name, weight in zip(styles, weights, strict=True) if weight)
        close = ",".join(f"{name}={weight / total:.2g}" for name, weight in named)
        raise UsageError(f"the weights of styles sum to {total:g}, not to 1{f': {close} would' if close else ''}")
    return [float(weight) / total for weight in weights]


def _is_number(value: Any) -> bool:
    try:
        return float(value) == value and not isinstance(value, bool | str)
    except (TypeError, ValueError):
        return False


def _is_within(name: str, value: Any) -> bool:
    kind = KINDS[name]
    if kind.shares:
        return all(_is_number(v) and kind.least <= v <= kind.most for v in value) and abs(sum(value) - 1) < 1e-6
    return _is_number(value) and kind.least <= value <= kind.most
