"""Which noise belongs to which number."""

import numpy as np
import pytest

from fst.errors import UsageError
from fst.inference.variations import draw


def test_the_same_numbers_for_ever():
    """As numpy's PCG64 gives them, which it promises not to change."""
    drawn = draw({"strength": 1.0, "noise": 4}, 0, 1)
    assert list(drawn) == ["noise"]
    assert drawn["noise"].dtype == np.float32
    generator = np.random.Generator(np.random.PCG64([0, 1]))
    assert np.array_equal(drawn["noise"], generator.standard_normal(4).astype(np.float32))


def test_every_seed_and_number_gives_another():
    drawn = [tuple(draw({"noise": 4}, seed, number)["noise"]) for seed in range(5) for number in range(5)]
    assert len(set(drawn)) == 25
    many = np.stack([draw({"noise": 16}, 0, number)["noise"] for number in range(1000)])
    assert np.abs(many.mean(0)).max() < 0.15
    assert np.abs(many.std(0) - 1).max() < 0.1


def test_what_cannot_be_drawn():
    with pytest.raises(UsageError, match=r"plain paints a photo in one way only: .* method=diverse"):
        draw({"strength": 1.0}, 0, 0, model="plain")
    for seed, number in ((-1, 0), (0, -1)):
        with pytest.raises(UsageError, match="0 or more"):
            draw({"noise": 4}, seed, number)
