"""fst.inputs: what is wished of a model becomes numbers in range, or one line."""

import math

import numpy as np
import pytest

from fst.errors import UsageError
from fst.inputs import neutral, problem, settle

ALL = {"strength": 1.0, "stroke": 1.0, "styles": [1.0, 0.0, 0.0]}
STYLES = ("wave", "udnie", "woodcut")


def test_what_is_left_out_is_neutral():
    assert settle(ALL, {}, styles=STYLES) == ALL
    assert settle(ALL, {"strength": None, "styles": None}, styles=STYLES) == ALL
    assert settle({}, {"strength": None, "stroke": None, "styles": None}) == {}
    assert settle(ALL, {"strength": 0, "stroke": 2}, styles=STYLES) == ALL | {"strength": 0.0, "stroke": 2.0}


@pytest.mark.parametrize(
    ("wish", "weights"),
    [
        ("udnie", [0, 1, 0]),
        ({"woodcut": 0.25, "wave": 0.75}, [0.75, 0, 0.25]),
        ([0.2, 0.3, 0.5], [0.2, 0.3, 0.5]),
        ({"wave": 0.333, "udnie": 0.333, "woodcut": 0.333}, [1 / 3, 1 / 3, 1 / 3]),
    ],
)
def test_mixes(wish, weights):
    assert settle(ALL, {"styles": wish}, styles=STYLES)["styles"] == pytest.approx(weights, abs=1e-12)


@pytest.mark.parametrize(
    ("wishes", "said"),
    [
        ({"strength": 1.5}, r"strength \(how much style\) goes from 0 to 1, not 1.5"),
        ({"strength": -0.01}, "goes from 0 to 1"),
        ({"strength": math.nan}, "goes from 0 to 1, not nan"),
        ({"strength": 10**400}, "goes from 0 to 1, not 1000"),
        ({"strength": "much"}, "goes from 0 to 1, not 'much'"),
        ({"stroke": 0.4}, r"goes from 0.5 to 2, not 0.4"),
        ({"stroke": math.inf}, "goes from 0.5 to 2"),
        ({"strenght": 1.0}, "no input 'strenght': did you mean strength?"),
        ({"styles": "wav"}, "four has no style 'wav': did you mean wave?"),
        ({"styles": {"wave": 0.7, "udnie": 0.5}}, "sum to 1.2, not to 1: wave=0.58,udnie=0.42 would"),
        ({"styles": {"wave": 0.0}}, "sum to 0, not to 1$"),
        ({"styles": {"wave": -0.5, "udnie": 1.5}}, "numbers from 0 to 1"),
        ({"styles": {"wave": math.nan}}, "numbers from 0 to 1"),
        ({"styles": [0.5, 0.5]}, r"four has 3 styles \(wave, udnie, woodcut\), not 2"),
    ],
)
def test_what_cannot_be_is_one_line(wishes, said):
    with pytest.raises(UsageError, match=said) as caught:
        settle(ALL, wishes, styles=STYLES, model="four")
    assert "\n" not in str(caught.value)


def test_vectors_are_declared_by_their_length_and_passed_on_as_they_are():
    declared, drawn = {"style_code": 2, "noise": 3}, np.array([0.5, -2.0, 1.0], np.float32)
    assert problem(declared) is None
    assert settle(declared, settle(declared, {})) == declared
    settled = settle(declared, {"noise": drawn})
    assert settled["noise"] is drawn
    assert settle(settled, settled)["noise"] is drawn
    assert settle(settled, {"noise": [1, 2, 3]})["noise"] == [1, 2, 3]
    assert neutral("noise", 3) == [0.0, 0.0, 0.0]
    assert neutral("strength", 1.0) == 1.0
    with pytest.raises(UsageError, match=r"style_code .* cannot be left out"):
        neutral("style_code", 2)


@pytest.mark.parametrize("wish", [[1.0], [1.0, 2.0, math.nan], 2, "abc", [0.0, 0.0, True], {"a": 1}])
def test_vectors_that_cannot_be(wish):
    with pytest.raises(UsageError, match=r"noise .* is 3 finite numbers, not "):
        settle({"noise": 3}, {"noise": wish})


def test_what_a_model_has_not_is_said():
    with pytest.raises(UsageError, match="plain has no input noise"):
        settle({}, {"noise": [1.0]}, model="plain")
    with pytest.raises(UsageError, match="plain was not trained with strength"):
        settle({}, {"strength": 1.0}, model="plain")  # not even the neutral value: it would have no meaning there
    with pytest.raises(UsageError, match="plain has one style, wave, and none to choose or mix"):
        settle({}, {"styles": "wave"}, styles=["wave"], model="plain")


@pytest.mark.parametrize(
    "declared",
    [
        {"strenght": 1.0},
        {"strength": 2.0},
        {"strength": [1.0]},
        {"stroke": "1"},
        {"styles": 1.0},
        {"styles": [0.5, 0.4]},
        {"noise": 0},
        {"noise": True},
        {"noise": 4.0},
        {"noise": [0.0, 0.0]},
    ],
)
def test_declarations_that_cannot_be(declared):
    assert problem(ALL) is None
    assert problem(declared)
