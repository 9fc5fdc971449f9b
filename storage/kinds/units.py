"""The units of the studies: pairs of an image and a class, and channels of a layer."""

import pyarrow as pa

from extremal.storage.kinds.kind import INTS, Unit, field

_SEED = field("seed", pa.int64(), "seed of this pair, hash(run seed, image, class)")

PAIR = Unit(
    "pair",
    key=(
        field("pair", pa.int64(), "row of the pair in plan.parquet: the key that joins every table of a run"),
        field("image_id", pa.string(), "name of the image in its dataset"),
        field("path", pa.string(), "image file, relative to the dataset's root"),
        field("class_id", pa.int32(), "class index in the dataset; -1 if unknown or chosen by the network"),
        field("class_name", pa.string(), "class name in the dataset"),
    ),
    planned=(
        field(
            "targets",
            INTS,
            "network outputs standing for the class: the most confident is explained; "
            "null = the network's own top-1; empty = the class is unknown",
            nullable=True,
        ),
        field("width", pa.int32(), "original image width, if known before decoding", nullable=True),
        field("height", pa.int32(), "original image height, if known before decoding", nullable=True),
        field("boxes", pa.list_(INTS), "ground truth boxes x0,y0,x1,y1 in 0-based pixels, ends inclusive"),
        field("rle", pa.string(), "ground truth mask: COCO compressed run lengths", nullable=True),
        field("all_difficult", pa.bool_(), "every object of the class is marked PASCAL-difficult"),
        field("difficult", pa.bool_(), "in the pointing game's Difficult subset"),
    ),
    resulting=(
        field("target", pa.int32(), "network output that was explained"),
        field("target_name", pa.string(), "name of that output, if known", nullable=True),
        _SEED,
    ),
    identify=lambda row: f"{row['image_id']}\n{row['class_id']}\n{row['class_name']}",
    label=lambda row: str(row["path"]),
)

CHANNEL_OF_LAYER = Unit(
    "channel",
    key=(
        field("unit", pa.int64(), "row of the channel in plan.parquet: joins the tables of a run"),
        field("layer", pa.string(), "layer of the network"),
        field("channel", pa.int32(), "channel of the layer, from 0"),
    ),
    planned=(),
    resulting=(field("seed", pa.int64(), "seed of this channel, hash(run seed, layer, channel)"),),
    # As an image of that name, which the channels of earlier runs were: their seeds are the same.
    identify=lambda row: f"{row['layer']}:{row['channel']}\n{row['channel']}\nchannel {row['channel']}",
    label=lambda row: f"channel {row['channel']} of {row['layer']}",
)

UNITS = {unit.name: unit for unit in (PAIR, CHANNEL_OF_LAYER)}
