"""The yardstick: fst's own plain recipe, held against fst's network and losses, and against an independent script."""

import importlib.util
import math
from argparse import Namespace

import pytest
import torch

from fst import nets
from fst.evaluation import plain
from fst.perceptual.losses import PerceptualLoss, style_target
from fst.perceptual.vgg import VGG19


def training(photos, weights, **settings):
    style = sorted(photos.iterdir())[0]
    chosen = {"photos": photos, "style_image": style, "weights": weights, "size": 32, "batch": 2} | settings
    return plain.PlainTraining(**chosen)


@pytest.mark.parametrize("size", [(32, 48), (64, 64)])
def test_net_is_fsts_johnson_network_with_the_same_weights(size):
    torch.manual_seed(0)
    net, ours = plain.PlainNet().eval(), nets.build({"name": "johnson"}).eval()
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    ours.load_state_dict(net.to_fst())
    x = torch.rand(2, 3, *size)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), net(x), atol=2e-5, rtol=0)


def test_weights_go_to_fst_and_back():
    net, other = plain.PlainNet(), plain.PlainNet()
    other.from_fst(net.to_fst())
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in net.state_dict().items())


def test_losses_are_fsts(random_vgg):
    torch.manual_seed(1)
    restyled, photos, style = torch.rand(2, 3, 32, 40), torch.rand(2, 3, 32, 40), torch.rand(1, 3, 24, 32)
    loss = PerceptualLoss(style_layers=dict.fromkeys(plain.STYLE_LAYERS, 1.0), content_layers={"relu3_2": 1.0})
    taps = (*loss.style_layers, *loss.content_layers)
    theirs, ours = plain.Vgg(random_vgg()), VGG19(taps=taps, weights=random_vgg(), padding="zeros")
    with torch.no_grad():
        target = style_target([style], [ours(style, taps)], loss.style_layers)
        terms = loss(restyled, ours(restyled, taps), ours(photos, taps), target).mean()
        grams = {name: plain.gram(feature) for name, feature in theirs(style).items() if name in plain.STYLE_LAYERS}
        content, style_loss = plain.losses(theirs(restyled), theirs(photos), grams)
    assert content.item() == pytest.approx(terms.content.item(), rel=1e-3)
    assert style_loss.item() == pytest.approx(terms.style.item(), rel=1e-3)


def test_a_step_is_adam_on_the_weighted_losses(photos, random_vgg):
    run = training(photos, random_vgg())
    before = [parameter.detach().clone() for parameter in run.net.parameters()]
    x = torch.stack([run.photo(file) for file in run.files[:2]])
    content, style = plain.losses(run.vgg(run.net(x)), run.vgg(x), run.grams)
    gradients = torch.autograd.grad(0.1 * content + style, list(run.net.parameters()))
    assert run.step() == pytest.approx((content.item(), style.item()), rel=1e-5)
    for old, new, gradient in zip(before, run.net.parameters(), gradients, strict=True):
        # Adam's first step is the rate against the sign, where the gradient is not lost in its epsilon.
        moved = gradient.abs() > 1e-5
        torch.testing.assert_close((new - old)[moved], -1e-3 * gradient.sign()[moved], atol=2e-6, rtol=2e-3)


def test_photos_come_in_order_and_begin_again(photos, random_vgg):
    run = training(photos, random_vgg(), batch=5)
    assert [file.name for file in run.files] == [f"{number:02}.jpg" for number in range(8)]
    first = [run.step() for _ in range(2)]
    assert run.steps_done == 2
    assert all(math.isfinite(value) for losses in first for value in losses)


def test_a_score_is_the_mean_over_photos(photos, random_vgg):
    run = training(photos, random_vgg())
    single = [run.score(run.net, [file]) for file in run.files[:3]]
    content, style = run.score(run.net, run.files[:3])
    assert content == pytest.approx(sum(c for c, _ in single) / 3, rel=1e-4)
    assert style == pytest.approx(sum(s for _, s in single) / 3, rel=1e-4)


def test_it_is_the_published_recipe(shared, vgg_weights, tmp_path):
    """The same losses, seed for seed and step for step, as an independent script of the recipe."""
    path = shared / "bench" / "plain_recipe.py"
    if not path.is_file():
        pytest.skip("needs bench/plain_recipe.py in the folder shared")
    spec = importlib.util.spec_from_file_location("plain_recipe", path)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    style = shared / "styles" / "starry_night.jpg"
    chosen = {"photos": shared / "photos" / "train", "style": style, "style_size": 128, "weights": vgg_weights}
    chosen |= {"size": 64, "batch": 2, "steps": 2, "device": "cpu", "content_weight": 0.1, "validation": None}
    theirs = script.train(Namespace(**chosen))
    run = plain.PlainTraining(
        photos=chosen["photos"], style_image=style, weights=vgg_weights, size=64, batch=2, style_size=128
    )
    content, style_loss = [run.step() for _ in range(2)][-1]  # the script reports its last tenth
    assert content == pytest.approx(theirs["content"], rel=1e-5)
    assert style_loss == pytest.approx(theirs["style"], rel=1e-5)


def test_vgg_normalises_as_imagenet_does(random_vgg):
    vgg = plain.Vgg(random_vgg())
    x = torch.rand(1, 3, 16, 16)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    first = vgg.layers[0]
    shifted = (x - mean.view(1, 3, 1, 1)) / std.view(1, 3, 1, 1)
    wanted = torch.relu(torch.conv2d(shifted, first.weight, first.bias, padding=1))
    torch.testing.assert_close(vgg(x)["relu1_1"], wanted)
