"""Datasets: pairs from tiny trees of every layout, messages for what is wrong, and the real subsets."""

import csv
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from pycocotools import mask as coco_mask

from extremal.pipeline.datasets.imagenet import imagenet_classes, imagenet_wnids
from extremal.pipeline.datasets.open import LAYOUTS, Pair, open_dataset
from extremal.pipeline.errors import DatasetError

WNIDS = imagenet_wnids()


def pairs_of(name: str, root: Path, split: str | None = None, **settings: Any) -> list[Pair]:
    return list(open_dataset(name, str(root), split, **settings).pairs())


def assert_images_stay_together(pairs: list[Pair]) -> None:
    order = [pair.image_id for pair in pairs]
    changes = sum(a != b for a, b in itertools.pairwise(order))
    assert changes == len(set(order)) - 1


# ---------------------------------------------------------------- VOC


def voc_object(name: str, box: tuple[float, ...], difficult: int = 0) -> str:
    keys = ("xmin", "ymin", "xmax", "ymax")
    edges = "".join(f"<{key}>{edge}</{key}>" for key, edge in zip(keys, box, strict=True))
    part = "<part><name>head</name><bndbox><xmin>1</xmin></bndbox></part>"
    head = f"<name>{name}</name><difficult>{difficult}</difficult>"
    return f"<object>{head}<bndbox>{edges}</bndbox>{part}</object>"


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    """VOCdevkit/VOC2007 with 100x80 images: a list in an order of its own, and the ways to be broken."""
    folder = tmp_path / "VOCdevkit" / "VOC2007"
    for name in ("Annotations", "ImageSets/Main", "JPEGImages"):
        (folder / name).mkdir(parents=True)
    annotations = {
        "000007": voc_object("person", (1, 1, 100, 80))
        + voc_object("dog", (11, 21, 30, 40))
        + voc_object("dog", (50.6, 1, 60, 10), difficult=1)
        + voc_object("cat", (5, 5, 6, 6), difficult=1),
        "000003": voc_object("unicorn", (1, 1, 2, 2)) + voc_object("bird", (1, 1, 20, 20)),
        "000002": "",
    }
    for image_id, objects in annotations.items():
        size = "<size><width>100</width><height>80</height></size>"
        (folder / f"Annotations/{image_id}.xml").write_text(f"<annotation>{size}{objects}</annotation>")
    (folder / "Annotations/000005.xml").write_text("<annotation><size>")
    (folder / "Annotations/000006.xml").write_text("<annotation/>")
    (folder / "ImageSets/Main/test.txt").write_text("000007\n000004\n000005\n000006\n000003\n000002\n\n")
    (folder / "ImageSets/Main/dog_test.txt").write_text("000007  1\n")
    return tmp_path


def test_voc_pairs(voc: Path) -> None:
    pairs = pairs_of("voc", voc, "test")
    known = [(p.image_id, p.class_name, p.class_id) for p in pairs if p.known]
    assert known == [
        ("000007", "cat", 7),
        ("000007", "dog", 11),
        ("000007", "person", 14),
        ("000003", "bird", 2),
    ]
    dog = pairs[1]
    assert dog.path == "VOCdevkit/VOC2007/JPEGImages/000007.jpg"
    assert (dog.width, dog.height, dog.rle) == (100, 80, None)
    assert dog.boxes == ((10, 20, 29, 39), (49, 0, 59, 9))
    assert [p.all_difficult for p in pairs[:3]] == [True, False, False]
    assert_images_stay_together(pairs)


def test_voc_broken_annotations_cost_only_their_image(voc: Path) -> None:
    unknown = [p for p in pairs_of("voc", voc, "test") if not p.known]
    broken = [("000004", ""), ("000005", ""), ("000006", "")]
    assert [(p.image_id, p.class_name) for p in unknown] == [*broken, ("000003", "unicorn")]
    assert all(p.class_id == -1 for p in unknown)


def test_voc_difficult_by_rule(voc: Path) -> None:
    difficult = {(p.image_id, p.class_name): p.difficult for p in pairs_of("voc", voc, "test") if p.known}
    # A dog on 500 of 8000 pixels beside a person; a person on all of them; a cat that is not scored at
    # all; a bird beside something, if only a unicorn.
    assert difficult == {
        ("000007", "cat"): False,
        ("000007", "dog"): True,
        ("000007", "person"): False,
        ("000003", "bird"): True,
    }


def test_voc_difficult_by_list(voc: Path) -> None:
    path = voc / "difficult.txt"
    path.write_text("000007\t" + "\t".join("1" if name == 14 else "0" for name in range(20)) + "\n")
    pairs = [p for p in pairs_of("voc", voc, "test", difficult_list=str(path)) if p.known]
    # 000003 is not in the list, so it counts as difficult.
    assert [p.difficult for p in pairs] == [False, False, True, True]
    path.write_text("000007\t1\t0\n")
    with pytest.raises(DatasetError, match=r"difficult.txt, line 1: .*20 flags"):
        open_dataset("voc", str(voc), "test", difficult_list=str(path))


@pytest.mark.parametrize("folder", ["", "VOCdevkit", "VOCdevkit/VOC2007"])
@pytest.mark.parametrize("split", ["test", "2007:test"])
def test_voc_root_may_be_any_of_its_folders(voc: Path, folder: str, split: str) -> None:
    (voc / "VOCdevkit/VOC2007/JPEGImages/000007.jpg").touch()
    dataset = open_dataset("voc", str(voc / folder), split)
    first = next(dataset.pairs())
    assert (Path(dataset.root) / first.path).is_file()


def test_voc_split_must_be_unambiguous(voc: Path) -> None:
    (voc / "VOCdevkit/VOC2012/ImageSets/Main").mkdir(parents=True)
    (voc / "VOCdevkit/VOC2012/ImageSets/Main/test.txt").touch()
    for split in ("test", None, "val", "2010:test"):
        with pytest.raises(DatasetError, match="choose one of: 2007:test, 2012:test"):
            open_dataset("voc", str(voc), split)
    assert pairs_of("voc", voc, "2012:test") == []


@pytest.mark.parametrize("image_id", ["../../../secret", "/etc/secret"])
def test_voc_list_stays_inside(voc: Path, image_id: str) -> None:
    (voc / "VOCdevkit/VOC2007/ImageSets/Main/test.txt").write_text(f"{image_id}\n")
    with pytest.raises(DatasetError, match=r"test\.txt: .*secret"):
        open_dataset("voc", str(voc), "test")


def test_voc_with_its_own_classes(voc: Path) -> None:
    (voc / "VOCdevkit/VOC2007/classes.txt").write_text("unicorn\ndog\n")
    dataset = open_dataset("voc", str(voc), "test")
    assert (dataset.classes, dataset.vocabulary) == (("unicorn", "dog"), "none")
    assert [p.class_name for p in dataset.pairs() if p.known] == ["dog", "unicorn"]


# ---------------------------------------------------------------- COCO

CATEGORIES = [{"id": 18, "name": "dog"}, {"id": 1, "name": "person"}, {"id": 90, "name": "toothbrush"}]


def coco_annotation(image: int, category: int, bbox: list[float], **more: Any) -> dict[str, Any]:
    x, y, w, h = bbox
    corners = [x, y, x + w, y, x + w, y + h, x, y + h]
    keys = {"image_id": image, "category_id": category, "iscrowd": 0}
    return keys | {"bbox": bbox, "segmentation": [corners]} | more


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    """annotations/instances_val2014.json of three 20x10 images and val2014/."""
    crowd = {"size": [10, 20], "counts": [0, 10, 190]}  # the first column
    annotations = [
        coco_annotation(9, 18, [2, 2, 4, 4]),
        coco_annotation(9, 18, [4, 4, 4, 4]),
        coco_annotation(9, 1, [5, 0, 15, 10]),
        coco_annotation(9, 1, [0, 0, 1, 10], segmentation=crowd, iscrowd=1),
        coco_annotation(9, 77, [0, 0, 1, 1]),
        coco_annotation(4, 90, [0.5, 0.5, 2.2, 1], segmentation="broken"),
        coco_annotation(4, 18, [0.5, 1.5, 2.2, 1]),
    ]
    data = {
        "images": [{"id": i, "file_name": f"x_{i}.jpg", "width": 20, "height": 10} for i in (9, 5, 4)],
        "annotations": [annotation | {"id": i} for i, annotation in enumerate(annotations, 1)],
        "categories": CATEGORIES,
    }
    (tmp_path / "annotations").mkdir()
    (tmp_path / "val2014").mkdir()
    (tmp_path / "annotations/instances_val2014.json").write_text(json.dumps(data))
    return tmp_path


def decode(pair: Pair) -> npt.NDArray[np.uint8]:
    assert pair.rle is not None
    encoded = {"size": [pair.height, pair.width], "counts": pair.rle.encode()}
    return np.asarray(coco_mask.decode(encoded))  # type: ignore[no-untyped-call]


def test_coco_pairs(coco: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pairs = pairs_of("coco", coco, "val2014")
    assert [(p.image_id, p.class_id, p.class_name) for p in pairs] == [
        ("x_4", 1, "dog"),
        ("x_4", 2, "toothbrush"),
        ("x_9", 0, "person"),
        ("x_9", 1, "dog"),
        ("x_9", -1, "category 77"),
    ]
    assert [p.known for p in pairs] == [True, False, True, True, False]
    assert {p.path for p in pairs} == {"val2014/x_4.jpg", "val2014/x_9.jpg"}
    assert capsys.readouterr().out == ""
    assert_images_stay_together(pairs)


def test_coco_regions(coco: Path) -> None:
    broken, _, person, dog, _ = pairs_of("coco", coco, "val2014")
    expected = np.zeros((10, 20), dtype=bool)
    expected[2:6, 2:6] = expected[4:8, 4:8] = True
    np.testing.assert_array_equal(decode(dog), expected)
    assert dog.boxes == ((2, 2, 5, 5), (4, 4, 7, 7))
    assert decode(person)[:, 0].all()  # crowds are ground truth too
    assert broken.boxes == ((0, 1, 2, 2),)  # every pixel that a box of fractions touches
    assert (dog.difficult, person.difficult) == (True, False)


def test_coco_errors(coco: Path) -> None:
    with pytest.raises(DatasetError, match=r"instances_val2017\.json; splits found: val2014"):
        open_dataset("coco", str(coco), "val2017")
    source = coco / "annotations/instances_val2014.json"
    text = source.read_text()
    source.write_text(text.replace("x_5.jpg", "../x_5.jpg"))
    with pytest.raises(DatasetError, match=r"instances_val2014\.json: '\.\./x_5\.jpg'"):
        open_dataset("coco", str(coco), "val2014")
    for broken in (text[:100], "[]", text.replace('"width"', '"w"')):
        source.write_text(broken)
        with pytest.raises(DatasetError, match=r"instances_val2014\.json: not a COCO"):
            open_dataset("coco", str(coco), "val2014")
    source.write_text(text)
    (coco / "val2014").rmdir()
    with pytest.raises(DatasetError, match="val2014: the folder of the images is missing"):
        open_dataset("coco", str(coco), "val2014")


# ---------------------------------------------------------------- ImageNet


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def test_imagenet_class_folders(tmp_path: Path) -> None:
    touch(tmp_path, f"val/{WNIDS[1]}/b.JPEG", f"val/{WNIDS[0]}/z.JPEG", f"val/{WNIDS[0]}/a.png")
    touch(tmp_path, f"val/{WNIDS[0]}/notes.txt", f"val/{WNIDS[0]}/._a.png", "val/unicorn/u.jpg", "val/x.jpg")
    pairs = pairs_of("imagenet", tmp_path, "val")
    assert [(p.image_id, p.class_id) for p in pairs] == [
        (f"val/{WNIDS[0]}/a", 0),
        (f"val/{WNIDS[0]}/z", 0),
        (f"val/{WNIDS[1]}/b", 1),
        ("val/unicorn/u", -1),
    ]
    assert pairs[0].class_name == imagenet_classes()[0] == "tench"
    assert [p.known for p in pairs] == [True, True, True, False]
    assert pairs_of("imagenet", tmp_path / "val")[0].path == f"{WNIDS[0]}/a.png"
    with pytest.raises(DatasetError, match="or a split out of: val"):
        open_dataset("imagenet", str(tmp_path))
    with pytest.raises(DatasetError, match="choose one of: val"):
        open_dataset("imagenet", str(tmp_path), "test")


def test_imagenet_labels_csv(tmp_path: Path) -> None:
    touch(tmp_path, "a.JPEG", "images/b.JPEG", "val/c.JPEG")
    rows = ["a.JPEG,999,", f"b.JPEG,{WNIDS[5]},x", f"c.JPEG,7,{WNIDS[7]}", "b.JPEG,1000,", "a.JPEG,-1,"]
    rows += [f"a.JPEG,3,{WNIDS[4]}", "gone.JPEG,3,"]
    (tmp_path / "labels.csv").write_text("\n".join(["file,label,wnid", *rows]))
    pairs = pairs_of("imagenet", tmp_path, "val")
    expected = [
        ("a", 999),
        ("images/b", -1),
        ("val/c", 7),
        ("images/b", -1),
        ("a", -1),
        ("a", -1),
        ("val/gone", 3),
    ]
    assert [(p.image_id, p.class_id) for p in pairs] == expected
    assert [p.known for p in pairs] == [p.class_id >= 0 for p in pairs]
    assert pairs[5].class_name == f"3 {WNIDS[4]}"  # the row contradicts itself: another order of classes


def test_imagenet_labels_plain(tmp_path: Path) -> None:
    touch(tmp_path, "a b.JPEG", "c.JPEG")
    labels = tmp_path / "val.txt"
    labels.write_text(f"a b.JPEG 65\n\nc.JPEG\t{WNIDS[970]}\n")
    pairs = pairs_of("imagenet", tmp_path, labels=str(labels))
    assert [(p.path, p.class_id) for p in pairs] == [("a b.JPEG", 65), ("c.JPEG", 970)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no labels"),
        ("image,class\na.JPEG,1\n", "its header is 'image,class'"),
        ("a.JPEG\n", "entry 1: 'a.JPEG' is not a file and a label"),
        ("file,label\n../a.JPEG,1\n", "is no name below"),
    ],
)
def test_imagenet_labels_errors(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(DatasetError, match=rf"labels\.csv.*{message}"):
        open_dataset("imagenet", str(tmp_path))


# ---------------------------------------------------------------- folder, and what all share


def test_folder(tmp_path: Path) -> None:
    touch(tmp_path, "b/z.jpg", "b/a/x.PNG", "c.webp", "a.jpg", "a.png", ".git/x.jpg", "readme.md")
    pairs = pairs_of("folder", tmp_path)
    assert [p.path for p in pairs] == ["a.jpg", "a.png", "c.webp", "b/z.jpg", "b/a/x.PNG"]
    assert len({p.image_id for p in pairs}) == 5
    assert {(p.class_id, p.class_name, p.known) for p in pairs} == {(-1, "", True)}
    assert {(p.class_id, p.class_name) for p in pairs_of("folder", tmp_path, target=5)} == {(5, "5")}


def test_settings_of_another_dataset_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="labels = 'x' is for the dataset imagenet, not coco"):
        open_dataset("coco", str(tmp_path), "val2014", labels="x")
    with pytest.raises(DatasetError, match="a folder has no splits"):
        open_dataset("folder", str(tmp_path), "val")
    with pytest.raises(DatasetError, match="from 0"):
        open_dataset("folder", str(tmp_path), target=-1)
    with pytest.raises(DatasetError, match="give a local folder as root"):
        open_dataset("shapes", "s3://bucket/shapes")
    with pytest.raises(DatasetError, match="unknown dataset 'cifar'; choose one of: imagenet, voc, coco"):
        open_dataset("cifar", str(tmp_path))


@pytest.mark.parametrize("name", [name for name in LAYOUTS if name != "shapes"])
def test_missing_or_empty_root(tmp_path: Path, name: str) -> None:
    split = "test" if name in ("voc", "coco") else None
    with pytest.raises(DatasetError, match="no such folder"):
        open_dataset(name, str(tmp_path / "absent"), split)
    with pytest.raises(DatasetError, match=str(tmp_path)):
        open_dataset(name, str(tmp_path), split)


# ---------------------------------------------------------------- the real subsets


def assert_files_exist(root: Path, pairs: list[Pair]) -> None:
    assert [p.path for p in pairs if not (root / p.path).is_file()] == []


def test_real_voc(shared_data: Path) -> None:
    dataset = open_dataset("voc", str(shared_data), "test")
    pairs = list(dataset.pairs())
    assert dataset.vocabulary == "voc"
    assert (len({p.image_id for p in pairs}), len(pairs)) == (35, 64)
    assert len(pairs) + len(pairs_of("voc", shared_data, "2007:trainval")) == 127
    assert all(p.known for p in pairs)
    assert list(dataset.pairs()) == pairs
    assert_files_exist(shared_data, pairs)


def test_real_voc_rule_agrees_with_the_games_list(shared_data: Path) -> None:
    path = shared_data / "pointing_game" / "voc07_difficult.txt"
    by_rule = pairs_of("voc", shared_data, "test")
    by_list = pairs_of("voc", shared_data, "test", difficult_list=str(path))
    assert sum(p.difficult for p in by_list) == 26
    assert by_rule == by_list


@pytest.mark.parametrize(("split", "images", "count"), [("val2014", 55, 161), ("train2017", 98, 291)])
def test_real_coco(shared_data: Path, split: str, images: int, count: int) -> None:
    dataset = open_dataset("coco", str(shared_data / "coco"), split)
    pairs = list(dataset.pairs())
    assert (dataset.vocabulary, len(dataset.classes)) == ("coco", 80)
    assert (len({p.image_id for p in pairs}), len(pairs)) == (images, count)
    assert all(p.known and p.rle for p in pairs)
    for pair in pairs:
        ys, xs = np.nonzero(decode(pair))
        edges = np.array(pair.boxes)
        hull = (*edges[:, :2].min(0), *edges[:, 2:].max(0))
        assert hull == (xs.min(), ys.min(), xs.max(), ys.max())
    assert_files_exist(shared_data / "coco", pairs)


def test_real_imagenet(shared_data: Path) -> None:
    root = shared_data / "imagenet"
    pairs = pairs_of("imagenet", root)
    with (root / "labels.csv").open(newline="") as lines:
        assert [p.class_id for p in pairs] == [int(row["label"]) for row in csv.DictReader(lines)]
    assert len(pairs) == len(pairs_of("folder", root)) == 500
    assert all(p.known for p in pairs)
    assert_files_exist(root, pairs)
