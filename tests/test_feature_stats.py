"""fst.feature_stats against float64 numpy."""

import numpy as np
import torch

from fst.feature_stats import gram, symmetric_root

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
