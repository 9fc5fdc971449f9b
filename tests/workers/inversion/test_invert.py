"""Feature inversion: parameterization, transforms and objectives against oracles; the ascent on networks."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchvision.models import vgg16

from extremal.workers.errors import LayerError
from extremal.workers.images import Preprocess
from extremal.workers.inversion.invert import (
    InversionResult,
    Redirected,
    activations,
    channel_targets,
    cosine,
    energy,
    invert,
    masked,
    objectives,
)
from extremal.workers.inversion.parameterization import (
    DECORRELATED,
    draw_shakes,
    generators,
    noise,
    picture,
    png,
    shake,
)
from extremal.workers.inversion.settings import InversionConfig, Objective, Parameterization
from extremal.workers.networks.cut import Split, split_network
from extremal.workers.networks.network import Network, load_network

STILL = InversionConfig(steps=30, jitter=0, scale=0, rotation=0)


class Linear(nn.Module):
    """One convolution, whose output is the layer that is inverted."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.layer = nn.Conv2d(3, 5, 3, bias=False)
        self.fc = nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.layer(x).mean((2, 3)))


class Lists(nn.Module):
    """A layer that returns a tuple."""

    def __init__(self) -> None:
        super().__init__()
        self.split = Two()
        self.fc = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.split(x)[0].mean((2, 3)))


class Tokens(nn.Module):
    """Patches as tokens (B,16,6), as a vision transformer has them."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.patches = nn.Conv2d(3, 6, 4, stride=4)
        self.block = nn.Sequential(nn.LayerNorm(6), nn.Linear(6, 6))
        self.fc = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.block(self.patches(x).flatten(2).transpose(1, 2)).mean(1))


class Two(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, x


def frozen(module: nn.Module, side: int = 16) -> Network:
    chosen = Preprocess(side, side, (0.4, 0.5, 0.6), (0.2, 0.25, 0.3))
    return Network("test", module.eval().requires_grad_(False), chosen, None, "")


@pytest.fixture(scope="module")
def linear() -> tuple[Network, Split]:
    network = frozen(Linear())
    return network, split_network(network, "layer")


def images(count: int, side: int = 16) -> Tensor:
    """Smooth pictures of blotches."""
    blotches = torch.rand(count, 3, 5, 5, generator=torch.Generator().manual_seed(5))
    return nn.functional.interpolate(blotches, size=(side, side), mode="bicubic").clamp(0, 1)


# ---- ReLUs --------------------------------------------------------------------------------------


class Asleep(nn.Module):
    """Channels of ReLUs: the first is off on a grey picture by far, the second is on."""

    def __init__(self, in_place: bool) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.convolution = nn.Conv2d(3, 2, 3)
        self.convolution.bias.data = torch.tensor([-0.5, 1.0])
        self.layer = nn.ReLU(in_place)
        self.fc = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.layer(self.convolution(x)).mean((2, 3)))


@pytest.mark.parametrize("in_place", [False, True])
def test_a_channel_that_is_off_at_the_start_wakes_up(in_place: bool) -> None:
    network = frozen(Asleep(in_place))
    split = split_network(network, "layer")
    config = replace(STILL, steps=60)
    found = invert(network, split, channel_targets(network, split, [0, 1]), [0, 0], config=config)
    assert found.trace[0, 0] == 0
    assert found.trace[1, 0] > 0
    assert (found.trace[:, -1] > found.trace[:, 0] + 0.1).all()


def test_only_where_nothing_comes_back_is_the_gradient_redirected() -> None:
    """By hand: a loss of -x raises what is off, one of +x pushes no lower; elsewhere the true gradient."""
    x = torch.tensor([[-1.0, -2.0, -3.0], [-1.0, 2.0, 7.0], [8.0, -1.0, -1.0]], requires_grad=True)
    weights = torch.tensor([[-1.0, 1.0, 0.0], [-3.0, -5.0, -4.0], [-2.0, 0.0, 2.0]])
    for relu, ceiling, of_the_last in (
        (nn.functional.relu, float("inf"), [-2.0, 0.0, 0.0]),
        (nn.functional.relu6, 6.0, [0.0, 0.0, 0.0]),
    ):
        with Redirected():
            y = relu(x)
        assert torch.equal(y, x.clamp(0, ceiling))
        (gradient,) = torch.autograd.grad((y * weights).sum(), x)
        second = [0.0, -5.0, -4.0 if ceiling > 7 else 0.0]
        assert gradient.tolist() == [[-1.0, 0.0, 0.0], second, of_the_last]


def test_a_picture_with_a_gradient_goes_the_way_of_the_true_one(monkeypatch: pytest.MonkeyPatch) -> None:
    network = frozen(Asleep(False))
    split = split_network(network, "layer")
    targets = split.head(images(2)).value
    found = invert(network, split, targets, [1, 2], config=STILL)
    monkeypatch.setattr(Redirected, "replacement", lambda *_: None)
    assert torch.equal(invert(network, split, targets, [1, 2], config=STILL).pictures, found.pictures)


# ---- parameterization ---------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(6, 8), (5, 7), (8, 5)])
def test_fourier_is_the_inverse_dft_of_scaled_coefficients(size: tuple[int, int]) -> None:
    h, w = size
    parameters = torch.randn(2, 3, h, w // 2 + 1, 2, dtype=torch.float64)
    coefficients = torch.view_as_complex(parameters).numpy()
    plain = np.zeros((2, 3, h, w))
    for u in range(h):
        for v in range(w // 2 + 1):
            frequency = np.hypot(min(u, h - u) / h, v / w)
            twice = 1 if v == 0 or 2 * v == w else 2  # the half that a real picture mirrors
            for y in range(h):
                for x in range(w):
                    wave = np.exp(2j * np.pi * (u * y / h + v * x / w))
                    term = coefficients[:, :, u, v] * wave / max(frequency, 1 / max(h, w))
                    plain[:, :, y, x] += twice * 0.25 * term.real / np.sqrt(h * w)
    mixed = np.einsum("rc,nchw->nrhw", DECORRELATED.numpy(), plain)
    expected = 1 / (1 + np.exp(-mixed))
    np.testing.assert_allclose(picture("fourier", parameters, w), expected, atol=1e-12)


def test_colours_are_decorrelated_by_the_published_matrix() -> None:
    assert DECORRELATED.norm(dim=0).max() == pytest.approx(1)
    assert (DECORRELATED[:, 0] > 0.5).all(), "brightness comes first and is the same for all colours"
    ratio = 0.26 / (0.26**2 + 0.27**2 + 0.27**2) ** 0.5
    assert DECORRELATED[0, 0].item() == pytest.approx(ratio)


@pytest.mark.parametrize("kind", ["fourier", "pixel"])
def test_gradient_of_the_parameterization(kind: Parameterization) -> None:
    draws = torch.Generator().manual_seed(0)
    parameters = noise(kind, (5, 6), draws)[None].double().requires_grad_()
    assert torch.autograd.gradcheck(lambda p: picture(kind, p, 6), parameters)


def test_pictures_start_grey() -> None:
    for kind in ("fourier", "pixel"):
        (one,) = generators([3])
        start = picture(kind, noise(kind, (32, 32), one)[None], 32)
        assert start.shape == (1, 3, 32, 32)
        assert (start - 0.5).abs().max() < 0.1


# ---- transforms -----------------------------------------------------------------------------------


def transforms(count: int, **ranges: float) -> Tensor:
    none = {"jitter": 0.0, "scale": 0.0, "rotation": 0.0}
    config = InversionConfig(steps=count, **{**none, **ranges})  # type: ignore[arg-type]
    return draw_shakes(config, (16, 16), torch.Generator().manual_seed(0))


def test_no_range_is_the_identity() -> None:
    x = images(3)
    torch.testing.assert_close(shake(x, transforms(3)), x, rtol=0, atol=1e-5)


def test_shift_of_whole_pixels_is_a_slice_and_the_border_is_mirrored() -> None:
    x = images(1)
    move = torch.tensor([[[1.0, 0, 2 * 3 / 16], [0, 1, -2 * 2 / 16]]])  # 3 to the right, 2 up
    found = shake(x, move)
    torch.testing.assert_close(found[:, :, 2:, :13], x[:, :, :14, 3:], rtol=0, atol=1e-5)
    torch.testing.assert_close(found[:, :, 2:, 13:], x[:, :, :14, 13:].flip(3), rtol=0, atol=1e-5)


def test_a_quarter_turn_is_that_of_pixels_also_where_the_picture_is_not_square() -> None:
    config = InversionConfig(steps=400, jitter=0, scale=0, rotation=90)
    x = torch.rand(1, 3, 8, 12, generator=torch.Generator().manual_seed(1))
    drawn = draw_shakes(config, (8, 12), torch.Generator().manual_seed(0))
    nearest = drawn[:, 0, 0].abs().argmin()  # the cosine of the angle is 0 at a quarter
    found = shake(x, drawn[nearest][None])
    middle = x[:, :, :, 2:10].rot90(int(torch.sign(drawn[nearest, 1, 0])), (2, 3))
    torch.testing.assert_close(found[:, :, 1:-1, 3:9], middle[:, :, 1:-1, 1:-1], rtol=0, atol=0.1)


def test_draws_stay_in_their_ranges_and_use_them() -> None:
    shift = transforms(500, jitter=4.0)[:, :, 2] * 16 / 2
    assert 3.5 < shift.abs().max() <= 4
    assert abs(shift.mean()) < 0.3
    size = 1 / transforms(500, scale=0.2)[:, 0, 0]
    assert 1 / 1.2 - 1e-6 <= size.min() < 0.85
    assert 1.18 < size.max() <= 1.2 + 1e-6
    turned = transforms(500, rotation=10.0)
    angle = torch.rad2deg(torch.atan2(turned[:, 1, 0], turned[:, 0, 0]))
    assert 9.5 < angle.abs().max() <= 10


# ---- objectives -----------------------------------------------------------------------------------


def test_objectives_against_closed_forms_of_a_linear_network(linear: tuple[Network, Split]) -> None:
    network, split = linear
    x = images(2)
    weights = network.module.layer.weight.double().numpy()
    mean, std = (np.array(v)[:, None, None] for v in (network.preprocess.mean, network.preprocess.std))
    inputs = (x.double().numpy() - mean) / std
    windows = np.lib.stride_tricks.sliding_window_view(inputs, (3, 3), axis=(2, 3))
    phi = np.einsum("kcij,ncyxij->nkyx", weights, windows)
    found = activations(network, split, x)
    np.testing.assert_allclose(found, phi, atol=1e-5)
    target = torch.randn(2, 5, 14, 14, generator=torch.Generator().manual_seed(2))
    t = target.double().numpy()
    norm = (t**2).sum((1, 2, 3))
    dot = (t * phi).sum((1, 2, 3))
    np.testing.assert_allclose(objectives("dot", found, target), dot / norm, rtol=1e-4)
    distance = ((phi - t) ** 2).sum((1, 2, 3))
    np.testing.assert_allclose(objectives("distance", found, target), -distance / norm, rtol=1e-4)
    np.testing.assert_allclose(
        cosine(found, target), dot / np.sqrt(norm * (phi**2).sum((1, 2, 3))), rtol=1e-4
    )
    np.testing.assert_allclose(energy(found, split), (phi**2).sum((2, 3)), rtol=1e-4)


def test_channel_objective_is_the_mean_of_its_channel(linear: tuple[Network, Split]) -> None:
    network, split = linear
    targets = channel_targets(network, split, [3, 0])
    found = activations(network, split, images(2))
    expected = torch.stack([found[0, 3].mean(), found[1, 0].mean()])
    torch.testing.assert_close(objectives("dot", found, targets), expected)
    with pytest.raises(LayerError, match="channels 0 to 4, but no channel 5"):
        channel_targets(network, split, [5])


def test_mask_multiplies_channels(linear: tuple[Network, Split]) -> None:
    network, split = linear
    value = activations(network, split, images(2))
    mask = torch.rand(2, 5)
    found = masked(value, mask, split)
    for i in range(2):
        for k in range(5):
            torch.testing.assert_close(found[i, k], value[i, k] * mask[i, k])


def test_dot_of_a_linear_network_ends_where_its_gradient_points(linear: tuple[Network, Split]) -> None:
    """The maximum over [0,1] of a linear function is at the bounds, by the sign of its gradient."""
    network, split = linear
    target = activations(network, split, images(1))
    x = torch.full((1, 3, 16, 16), 0.5, requires_grad=True)
    with torch.enable_grad():
        std = torch.tensor(network.preprocess.std)[:, None, None]
        (network.module.layer(x / std) * target).sum().backward()
    config = InversionConfig(parameterization="pixel", steps=80, lr=0.5, jitter=0, scale=0, rotation=0)
    found = invert(network, split, target, [0], config=config).pictures
    clear = x.grad.abs() > 0.1 * x.grad.abs().max()
    assert clear.float().mean() > 0.3
    assert torch.equal(found[clear] > 0.5, x.grad[clear] > 0)
    assert ((found - 0.5).abs()[clear] > 0.45).all()


# ---- the ascent -----------------------------------------------------------------------------------


@pytest.mark.parametrize("objective", ["dot", "distance"])
@pytest.mark.parametrize("kind", ["fourier", "pixel"])
def test_objective_rises(linear: tuple[Network, Split], objective: Objective, kind: Parameterization) -> None:
    network, split = linear
    targets = activations(network, split, images(2))
    config = InversionConfig(objective=objective, parameterization=kind, steps=60, lr=0.2, jitter=1)
    result = invert(network, split, targets, [1, 2], config=config)
    assert result.trace.shape == (2, len(result.trace_steps))
    assert result.trace_steps[0] == 0
    assert result.trace_steps[-1] == 59
    assert (result.trace[:, -5:].mean(1) > result.trace[:, 0] + 0.3).all()
    assert (result.cosine > 0.7).all()
    assert 0 <= result.pictures.min() < result.pictures.max() <= 1


def test_distance_to_its_own_activations_finds_the_picture(linear: tuple[Network, Split]) -> None:
    network, split = linear
    still = InversionConfig(
        objective="distance", parameterization="pixel", steps=300, lr=0.1, jitter=0, scale=0, rotation=0
    )
    x = 0.2 + 0.6 * images(1)
    result = invert(network, split, activations(network, split, x), [0], config=still)
    assert result.cosine.item() > 0.999
    assert (result.pictures - x)[:, :, 2:-2, 2:-2].abs().mean() < 0.05


def batch(linear: tuple[Network, Split], seeds: Sequence[int], at: Sequence[int]) -> InversionResult:
    network, split = linear
    targets = activations(network, split, images(8))[list(at)]
    config = InversionConfig(steps=12, jitter=2)
    return invert(network, split, targets, seeds, config=config, slots=3)


def test_a_batch_of_eight_is_eight_of_one_and_the_seed_decides(linear: tuple[Network, Split]) -> None:
    seeds = [4, 5, 6, 7, 8, 9, 10, 2**62]
    whole = batch(linear, seeds, range(8))
    assert whole.pictures.equal(batch(linear, seeds, range(8)).pictures)
    for i, seed in enumerate(seeds):
        alone = batch(linear, [seed], [i])
        torch.testing.assert_close(whole.pictures[i : i + 1], alone.pictures, rtol=0, atol=1e-4)
        torch.testing.assert_close(whole.trace[i : i + 1], alone.trace, rtol=1e-3, atol=1e-3)
    other = batch(linear, [99], [0])
    assert (whole.pictures[:1] - other.pictures).abs().max() > 0.01


def test_two_targets_of_one_seed_share_their_draws(linear: tuple[Network, Split]) -> None:
    network, split = linear
    target = activations(network, split, images(1))
    config = InversionConfig(steps=10, jitter=2)
    same = invert(network, split, torch.cat([target, target]), [7, 7], config=config)
    torch.testing.assert_close(same.pictures[0], same.pictures[1], rtol=0, atol=1e-5)
    part = masked(target, torch.tensor([[1.0, 0, 0, 0, 1]]), split)
    two = invert(network, split, torch.cat([target, part]), [7, 7], config=config)
    assert (two.pictures[0] - two.pictures[1]).abs().max() > 0.01
    alone = invert(network, split, part, [7], config=config)
    torch.testing.assert_close(two.pictures[1:], alone.pictures, rtol=0, atol=1e-4)


NETWORKS = [
    ("squeezenet1_1", "features.9"),
    ("resnet18", "layer3"),
    ("googlenet", "inception4d"),
    ("mobilenet_v2", "features.10"),
    ("vgg16", "features.10"),  # a convolution before a ReLU in place
]


def random_network(name: str) -> Network:
    if name != "vgg16":
        return load_network(name, "random", resize=64, crop=64)
    with torch.device("meta"):  # its classifier alone takes half a gigabyte, and many seconds to be drawn
        module = vgg16(weights=None)
    module.classifier = nn.Linear(512 * 49, 4)
    module.features.to_empty(device="cpu")
    for layer in module.features:
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight)
            nn.init.zeros_(layer.bias)
    return frozen(module, 64)


@pytest.mark.parametrize(("name", "layer"), NETWORKS)
def test_on_networks_nothing_is_left_behind(name: str, layer: str) -> None:
    network = random_network(name)
    split = split_network(network, layer)
    x = network.preprocess.normalised(images(1, 64)[0])[None]
    value = split.head(x).value
    torch.testing.assert_close(activations(network, split, images(1, 64)), value, rtol=0, atol=1e-4)
    config = InversionConfig(steps=4)
    result = invert(network, split, value, [0], config=config)
    assert result.trace[0, -1] > result.trace[0, 0]
    assert result.energy.shape == (1, split.channels)
    assert result.cosine.isfinite().all()
    with pytest.raises(ValueError, match="do not fit"):
        invert(network, split, value[:, :, :-1], [0], config=config)
    assert not any(m._forward_hooks for m in network.module.modules())
    assert not any(p.requires_grad or p.grad is not None for p in network.module.parameters())


class Untraceable(Linear):
    def forward(self, x: Tensor) -> Tensor:
        if x.sum() > 1e9:
            raise RuntimeError("never")
        y = self.layer(x)
        return self.fc(y.mul_(2).mean((2, 3)))  # overwrites the layer's output


def test_a_network_that_cannot_be_cut_is_hooked_and_left_as_it_was(caplog: pytest.LogCaptureFixture) -> None:
    network, plain = frozen(Untraceable()), frozen(Linear())
    split = split_network(network, "layer")
    assert not split.traced
    targets = activations(plain, split_network(plain, "layer"), images(1))
    torch.testing.assert_close(activations(network, split, images(1)), targets)
    config = InversionConfig(steps=5)
    found = invert(network, split, targets, [1], config=config)
    expected = invert(plain, split_network(plain, "layer"), targets, [1], config=config)
    torch.testing.assert_close(found.pictures, expected.pictures, rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match="do not fit"):
        invert(network, split, targets[:, :, 1:], [1], config=config)
    assert not network.module.layer._forward_hooks


def test_pictures_need_not_be_square() -> None:
    network = frozen(Linear())
    split = split_network(network, "layer")
    targets = activations(network, split, torch.rand(1, 3, 12, 20))
    result = invert(network, split, targets, [0], config=STILL, size=(12, 20))
    assert result.pictures.shape == (1, 3, 12, 20)
    assert result.trace[0, -1] > result.trace[0, 0]


def test_tokens_have_their_channels_last() -> None:
    network = frozen(Tokens())
    split = split_network(network, "block")
    assert split.channels_last
    (target,) = channel_targets(network, split, [4])
    assert target.shape == (16, 6)
    assert (target[:, 4] == 1).all()
    assert target.sum() == 16
    value = activations(network, split, images(1))
    assert energy(value, split)[0, 4].item() == pytest.approx(value[0, :, 4].square().sum().item(), rel=1e-4)
    assert (masked(value, torch.eye(6)[4:5], split)[..., :4] == 0).all()
    result = invert(network, split, target[None], [0], config=STILL)
    assert result.trace[0, -1] > result.trace[0, 0]


def test_what_cannot_be_inverted_is_refused(linear: tuple[Network, Split]) -> None:
    with pytest.raises(LayerError, match="must return one tensor"):
        split_network(frozen(Lists()), "split")
    network, split = linear
    target = activations(network, split, images(1))
    with pytest.raises(ValueError, match="zero everywhere"):
        invert(network, split, 0 * target, [0])
    with pytest.raises(ValueError, match="1 targets, but 2 seeds"):
        invert(network, split, target, [0, 1])


def test_png_holds_the_rounded_pixels() -> None:
    from io import BytesIO

    from PIL import Image

    x = images(1)[0]
    read = np.asarray(Image.open(BytesIO(png(x))))
    np.testing.assert_array_equal(read, (x * 255).round().permute(1, 2, 0).numpy())


def test_cosine_of_nothing_is_zero() -> None:
    one = torch.rand(1, 4, 2, 2)
    assert cosine(0 * one, one).item() == 0
    assert cosine(one, 3 * one).item() == pytest.approx(1)
