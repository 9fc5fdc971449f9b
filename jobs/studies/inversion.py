"""Feature inversion: pictures of what activations hold, of pairs or of channels."""

import pyarrow.compute as pc

from extremal.jobs.page_data import Labelled
from extremal.jobs.studies.view import ChannelPictures, PairPictures, Row, StudyView, labelled
from extremal.storage import Run, kinds

SHOWN_CHANNELS = 5  # that lost the most energy

_LABELS = {
    "layer": "layer",
    "objective": "objective",
    "a_star": "a*",
    "cosine": "cosine with the activations",
    "cosine_masked": "cosine with the masked activations",
    "cosine_between": "cosine between the two inversions",
    "seconds": "seconds",
}


def _of_pairs(run: Run) -> bool:
    # Runs of schema 4 have channels in the place of pairs: there only the setting tells.
    return run.unit.name == "pair" and run.manifest.setting("inversion", "subject") == "pairs"


def _as_pair(run: Run, row: Row) -> Row:
    """A channel as a pair without an image, as runs of schema 4 have it in their plans."""
    name = f"{row['layer']}:{row['channel']}"
    side = run.manifest.model.crop or run.manifest.model.resize
    return {
        "image_id": name,
        "path": name,
        "class_id": row["channel"],
        "class_name": f"channel {row['channel']}",
        "targets": [],
        "width": side,
        "height": side,
        "boxes": [],
    }


def _energy_removed(whole: list[float], masked: list[float]) -> Labelled:
    """How much less energy the channels have in the masked inversion than in the whole (CH-5, E8)."""
    if not masked or not sum(whole) > 0:
        return []
    lost = [before - after for before, after in zip(whole, masked, strict=True)]
    share = f"{100 * sum(lost) / sum(whole):.1f} % of the energy of {len(whole)} channels"
    most = sorted(range(len(lost)), key=lambda channel: (-lost[channel], channel))[:SHOWN_CHANNELS]
    names = [f"{channel} ({100 * lost[channel] / sum(whole):.1f} %)" for channel in most]
    return [["removed by the mask", share], ["channels that lost most", ", ".join(names)]]


def _channels(run: Run, shard: int) -> list[int]:
    tables = run.tables(kinds.INVERSION, ["channel"], [shard])
    return [channel for table in tables for channel in table["channel"].drop_null().to_pylist()]


def _channel_png(run: Run, shard: int, channel: int) -> bytes:
    for table in run.tables(kinds.INVERSION, ["channel", "image"], [shard]):
        rows = table.filter(pc.equal(table["channel"], channel))
        return bytes(rows["image"][0].as_py())
    raise KeyError(channel)


INVERSION = StudyView(
    name="inversion",
    columns=(
        "layer",
        "objective",
        "channel",
        "a_star",
        "cosine",
        "cosine_masked",
        "cosine_between",
        "energy",
        "energy_masked",
        "seconds",
    ),
    has_points=False,
    of_pairs=_of_pairs,
    pair_of=_as_pair,
    pair_pictures=PairPictures(
        "image",
        "image_masked",
        has_masked=lambda row: row["cosine_masked"] is not None,
        numbers=lambda row: labelled(row, _LABELS) + _energy_removed(row["energy"], row["energy_masked"]),
    ),
    channel_pictures=ChannelPictures(
        _channels,
        _channel_png,
        fit=lambda run, channels: run.manifest.data.channels == channels.manifest.config_hash,
    ),
)
