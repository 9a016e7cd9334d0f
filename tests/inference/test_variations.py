"""Which noise or rotation belongs to which number."""

import numpy as np
import pytest

from fst.errors import UsageError
from fst.inference.variations import draw, rotation


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
    with pytest.raises(UsageError, match="many has learnt how much its results differ: leave diversity out"):
        draw({"noise": 4}, 0, 0, diversity=0.5, model="many")


def test_rotations_of_a_model_that_has_them():
    drawn = draw({"style_code": 20, "rotation": 16}, 3, 5)
    assert list(drawn) == ["rotation"]
    np.testing.assert_allclose(drawn["rotation"], rotation(16, 3, 5, diversity=0.7), atol=1e-7)
    np.testing.assert_array_equal(draw({"rotation": 16}, 3, 5, diversity=1)["rotation"], rotation(16, 3, 5))


def matrix(side, seed, number, **options):
    return rotation(side * side, seed, number, **options).reshape(side, side).astype(float) + np.eye(side)


def test_a_rotation_less_the_identity():
    for diversity in (1, 0.5):
        q = matrix(64, 0, 0, diversity=diversity)
        assert np.abs(q @ q.T - np.eye(64)).max() < 1e-5
        assert np.linalg.det(q) == pytest.approx(1, abs=1e-4)
    assert rotation(64 * 64, 0, 0).dtype == np.float32


def test_the_same_for_a_seed_and_a_number_and_another_for_others():
    assert np.array_equal(rotation(16, 3, 5), rotation(16, 3, 5))
    for other in ((3, 6), (4, 5), (5, 3)):
        assert np.abs(rotation(16, 3, 5) - rotation(16, *other)).max() > 0.1


def test_diversity_is_a_power():
    """Three thirds of the way are all of it."""
    third = matrix(64, 1, 2, diversity=1 / 3)
    np.testing.assert_allclose(third @ third @ third, matrix(64, 1, 2), atol=1e-5)
    assert np.abs(rotation(64, 1, 2, diversity=0)).max() < 1e-6


def test_angles():
    """They are pi / sqrt(3) in root mean square, as evenly spread ones from -pi to pi are, and half of it half-way."""
    for number in range(8):
        angles = np.angle(np.linalg.eigvals(matrix(128, 2, number, diversity=0.5)))
        assert np.sqrt((angles**2).mean()) == pytest.approx(np.pi / np.sqrt(3) / 2, rel=0.03)


def test_six_lie_around_none():
    """Their generators add up to nothing, and any two of them are as far apart; of the next six they know nothing."""
    small = np.stack([rotation(64 * 64, 3, number, diversity=1e-3) for number in range(12)]).astype(float)
    likeness = np.corrcoef(small)
    assert np.abs(small[:6].sum(0)).max() < 0.05 * np.abs(small[0]).max()  # squares are left
    np.testing.assert_allclose(likeness[:6, :6][~np.eye(6, dtype=bool)], -1 / 5, atol=0.06)
    assert np.abs(likeness[:6, 6:]).max() < 0.1


@pytest.mark.parametrize("diversity", [-0.1, 1.01, float("nan"), float("inf")])
def test_a_diversity_out_of_its_range(diversity):
    with pytest.raises(UsageError, match=r"diversity .* goes from 0 to 1, not"):
        rotation(16, 0, 0, diversity=diversity)
