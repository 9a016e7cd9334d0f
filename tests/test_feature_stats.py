"""fst.feature_stats against float64 numpy."""

import numpy as np
import torch

from fst.feature_stats import (
    adain,
    covariance,
    gram,
    moments,
    random_rotations,
    root_of_covariance,
    roots,
    symmetric_root,
    whitening_coloring,
)

FEATURES = torch.randn(2, 5, 4, 7, generator=torch.Generator().manual_seed(0))


def gram64(features: torch.Tensor) -> np.ndarray:
    f = features.detach().double().numpy()
    return np.einsum("bihw,bjhw->bij", f, f) / f[0].size


def test_gram_in_both_memory_formats() -> None:
    for features in (FEATURES, FEATURES.to(memory_format=torch.channels_last)):
        np.testing.assert_allclose(gram(features).numpy(), gram64(features), rtol=1e-5, atol=1e-7)


def test_gram_by_hand() -> None:
    """Two channels of two pixels: (1, 2) and (3, 4); four values in all."""
    got = gram(torch.tensor([[[[1.0, 2.0]], [[3.0, 4.0]]]]))
    torch.testing.assert_close(got, torch.tensor([[[5.0, 11.0], [11.0, 25.0]]]) / 4)


def test_gram_does_not_depend_on_the_size_of_the_picture() -> None:
    torch.testing.assert_close(gram(FEATURES.repeat(1, 1, 2, 3)), gram(FEATURES))


def test_gram_is_float32_under_autocast() -> None:
    """In bfloat16 the result would be off by 1/256 of itself, a thousand times the bound here."""
    many = torch.rand(1, 8, 64, 64, generator=torch.Generator().manual_seed(1)) + 1
    with torch.autocast("cpu", torch.bfloat16):
        got = gram(many)
    assert got.dtype == torch.float32
    np.testing.assert_allclose(got.numpy(), gram64(many), rtol=4e-6)


def test_gram_of_bfloat16_features_is_the_gram_of_their_values() -> None:
    half = FEATURES.bfloat16()
    assert gram(half).dtype == torch.float32
    np.testing.assert_allclose(gram(half).numpy(), gram64(half), rtol=1e-5, atol=1e-7)


def test_gradient_against_the_formula() -> None:
    """d<W, G>/dF = (W + W^T) F / (C H W)."""
    features = FEATURES.clone().requires_grad_()
    weight = torch.randn(2, 5, 5, generator=torch.Generator().manual_seed(2))
    (gram(features) * weight).sum().backward()
    w, f = weight.double().numpy(), FEATURES.double().numpy().reshape(2, 5, 28)
    expected = (w + w.transpose(0, 2, 1)) @ f / (5 * 4 * 7)
    assert features.grad is not None
    np.testing.assert_allclose(features.grad.numpy().reshape(2, 5, 28), expected, rtol=1e-4, atol=1e-6)


def test_symmetric_root_squares_to_the_matrix() -> None:
    """Also of a matrix without full rank, whose smallest eigenvalues come out negative."""
    flat = FEATURES.flatten(2).double()
    tall = flat.mT @ flat  # (2, 28, 28) of rank 5
    for matrices in (flat @ flat.mT, tall):
        root = symmetric_root(matrices)
        torch.testing.assert_close(root, root.mT)
        torch.testing.assert_close(root @ root, matrices)
        assert torch.linalg.eigvalsh(root).min() > -1e-6


def moments64(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean (B, C) and covariance (B, C, C) over places."""
    flat = features.reshape(*features.shape[:2], -1)
    mean = flat.mean(2)
    centred = flat - mean[..., None]
    return mean, np.einsum("bip,bjp->bij", centred, centred) / flat.shape[2]


def root64(matrix: np.ndarray, power: float = 0.5) -> np.ndarray:
    """A power of a symmetric matrix; as `roots` says, with a thousandth of its mean variance on the diagonal."""
    values, vectors = np.linalg.eigh(matrix + (1e-3 * np.diag(matrix).mean() + 1e-5) * np.eye(len(matrix)))
    return (vectors * values**power) @ vectors.T


def features_like_a_networks(seed: int, channels: int = 24) -> torch.Tensor:
    """Correlated and uneven, as features are: eigenvalues of their covariance span four orders."""
    random = np.random.default_rng(seed)
    mixing = np.linalg.qr(random.standard_normal((channels, channels)))[0] * np.logspace(0, -2, channels)
    values = np.einsum("ij,bjhw->bihw", mixing, random.standard_normal((2, channels, 12, 15))) + random.random(
        (1, 1, 1)
    )
    return torch.from_numpy(values.astype(np.float32))


def test_moments_and_covariance() -> None:
    f = FEATURES.double().numpy()
    mean, matrices = moments64(f)
    for got in (moments(FEATURES)[0], covariance(FEATURES)[0]):
        np.testing.assert_allclose(got.numpy(), mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(moments(FEATURES)[1].numpy(), np.sqrt(f.var((2, 3)) + 1e-5), rtol=1e-5)
    np.testing.assert_allclose(covariance(FEATURES)[1].numpy(), matrices, rtol=1e-5, atol=1e-6)


def test_adain_gives_the_mean_and_deviation_it_is_told() -> None:
    """Equation 8 of Huang & Belongie 2017, with 1e-5 beside the variance; one style for all, or one for each."""
    f = FEATURES.double().numpy()
    for rows in (1, 2):
        mean, deviation = torch.randn(rows, 5), torch.rand(rows, 5)
        own = (f - f.mean((2, 3), keepdims=True)) / np.sqrt(f.var((2, 3), keepdims=True) + 1e-5)
        wanted = own * deviation.double().numpy()[..., None, None] + mean.double().numpy()[..., None, None]
        np.testing.assert_allclose(adain(FEATURES, mean, deviation).numpy(), wanted, rtol=1e-4, atol=1e-5)


def test_roots_without_eigenvalues_against_eigenvalues() -> None:
    matrices = covariance(features_like_a_networks(1))[1]
    root, inverse = roots(matrices)
    for number, matrix in enumerate(matrices.double().numpy()):
        for got, power in ((root, 0.5), (inverse, -0.5)):
            wanted = root64(matrix, power)
            assert np.linalg.norm(got[number].numpy() - wanted) < 2e-3 * np.linalg.norm(wanted)


def test_whitening_and_colouring_against_eigenvalues() -> None:
    photo, style = features_like_a_networks(1), features_like_a_networks(2)[:1]
    mean, root = root_of_covariance(style)
    style_mean, style_matrix = moments64(style.double().numpy())
    np.testing.assert_allclose(mean.numpy(), style_mean, rtol=1e-5, atol=1e-6)
    f = photo.double().numpy().reshape(2, 24, -1)
    own_mean, own = moments64(photo.double().numpy())
    to_style = [root64(style_matrix[0]) @ root64(own[n], -0.5) for n in range(2)]
    wanted = np.stack([to_style[n] @ (f[n] - own_mean[n][:, None]) + style_mean[0][:, None] for n in range(2)])
    got = whitening_coloring(photo, mean, root)
    assert np.linalg.norm(got.numpy().reshape(wanted.shape) - wanted) < 5e-3 * np.linalg.norm(wanted)
    matrix = moments64(got.double().numpy())[1][0]  # but for the directions that the photo hardly has, the style's
    assert np.linalg.norm(matrix - style_matrix[0]) < 0.2 * np.linalg.norm(style_matrix[0])


def test_means_of_2x2_places_are_turned_and_the_covariance_stays() -> None:
    photo, style = features_like_a_networks(1)[:, :, :12, :14], features_like_a_networks(2)[:1]
    mean, root = root_of_covariance(style)
    plain = whitening_coloring(photo, mean, root)
    nothing = whitening_coloring(photo, mean, root, torch.zeros(1, 24, 24))
    assert (nothing - plain).norm() < 1e-3 * plain.norm()
    turn = np.linalg.qr(np.random.default_rng(3).standard_normal((24, 24)))[0]
    got = whitening_coloring(photo, mean, root, torch.from_numpy((turn - np.eye(24))[None].astype(np.float32)))
    assert (got - plain).norm() > 0.1 * plain.norm()
    turned, kept = (moments64(each.double().numpy())[1] for each in (got, plain))
    assert np.linalg.norm(turned - kept) < 0.02 * np.linalg.norm(kept)
    f = photo.double()  # the same by hand: whiten, turn what is coarse, whiten again, colour
    one = np.eye(24)
    own_mean, own = moments64(photo.double().numpy())
    style_matrix = moments64(style.double().numpy())[1][0]
    for n in range(2):
        first = roots(torch.from_numpy(own[n : n + 1]).float())[1][0].double().numpy()  # of what it hardly has, less
        white = np.einsum("ij,jhw->ihw", first, f[n].numpy() - own_mean[n][:, None, None])
        c, h, w = white.shape
        coarse = torch.from_numpy(white.reshape(c, h // 2, 2, w // 2, 2).mean((2, 4)))[None]
        wide = torch.nn.functional.interpolate(coarse, (h, w), mode="bilinear")[0].numpy()
        moved = white + np.einsum("ij,jhw->ihw", turn - one, wide)
        moved_mean, moved_matrix = moments64(moved[None])
        again = root64(moved_matrix[0] - first @ own[n] @ first + one, -0.5) @ (
            moved.reshape(c, -1) - moved_mean[0][:, None]
        )
        wanted = root64(style_matrix) @ again + mean[0].double().numpy()[:, None]
        assert np.linalg.norm(got[n].numpy().reshape(c, -1) - wanted) < 5e-3 * np.linalg.norm(wanted)


def test_covariances_keep_their_digits_under_autocast() -> None:
    style = features_like_a_networks(2)
    wanted = root_of_covariance(style)[1]
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(root_of_covariance(style)[1], wanted)
        mean, root = root_of_covariance(style)
        got = whitening_coloring(features_like_a_networks(1), mean, root)
    torch.testing.assert_close(got, whitening_coloring(features_like_a_networks(1), mean, root))


def test_random_rotations_are_rotations_as_far_as_asked():
    torch.manual_seed(0)
    share = torch.tensor([0.0, 0.5, 1.0])
    turned = random_rotations(share, 64).double().numpy() + np.eye(64)
    assert np.array_equal(turned[0], np.eye(64))
    np.testing.assert_allclose(turned @ turned.transpose(0, 2, 1), np.broadcast_to(np.eye(64), turned.shape), atol=1e-4)
    np.testing.assert_allclose(np.linalg.det(turned), 1, atol=1e-3)
    angles = np.angle(np.linalg.eigvals(turned))
    haar = np.angle(np.linalg.eigvals(np.linalg.qr(np.random.default_rng(0).standard_normal((64, 64)))[0]))
    size = np.sqrt((angles**2).mean(1)) / np.sqrt((haar**2).mean())
    np.testing.assert_allclose(size, share, atol=0.12)  # angles beyond a half turn are smaller ones
