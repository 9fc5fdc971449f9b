"""Ablation: what logits lose when a few channels of a layer are set to zero (seeds E7).

The null is what sets of as many other channels do: drawn from all, or with the energy of the chosen ones,
since a channel that is hardly active cannot matter, whichever class it speaks for.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from extremal.workers.extremal.channel_objective import ChannelObjective
from extremal.workers.networks.cut import Split

PASSES = 64  # activations in the tail at once; without gradients they are small
STRATA = 10  # parts of the channels, by their energy, within which the matched sets are drawn

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Subject:
    """A pair whose class's channels are set to zero.

    Attributes:
        target: the class's output. others: outputs of the other classes, possibly none.
        chosen: sets of k channels to set to zero, by how they were chosen; at least one.
        seed: of the random sets, which depend on nothing else of the batch.
    """

    target: int
    others: Ints
    chosen: Mapping[str, Ints]
    seed: int


@dataclass(frozen=True)
class Drops:
    """Logits on the whole activations less those without some channels; S sets of channels.

    Attributes:
        own: (S,) of the target. others: (S,) mean over the outputs of the other classes, NaN without any.
    """

    own: Floats
    others: Floats


@dataclass(frozen=True)
class Ablated:
    """What became of one pair.

    Attributes:
        full: logit of the target with every channel.
        random: under R sets of k channels, drawn without replacement from all; the same for every choice.
        chosen: by choice, under the one set (S = 1).
        matched: by choice, under R sets with as many channels as it has in each tenth of the energy.
    """

    full: float
    random: Drops
    chosen: dict[str, Drops]
    matched: dict[str, Drops]


def ablate(split: Split, images: Tensor, subjects: Sequence[Subject], draws: int) -> list[Ablated]:
    """Set channels to zero, the chosen and R = draws random sets of as many; one head pass a pair.

    Args:
        images: (B,3,H,W) inputs of the B pairs, on the device of the network.

    Raises:
        FloatingPointError: a logit is infinite or not a number.
        ValueError: a choice has as many channels as the layer, which leaves nothing to compare it with.
    """
    with torch.no_grad():
        everyone = torch.arange(len(images), device=images.device)
        objective = ChannelObjective(split, split.head(images), everyone, everyone)
        energies = channel_energies(objective.activation.value, objective.dim).cpu().double().numpy()
        sets = [_sets(subject, energy, draws) for subject, energy in zip(subjects, energies, strict=True)]
        items = np.repeat(np.arange(len(sets)), [len(of_pair) for of_pair in sets])
        logits = _logits(objective, np.concatenate(sets), items)
    if not np.isfinite(logits).all():
        raise FloatingPointError("a logit without some channels became infinite or not a number")
    return [
        _ablated(subject, logits[items == i, :].astype(np.float64), draws)
        for i, subject in enumerate(subjects)
    ]


def channel_energies(value: Tensor, dim: int) -> Tensor:
    """(B,K) sums of squares of activations with their channels in dimension dim."""
    flat: Tensor = value.float().movedim(dim, 1).reshape(len(value), value.shape[dim], -1)
    return flat.square().sum(-1)


def random_sets(channels: int, k: int, draws: int, rng: np.random.Generator) -> Ints:
    """(draws,k) sets of channels, each drawn without replacement from 0 to channels - 1."""
    return rng.permuted(np.tile(np.arange(channels), (draws, 1)), axis=1)[:, :k]


def matched_sets(energy: Floats, chosen: Ints, draws: int, rng: np.random.Generator) -> Ints:
    """(draws,k) sets with as many channels as the chosen ones (k) have in each of STRATA of the energy.

    The strata are equal parts of the channels in the order of their energy (K), ties by index. Among such
    sets the chosen one is as good as any if nothing but the energy counts.
    """
    order = np.argsort(energy, kind="stable")
    parts = []
    for stratum in np.array_split(order, STRATA):
        wanted = int(np.isin(stratum, chosen).sum())
        if wanted:
            parts.append(stratum[random_sets(len(stratum), wanted, draws, rng)])
    return np.concatenate(parts, axis=1)


def _sets(subject: Subject, energy: Floats, draws: int) -> npt.NDArray[np.bool_]:
    """(1 + R + C (1 + R), K) which channels go: none, random ones, then each choice and those like it."""
    rng = np.random.default_rng(subject.seed)
    (k,) = {len(chosen) for chosen in subject.chosen.values()}
    if k >= len(energy):
        raise ValueError(f"{k} channels of {len(energy)} leave nothing to compare them with")
    sets = [random_sets(len(energy), k, draws, rng)]
    for name in sorted(subject.chosen):
        chosen = subject.chosen[name]
        sets += [chosen[None], matched_sets(energy, chosen, draws, rng)]
    stacked = np.concatenate(sets)
    gone = np.zeros((1 + len(stacked), len(energy)), np.bool_)
    np.put_along_axis(gone[1:], stacked, True, axis=1)
    return gone


def _logits(objective: ChannelObjective, gone: npt.NDArray[np.bool_], items: Ints) -> npt.NDArray[np.float32]:
    device = objective.activation.value.device
    parts = []
    for start in range(0, len(gone), PASSES):
        keep = torch.from_numpy(~gone[start : start + PASSES]).to(device, torch.float32)
        index = torch.from_numpy(items[start : start + PASSES]).to(device)
        parts.append(objective.logits(keep, index).cpu().numpy())
    return np.concatenate(parts)


def _ablated(subject: Subject, logits: Floats, draws: int) -> Ablated:
    """The drops of one pair; rows of logits in the order of `_sets`."""
    own = logits[0, subject.target] - logits[1:, subject.target]
    if len(subject.others):
        others = (logits[0, subject.others] - logits[1:, subject.others]).mean(1)
    else:
        others = np.full(len(own), np.nan)
    ends = np.cumsum([draws, *([1, draws] * len(subject.chosen))])[:-1]
    drops = [Drops(a, b) for a, b in zip(np.split(own, ends), np.split(others, ends), strict=True)]
    names = sorted(subject.chosen)
    return Ablated(
        full=float(logits[0, subject.target]),
        random=drops[0],
        chosen=dict(zip(names, drops[1::2], strict=True)),
        matched=dict(zip(names, drops[2::2], strict=True)),
    )
