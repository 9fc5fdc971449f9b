"""Channel attribution against brute force over all subsets, and its batches."""

from dataclasses import replace
from itertools import combinations

import pytest
import torch
from torch import Tensor, nn

from extremal.workers import ChannelConfig, channel_attribution
from extremal.workers.extremal.channel_objective import keep_largest
from extremal.workers.extremal.settings import Schedule, default_counts
from extremal.workers.images import Preprocess
from extremal.workers.networks.network import Network

SCHEDULE = Schedule(200, 0.01, 0.9, 0.0, 30.0, "ramp", ramp=100)


class Net(nn.Module):
    """Random features, then a class score that adds up some channels and takes others away."""

    def __init__(self, channels: int = 6) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.features = nn.Sequential(nn.Conv2d(3, channels, 3), nn.ReLU())
        self.fc = nn.Linear(channels, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.features(x).mean((2, 3)) * 5)


def images(count: int) -> Tensor:
    return torch.randn(count, 3, 12, 16, generator=torch.Generator().manual_seed(4))


def test_finds_the_best_subset_of_every_size() -> None:
    network, x, targets = Net().eval(), images(3), torch.tensor([0, 1, 2])
    config = ChannelConfig("features", (1, 2, 3, 4, 5, 6), schedule=SCHEDULE)
    result = channel_attribution(network, x, targets, config=config)
    activations = network.features(x)
    for i in range(3):
        for a, count in enumerate(result.counts):
            best = -float("inf")
            for kept in combinations(range(6), count):
                mask = torch.zeros(6)
                mask[list(kept)] = 1
                masked = (activations[i] * mask[:, None, None])[None]
                best = max(best, network.fc(masked.mean((2, 3)) * 5)[0, targets[i]].item())
            assert result.scores_binary[i, a].item() == pytest.approx(best, abs=1e-4)


def test_a_star_is_the_smallest_count_that_reaches_the_full_score() -> None:
    network, x, targets = Net().eval(), images(3), torch.tensor([0, 1, 2])
    result = channel_attribution(network, x, targets, "features", [1, 2, 3, 6])
    full = network(x).gather(1, targets[:, None])[:, 0]
    torch.testing.assert_close(result.score_full, full)
    torch.testing.assert_close(result.score_perturbed, network.fc(torch.zeros(1, 6))[0, targets])
    assert (result.scores_binary[:, -1] == result.score_full).all()
    for i in range(3):
        reaching = [c for c, s in zip(result.counts, result.scores_binary[i], strict=True) if s >= full[i]]
        assert result.a_star[i] == reaching[0]


def test_saliency_is_equation_11() -> None:
    network, x, targets = Net().eval(), images(2), torch.tensor([0, 1])
    result = channel_attribution(network, x, targets, "features", [1, 3, 6], steps=20)
    for i in range(2):
        mask = result.masks[i, result.counts.index(int(result.a_star[i]))]
        expected = (network.features(x)[i] * mask[:, None, None]).sum(0)
        torch.testing.assert_close(result.saliency[i], expected)


def test_activations_are_each_channels_largest_of_the_whole_image() -> None:
    network, x = Net().eval(), images(2)
    result = channel_attribution(
        network, x, torch.tensor([0, 1, 2]), "features", [1], steps=2, image=[1, 0, 1]
    )
    features = network.features(x)
    for row, image in zip(result.activations, (1, 0, 1), strict=True):
        torch.testing.assert_close(row, torch.stack([channel.max() for channel in features[image]]))


def test_batch_of_eight_equals_eight_of_one() -> None:
    network, x, targets = Net(16).eval(), images(8), torch.arange(8) % 4
    together = channel_attribution(network, x, targets, "features", [2, 8], steps=60)
    for i in range(8):
        alone = channel_attribution(network, x[i : i + 1], targets[i : i + 1], "features", [2, 8], steps=60)
        for name in ("masks", "scores", "scores_binary", "saliency", "a_star", "energy"):
            torch.testing.assert_close(
                getattr(together, name)[i], getattr(alone, name)[0], atol=1e-4, rtol=1e-4, msg=name
            )


def test_pairs_of_one_image_share_its_head_and_equal_pairs_of_two() -> None:
    network, x = Net().eval(), images(2)
    shared = channel_attribution(
        network, x, torch.tensor([0, 1, 2]), "features", [1, 3], steps=30, image=[0, 0, 1], slots=4
    )
    apart = channel_attribution(network, x[[0, 0, 1]], torch.tensor([0, 1, 2]), "features", [1, 3], steps=30)
    for name in ("masks", "scores", "scores_binary", "saliency", "energy"):
        torch.testing.assert_close(getattr(shared, name), getattr(apart, name), atol=1e-4, rtol=1e-4)
    assert shared.slots == 4


def test_bf16_masks_stay_float32_and_scores_near() -> None:
    preprocess = Preprocess(16, None, (0, 0, 0), (1, 1, 1))
    network = Network("own", Net().eval().requires_grad_(False), preprocess, None, "")
    x, targets = images(2), torch.tensor([0, 1])
    exact = channel_attribution(network, x, targets, "features", [1, 3, 6], steps=30)
    coarse = channel_attribution(
        replace(network, precision="bf16"), x, targets, "features", [1, 3, 6], steps=30
    )
    assert coarse.masks.dtype == coarse.scores.dtype == coarse.saliency.dtype == torch.float32
    assert not torch.equal(coarse.scores, exact.scores)
    torch.testing.assert_close(coarse.score_full, exact.score_full, atol=0.05, rtol=0.02)
    torch.testing.assert_close(coarse.masks, exact.masks, atol=0.05, rtol=0)


def test_keep_largest_breaks_ties_by_index() -> None:
    masks = torch.tensor([[0.5, 0.9, 0.5, 0.5], [0.1, 0.2, 0.3, 0.3]])
    kept = keep_largest(masks, torch.tensor([2, 1]))
    assert kept.tolist() == [[1, 1, 0, 0], [0, 0, 1, 0]]


def test_counts_are_the_papers_or_scale_with_the_layer() -> None:
    assert len(default_counts(528)) == 21
    assert default_counts(528)[:4] == (1, 5, 10, 20)
    assert default_counts(528)[-1] == 528
    assert default_counts(64)[0] == 1
    assert default_counts(64)[-1] == 64
    assert default_counts(1) == (1,)


def test_too_large_counts_are_refused() -> None:
    with pytest.raises(ValueError, match="has 6 channels"):
        channel_attribution(Net(), images(1), torch.tensor([0]), "features", [7])


def test_inception4d_of_the_papers_network(shared_data: object) -> None:
    """Design decision 16: at inception4d a few dozen channels reach the full score."""
    from pathlib import Path

    from extremal.workers import load_network

    root = Path(str(shared_data))
    network = load_network("bvlc_googlenet", root / "weights" / "bvlc_googlenet.pth")
    from extremal.workers.images import decode

    x = network.preprocess(decode(root / "imagenet" / "images" / "ILSVRC2012_val_00000347.JPEG"))[None]
    target = torch.tensor([472])
    result = channel_attribution(network, x, target, steps=40, counts=[25, 100, 528])
    assert result.masks.shape == (1, 3, 528)
    assert result.saliency.shape == (1, 14, 14)
    assert result.scores_binary[0, 1] > result.score_full[0]
