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

from extremal.pipeline.datasets.pairs import (
    Box,
    Dataset,
    Layout,
    Pair,
    check_inside,
    is_difficult,
    list_or_none,
    stem,
    storable,
    unknown_pair,
)
from extremal.pipeline.errors import DatasetError
from extremal.storage.folder import FileFault, Folder
from extremal.workers.images import MAX_PIXELS

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
    api = _load(root, f"annotations/{_PREFIX}{split}.json")
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
        for image in api.dataset["images"]:
            _ = image["width"], image["height"]
            check_inside(_text(image, "file_name"), root.show(source))
        for category in api.dataset["categories"]:
            _text(category, "name")
        for kind, found in (("images", api.imgs), ("categories", api.cats)):
            _refuse_twins(api.dataset[kind], found)
            sorted(found)
    # pycocotools indexes without looking; brackets without end are a RecursionError.
    except (FileFault, ValueError, LookupError, TypeError, RecursionError) as error:
        raise DatasetError(
            f"{root.show(source)}: not a COCO instances file ({type(error).__name__}: {error}); "
            "download it again"
        ) from error
    return api


def _text(record: dict[str, Any], key: str) -> str:
    """The string under a key.

    Raises:
        ValueError: it is none, or no table could hold it. KeyError: there is none.
    """
    value = record[key]
    if not isinstance(value, str) or storable(value) != value:
        raise ValueError(f"{key} is {value!r}, not a text")
    return value


def _refuse_twins(records: list[Any], found: dict[Any, Any]) -> None:
    """Of two images with one id pycocotools keeps the last, with the objects of both."""
    for record in records:
        if found[record["id"]] != record:
            raise ValueError(f"two entries have the id {record['id']}")


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
        for category in sorted(by_category.keys() - api.cats.keys(), key=str):
            yield unknown_pair(stem(image["file_name"]), path, storable(f"category {category}"))


def _add_region(pair: Pair, api: Any, annotations: list[Any], other_classes: bool) -> Pair:
    """The pair with the union of its objects, or one that will fail if one of them is broken."""
    try:
        for annotation in annotations:
            _check_mask(annotation["segmentation"], pair.width, pair.height)
        rle = coco_mask.merge([api.annToRLE(annotation) for annotation in annotations])
        boxes = tuple(_box(annotation["bbox"]) for annotation in annotations)
        area = int(coco_mask.area(rle))
    except Exception:  # pycocotools raises bare Exception; one broken mask must not cost the other pairs
        return Pair(pair.image_id, pair.path, pair.class_id, pair.class_name, known=False)
    height, width = rle["size"]
    return replace(
        pair,
        boxes=boxes,
        rle=rle["counts"].decode("ascii"),
        difficult=is_difficult(area, width, height, other_classes),
    )


def _check_mask(segmentation: Any, width: int | None, height: int | None) -> None:
    """Refuse what pycocotools misreads or dies of: it is C that believes its input.

    Four numbers are a box to it and not two points; it walks to a far point pixel by pixel; runs that are
    longer than the image are found when they are decoded, hours later.

    Raises:
        ValueError, TypeError, LookupError: the segmentation is neither polygons nor runs of that image.
    """
    if not (type(width) is type(height) is int and 0 < width * height <= MAX_PIXELS):
        raise ValueError("the image has no size")
    if isinstance(segmentation, dict):
        counts = segmentation["counts"]
        if list(segmentation["size"]) != [height, width]:
            raise ValueError("a mask of another size than its image")
        if not isinstance(counts, list):
            coco_mask.decode(segmentation)
        elif sum(counts) != width * height or any(type(n) is not int or n < 0 for n in counts):
            raise ValueError("the runs do not make up the image")
        return
    reach = 10 * max(width, height)
    for polygon in segmentation:
        if len(polygon) < 6 or len(polygon) % 2 or not all(abs(number) <= reach for number in polygon):
            raise ValueError("a polygon of less than three points, or far outside the image")


def _box(bbox: list[float]) -> Box:
    """Every pixel that x, y, width, height (in pixels, from 0) touches.

    Raises:
        ValueError: the width or height is negative.
    """
    x, y, w, h = bbox
    if w < 0 or h < 0:
        raise ValueError("a box of negative size")
    x0, y0 = math.floor(x), math.floor(y)
    return x0, y0, max(x0, math.ceil(x + w) - 1), max(y0, math.ceil(y + h) - 1)


COCO_LAYOUT = Layout("coco", open_coco, whole_images=True, multilabel=True)
