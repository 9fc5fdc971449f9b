"""COCO: one JSON of annotations a split, objects as masks."""

import contextlib
import io
import json
import math
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import PurePosixPath
from typing import Any

from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from pipeline.pairs import (
    Box,
    Dataset,
    DatasetError,
    Pair,
    check_inside,
    is_difficult,
    list_or_none,
    stem,
    unknown_pair,
)
from storage.folder import FileFault, Folder

# By category id; the ids have gaps, the network outputs have none.
COCO_CLASSES = tuple(
    """person,bicycle,car,motorcycle,airplane,bus,train,truck,boat,traffic light,fire hydrant,stop sign,
parking meter,bench,bird,cat,dog,horse,sheep,cow,elephant,bear,zebra,giraffe,backpack,umbrella,handbag,tie,
suitcase,frisbee,skis,snowboard,sports ball,kite,baseball bat,baseball glove,skateboard,surfboard,
tennis racket,bottle,wine glass,cup,fork,knife,spoon,bowl,banana,apple,sandwich,orange,broccoli,carrot,
hot dog,pizza,donut,cake,chair,couch,potted plant,bed,dining table,toilet,tv,laptop,mouse,remote,keyboard,
cell phone,microwave,oven,toaster,sink,refrigerator,book,clock,vase,scissors,teddy bear,hair drier,
toothbrush""".replace("\n", "").split(",")
)

_PREFIX = "instances_"


def open_coco(root: Folder, split: str | None) -> Dataset:
    """COCO in `root`: annotations/instances_<split>.json and the images in <split>/.

    Raises:
        DatasetError: the annotations or the folder of images are missing or cannot be read.
    """
    names = (PurePosixPath(name) for name in root.names("annotations")[0])
    splits = [n.stem.removeprefix(_PREFIX) for n in names if n.match(f"{_PREFIX}*.json")]
    if split not in splits:
        raise DatasetError(
            f"{root.show()}: no annotations/{_PREFIX}{split or '<split>'}.json; "
            f"splits found: {list_or_none(splits)}"
        )
    if not root.is_dir(split):
        raise DatasetError(f"{root.show(split)}: the folder of the images is missing; unpack {split} there")
    source = f"annotations/{_PREFIX}{split}.json"
    api = _load(root, source)
    for image in api.imgs.values():
        check_inside(image["file_name"], root.show(source))
    classes = tuple(api.cats[key]["name"] for key in sorted(api.cats))
    vocabulary = "coco" if classes == COCO_CLASSES else "none"
    return Dataset("coco", root.root, classes, vocabulary, partial(_pairs, api, split))


def _load(root: Folder, source: str) -> Any:
    try:
        content = json.loads(root.read(source))
        if not isinstance(content, dict):
            raise TypeError("it holds no JSON object")
        api = COCO()
        api.dataset = content
        with contextlib.redirect_stdout(io.StringIO()):  # it prints what it does
            api.createIndex()
        # Read here what every image and category needs, so that a broken file is refused at once.
        _ = [(image["file_name"], image["width"], image["height"]) for image in api.imgs.values()]
        _ = [category["name"] for category in api.cats.values()]
    except (FileFault, ValueError, KeyError, TypeError) as error:
        raise DatasetError(
            f"{root.show(source)}: not a COCO instances file ({type(error).__name__}: {error}); "
            "download it again"
        ) from error
    return api


def _pairs(api: Any, split: str) -> Iterator[Pair]:
    for image_id in sorted(api.imgs):
        image = api.imgs[image_id]
        path = f"{split}/{image['file_name']}"
        by_category: dict[int, list[Any]] = {}
        for annotation in api.imgToAnns.get(image_id, []):
            by_category.setdefault(annotation["category_id"], []).append(annotation)
        for class_id, category in enumerate(sorted(api.cats)):
            annotations = by_category.get(category)
            if annotations:
                pair = Pair(
                    stem(image["file_name"]),
                    path,
                    class_id,
                    api.cats[category]["name"],
                    image["width"],
                    image["height"],
                )
                yield _add_region(pair, api, annotations, len(by_category) > 1)
        for category in sorted(by_category.keys() - api.cats.keys()):
            yield unknown_pair(stem(image["file_name"]), path, f"category {category}")


def _add_region(pair: Pair, api: Any, annotations: list[Any], other_classes: bool) -> Pair:
    """The pair with the union of its objects, or an unknown pair if one of them is broken."""
    try:
        parts = [api.annToRLE(annotation) for annotation in annotations]
        if any(list(part["size"]) != [pair.height, pair.width] for part in parts):
            raise ValueError("a mask of another size than its image")
        rle = coco_mask.merge(parts)
        boxes = tuple(_box(annotation["bbox"]) for annotation in annotations)
        area = int(coco_mask.area(rle))
    except Exception:  # pycocotools raises bare Exception; one broken mask must not cost the other pairs
        return unknown_pair(pair.image_id, pair.path, pair.class_name)
    height, width = rle["size"]
    return replace(
        pair,
        boxes=boxes,
        rle=rle["counts"].decode("ascii"),
        difficult=is_difficult(area, width, height, other_classes),
    )


def _box(bbox: list[float]) -> Box:
    """Every pixel that x, y, width, height (in pixels, from 0) touches."""
    x, y, w, h = bbox
    x0, y0 = math.floor(x), math.floor(y)
    return x0, y0, max(x0, math.ceil(x + w) - 1), max(y0, math.ceil(y + h) - 1)
