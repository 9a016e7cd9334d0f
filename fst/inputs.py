"""What a network may be told beside the photo: the further inputs of a model file, their ranges and their values.

A network declares those that it has as {name: neutral value}: a number for an input of shape (B,), a list of S shares
for (B, S). The neutral value is what leaving an input out means. Of a vector, (B, K), it declares the length K alone:
left out it is 0 everywhere, or cannot be left out.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from fst.errors import UsageError, nearest

Value = float | list[float]


class Kind(NamedTuple):
    """An input: what it says, what it is called on the command line, and the range of its numbers.

    Args:
        option: the one of `fst stylize` by which it is told.
        shares: whether it is a row of shares, which sum to 1.
        vector: whether it is a vector of any finite numbers.
        needed: whether it has no neutral value.
    """

    meaning: str
    option: str
    least: float = -math.inf
    most: float = math.inf
    shares: bool = False
    vector: bool = False
    needed: bool = False


KINDS = {
    "strength": Kind("how much style", "--strength", 0.0, 1.0),
    "stroke": Kind("size of the strokes, 1 as trained", "--stroke", 0.5, 2.0),
    "styles": Kind("mix of the learnt styles", "--mix", 0.0, 1.0, shares=True),
    "style_code": Kind("any style, as the model's encoder says it", "--style-image", vector=True, needed=True),
    "noise": Kind("which of many results, drawn from a standard normal distribution", "--variations", vector=True),
    "rotation": Kind(
        "which of many results, an orthogonal matrix less the identity, row by row", "--variations", vector=True
    ),
}
STYLE_SIZES_PX = (32, 4096)  # longest side at which a style_code is made of a picture
_LONGEST = 2**24  # numbers in a vector
_ROUNDING = 0.005  # 0.33,0.33,0.34 and three times 0.333 are both meant to be 1


def problem(declared: Mapping[str, Any]) -> str | None:
    """What is wrong with a declaration, or None."""
    for name, value in declared.items():
        if name not in KINDS:
            return f"there is no input {name!r}: {nearest(name, KINDS)}"
        kind = KINDS[name]
        if kind.vector:
            fits = type(value) is int and 0 < value < _LONGEST
        else:
            fits = kind.shares == isinstance(value, list) and _is_within(name, value)
        if not fits:
            return f"the neutral value of the input {name!r} cannot be {value!r:.40}"
    return None


def settle(
    declared: Mapping[str, Value], wishes: Mapping[str, Any], *, styles: Sequence[str] = (), model: str = "the model"
) -> dict[str, Value]:
    """The value of every declared input: what is wished, else what is declared (see `neutral`).

    Args:
        declared: the model's inputs.
        wishes: by input; None wishes nothing. That of "styles" is a style's name, {name: weight}, or a weight for each;
            that of a vector has the declared length, and is passed on as it is.
        styles: names of the styles that the model has learnt, in their order.
        model: how to call it in an error.

    Raises:
        UsageError: no such input or style, one that the model does not have, a number outside its range, weights that
            do not sum to 1, or a vector of another length.
    """
    settled = dict(declared)
    for name, wish in wishes.items():
        if name not in KINDS:
            raise UsageError(f"there is no input {name!r}: {nearest(name, KINDS)}")
        if wish is None:
            continue
        if name not in declared:
            raise UsageError(f"{model} {_lacks(name, styles)}")
        if KINDS[name].vector:
            settled[name] = _vector(name, wish, declared[name])
        else:
            settled[name] = _mix(wish, styles, model) if name == "styles" else _number(name, wish)
    return settled


def neutral(name: str, declared: Value) -> Value:
    """What leaving out an input, declared as it is in a recipe, means: for a vector of length K, K times 0.

    Raises:
        UsageError: it cannot be left out.
    """
    kind = KINDS[name]
    if kind.needed:
        raise UsageError(f"{name} ({kind.meaning}) cannot be left out")
    return [0.0] * int(declared) if kind.vector else declared  # type: ignore[arg-type]


def _vector(name: str, wish: Any, length: Any) -> Any:
    length = length if isinstance(length, int) else len(length)
    if isinstance(wish, int) and wish == length:  # as it is declared
        return wish
    if isinstance(wish, str) or not hasattr(wish, "__len__") or len(wish) != length or not _are_numbers(wish):
        raise UsageError(f"{name} ({KINDS[name].meaning}) is {length} finite numbers, not {wish!r:.40}")
    return wish


def _lacks(name: str, styles: Sequence[str]) -> str:
    if KINDS[name].vector:
        return f"has no input {name} ({KINDS[name].meaning}): another method makes models that have it"
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
    return whole(styles, weights)


def whole(names: Sequence[str], weights: Sequence[float]) -> list[float]:
    """The weights of styles, which must sum to 1 but for rounding, made to do so exactly.

    Raises:
        UsageError: they do not, or one is not from 0 to 1.
    """
    if not all(_is_number(weight) and 0 <= weight < float("inf") for weight in weights):
        raise UsageError(f"the weights of styles are numbers from 0 to 1, not {weights}")
    total = sum(map(float, weights))
    if abs(total - 1) > _ROUNDING:
        named = ((name, weight) for name, weight in zip(names, weights, strict=True) if weight)
        close = ",".join(f"{name}={weight / total:.2g}" for name, weight in named)
        raise UsageError(f"the weights of styles sum to {total:g}, not to 1{f': {close} would' if close else ''}")
    return [float(weight) / total for weight in weights]


def _is_number(value: Any) -> bool:
    try:
        return math.isfinite(value) and not isinstance(value, bool)
    except (TypeError, ValueError, OverflowError):
        return False


def _are_numbers(values: Any) -> bool:
    if getattr(values, "dtype", None) == "float32":  # of numpy: whole styles, photo by photo
        return bool((abs(values) < math.inf).all())
    return all(map(_is_number, values))


def _is_within(name: str, value: Any) -> bool:
    kind = KINDS[name]
    if kind.shares:
        return all(_is_number(v) and kind.least <= v <= kind.most for v in value) and abs(sum(value) - 1) < 1e-6
    return _is_number(value) and kind.least <= value <= kind.most
