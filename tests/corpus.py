"""The corpus of bad input: each case makes one odd thing, and says what must come of it.

tests/test_corpus.py runs every case through the code that users run, and docs/generate.py makes the page
"Bad input" of them.
"""

import json
import os
import pickle
import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from io import BytesIO
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import nn

from extremal.pipeline.datasets.imagenet import imagenet_wnids
from extremal.pipeline.datasets.shapes import SHAPES
from extremal.workers.networks.shapes_cnn import shapes_cnn

SIDE = 40  # of the ordinary image, pixels
Maker = Callable[[Path], None]
Thing = TypeVar("Thing")


class Outcome(str, Enum):
    """What comes of a case, in the words of the page."""

    RESULT = "result"
    DECODE = "failure: decode"
    TARGET = "failure: target"
    LEFT_OUT = "left out"
    REFUSED = "refused"


@dataclass(frozen=True)
class Case(Generic[Thing]):
    """One bad thing, or one that only looks bad.

    Attributes:
        thing: what makes it, or what it is.
        shown: part of the message that the user gets; "" for what is no mistake.
        file: name of the file; "" = made from the name of the case.
        note: what becomes of it, for the readers of the page, where there is no message.
    """

    name: str
    outcome: Outcome
    thing: Thing
    shown: str = ""
    file: str = ""
    note: str = ""

    @property
    def slug(self) -> str:
        return "".join(letter if letter.isalnum() else "-" for letter in self.name)


def noise(width: int = SIDE, height: int = SIDE) -> Image.Image:
    pixels = np.random.default_rng(width * 7919 + height).integers(0, 256, (height, width, 3))
    return Image.fromarray(pixels.astype(np.uint8))


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    file = BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


# ---------------------------------------------------------------- images


def content(data: bytes) -> Maker:
    return lambda path: void(path.write_bytes(data))


def void(_: object) -> None:
    """Makes a lambda of a call that returns something."""


def saved(image: Image.Image, kind: str, **options: object) -> Maker:
    return content(encoded(image, kind, **options))


def half(image: Image.Image, kind: str, **options: object) -> Maker:
    data = encoded(image, kind, **options)
    return content(data[: len(data) // 2])


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(header: bytes, *chunks: bytes) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + png_chunk(b"IEND", b"")


def png_header(width: int, height: int) -> bytes:
    return png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))


def png_pixels(width: int, height: int) -> bytes:
    return png_chunk(b"IDAT", zlib.compress((b"\0" + b"\x40\x80\xc0" * width) * height))


def wrong_checksum() -> bytes:
    header = png_header(SIDE, SIDE)
    return png(header[:-4] + b"\0\0\0\0", png_pixels(SIDE, SIDE))


def top_down_bmp() -> bytes:
    """A bitmap of negative height, which is how the format says that its first row is the upper one."""
    pixels = np.asarray(noise())[..., ::-1].tobytes()
    size = struct.pack("<IiiHHIIiiII", 40, SIDE, -SIDE, 1, 24, 0, len(pixels), 2835, 2835, 0, 0)
    return struct.pack("<2sIHHI", b"BM", 54 + len(pixels), 0, 0, 54) + size + pixels


def transparent_palette() -> Image.Image:
    image = noise().quantize(8)
    image.info["transparency"] = bytes(range(0, 256, 32))
    return image


def rotated() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(noise(SIDE, SIDE // 2), "JPEG", exif=exif)


def frames() -> dict[str, Any]:
    return {"save_all": True, "append_images": [noise(SIDE, SIDE).rotate(90), noise().rotate(180)]}


def grey16() -> Image.Image:
    return Image.fromarray((np.asarray(noise())[..., 0].astype(np.uint16) << 8) + 7)


def forbidden(path: Path) -> None:
    path.write_bytes(encoded(noise(), "JPEG"))
    path.chmod(0)


VANISHES = "file that vanishes after planning"
FORBIDDEN = "file without read permission"
GOOD_IMAGES = {f"good-{kind}.{kind.lower()}": encoded(noise(), kind) for kind in ("JPEG", "PNG", "BMP")}

_UNKNOWN = "not an image, or of an unknown format"
_R, _D, _T, _L, _X = Outcome  # short, for the columns of the tables below

# fmt: off
IMAGES: Sequence[Case[Maker]] = (
    Case("truncated JPEG", _D, half(noise(), "JPEG"), "truncated"),
    Case("truncated progressive JPEG", _D, half(noise(), "JPEG", progressive=True), "truncated"),
    Case("empty file", _D, content(b""), "the file is empty"),
    Case("text named .jpg", _D, content(b"no picture\n"), _UNKNOWN),
    Case("HTML error page named .jpg", _D, content(b"<!DOCTYPE html><title>404</title>"), _UNKNOWN),
    Case("SVG named .png", _D, content(b"<svg xmlns='http://www.w3.org/2000/svg'/>"), _UNKNOWN, "svg.png"),
    Case("SVG", _L, content(b"<svg xmlns='http://www.w3.org/2000/svg'/>"), file="drawing.svg",
         note="not among the images: its suffix is not one of theirs"),
    Case("PNG named .jpg", _R, saved(noise(), "PNG"), note="the content decides, not the name"),
    Case("ICO named .png", _R, saved(noise(32, 32), "ICO"), file="icon.png",
         note="the content decides, not the name"),
    Case("CMYK JPEG", _R, saved(noise().convert("CMYK"), "JPEG"), note="converted to RGB"),
    Case("16-bit grey PNG", _R, saved(grey16(), "PNG"), file="grey16.png",
         note="scaled to 8 bits, not clipped"),
    Case("32-bit integer TIFF", _R, saved(grey16().convert("I"), "TIFF"), file="grey32.tif",
         note="taken as 16-bit grey, larger values clipped"),
    Case("1-bit PNG", _R, saved(noise().convert("1"), "PNG"), file="1-bit.png", note="converted to RGB"),
    Case("palette PNG", _R, saved(noise().quantize(8), "PNG"), file="palette.png", note="converted to RGB"),
    Case("palette PNG with transparency", _R, saved(transparent_palette(), "PNG"), file="palette-alpha.png",
         note="transparency is dropped"),
    Case("RGBA PNG", _R, saved(noise().convert("RGBA"), "PNG"), file="rgba.png",
         note="transparency is dropped"),
    Case("grey PNG with transparency", _R, saved(noise().convert("LA"), "PNG"), file="la.png",
         note="transparency is dropped"),
    Case("floating-point TIFF", _D, saved(noise().convert("F"), "TIFF"),
         "floating-point pixels have no defined range", "float.tif"),
    Case("Lab TIFF", _R, saved(Image.new("LAB", (SIDE, SIDE)), "TIFF"), file="lab.tif",
         note="converted to RGB"),
    Case("TIFF of several pages", _R, saved(noise(), "TIFF", **frames()), file="pages.tiff",
         note="the first page"),
    Case("animated GIF", _R, saved(noise(), "GIF", **frames()), file="animated.gif", note="the first frame"),
    Case("animated WebP", _R, saved(noise(), "WEBP", **frames()), file="animated.webp",
         note="the first frame"),
    Case("JPEG with EXIF rotation", _R, content(rotated()),
         note="the pixels as stored, not turned: boxes refer to those"),
    Case("JPEG with a broken colour profile", _R, saved(noise(), "JPEG", icc_profile=b"no profile" * 40),
         note="profiles are not read"),
    Case("JPEG with bytes after its end", _R, content(encoded(noise(), "JPEG") + b"\0rest" * 99),
         note="read to its end"),
    Case("BMP stored top-down", _R, content(top_down_bmp()), file="top-down.bmp", note="read like any other"),
    Case("PNG with a wrong checksum", _D, content(wrong_checksum()), "cannot be decoded", "crc.png"),
    Case("PNG with broken zlib data", _D,
         content(png(png_header(SIDE, SIDE), png_chunk(b"IDAT", b"no zlib" * 20))),
         "cannot be decoded", "zlib.png"),
    Case("PNG with a text that unpacks to 64 MB", _D,
         content(png(png_header(SIDE, SIDE), png_chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(2**26))),
                     png_pixels(SIDE, SIDE))),
         "cannot be decoded", "text.png"),
    Case("header of 60000x60000 pixels", _D, content(png(png_header(60000, 60000), png_pixels(9, 9))),
         "exceeds limit", "bomb.png"),
    Case("header of 12000x10000 pixels", _D, content(png(png_header(12000, 10000), png_pixels(9, 9))),
         "is over 89478485 pixels", "large.png"),
    Case("image of 1x1 pixel", _R, saved(noise(1, 1), "PNG"), file="1x1.png",
         note="enlarged to the network's input"),
    Case("image of 1x3000 pixels", _D, saved(noise(1, 3000), "PNG"), "too thin", "thin.png"),
    Case("image of one colour", _R, saved(Image.new("RGB", (SIDE, SIDE), (9, 99, 200)), "PNG"),
         file="blue.png", note="a mask without meaning, and no error"),
    Case("black image", _R, saved(Image.new("RGB", (SIDE, SIDE)), "JPEG"),
         note="a mask without meaning, and no error"),
    Case("name in Unicode", _R, saved(noise(), "JPEG"), file="ärger 猫 🐈.jpg", note="read like any other"),
    Case("name with spaces", _R, saved(noise(), "JPEG"), file="  a  b .jpg", note="read like any other"),
    Case("name with a line break", _R, saved(noise(), "JPEG"), file="two\nlines.jpg",
         note="read like any other"),
    Case("name with percent signs", _R, saved(noise(), "JPEG"), file="100%20%s%.jpg",
         note="read like any other"),
    Case("name with brackets", _R, saved(noise(), "JPEG"), file="[red]{0}*?.jpg", note="read like any other"),
    Case("name with quotes", _R, saved(noise(), "JPEG"), file="'a\"b\\.jpg", note="read like any other"),
    Case("name of 255 bytes", _R, saved(noise(), "JPEG"), file="x" * 251 + ".jpg",
         note="read like any other"),
    Case("name that is no UTF-8", _D, saved(noise(), "JPEG"), "no such file", os.fsdecode(b"caf\xe9.jpg")),
    Case("name that begins with a dot", _L, saved(noise(), "JPEG"), file="._resource.jpg",
         note="hidden files are no images"),
    Case("name without a suffix", _L, saved(noise(), "JPEG"), file="photo", note="not among the images"),
    Case("link to nothing", _D, lambda path: path.symlink_to("nowhere.jpg"), "no such file"),
    Case("link to itself", _D, lambda path: path.symlink_to(path.name), "symbolic links"),
    Case("folder named .jpg", _L, lambda path: path.mkdir(),
         note="a folder like any other: what lies in it is read"),
    Case("pipe named .jpg", _D, os.mkfifo, "not a regular file"),
    Case(FORBIDDEN, _D, forbidden, "Permission denied"),
    Case(VANISHES, _D, saved(noise(), "JPEG"), "no such file"),
)
# fmt: on


# ---------------------------------------------------------------- annotations of VOC


def voc_xml(
    box: Sequence[object] = (5, 5, 20, 20),
    name: str = SHAPES[0],
    size: Sequence[object] = (SIDE, SIDE),
    head: str = "",
    tail: str = "",
) -> str:
    keys = ("xmin", "ymin", "xmax", "ymax")
    corners = "".join(f"<{key}>{edge}</{key}>" for key, edge in zip(keys, box, strict=True))
    width, height = size
    return (
        f"{head}<annotation><size><width>{width}</width><height>{height}</height></size>"
        f"<object><name>{name}</name><bndbox>{corners}</bndbox></object>{tail}</annotation>"
    )


def xml_head(encoding: str) -> str:
    return f'<?xml version="1.0" encoding="{encoding}"?>'


def entity_bomb() -> str:
    """Nine entities, each ten times the one before: a gigabyte when it is read by a naive parser."""
    levels = "".join(f'<!ENTITY e{i} "{f"&e{i - 1};" * 10}">' for i in range(1, 10))
    return voc_xml(name="&e9;", head=f'<!DOCTYPE annotation [<!ENTITY e0 "boom">{levels}]>')


def external_entity() -> str:
    return voc_xml(name="&x;", head='<!DOCTYPE annotation [<!ENTITY x SYSTEM "../classes.txt">]>')


_NO_SIZE = voc_xml().replace("size", "extent")
_DEEP = "<part>" * 50_000 + "</part>" * 50_000
_BROKEN = "is missing or broken"

# fmt: off
VOC: Sequence[Case[str | bytes | None]] = (
    Case("annotation missing", _T, None, _BROKEN),
    Case("annotation empty", _T, "", _BROKEN),
    Case("annotation cut off", _T, voc_xml()[:90], _BROKEN),
    Case("annotation that is JSON", _T, "{}", _BROKEN),
    Case("annotation without a size", _T, _NO_SIZE, _BROKEN),
    Case("annotation of size 0", _T, voc_xml(size=(0, 0)), _BROKEN),
    Case("annotation of negative size", _T, voc_xml(size=(-SIDE, -SIDE)), _BROKEN),
    Case("annotation of enormous size", _D, voc_xml(size=(2 * 10**9, 2 * 10**9)), "made for 2000000000x"),
    Case("annotation of another size than the image", _D, voc_xml(size=(80, 60)), "made for 80x60"),
    Case("annotation without objects", _L, voc_xml().replace("object", "note"),
         note="an image without objects has no pair"),
    Case("box partly outside the image", _R, voc_xml((-4, 5, SIDE + 9, 20)), note="boxes may stick out"),
    Case("box beside the image", _T, voc_xml((SIDE + 5, 5, SIDE + 9, 20)), _BROKEN),
    Case("box with its corners exchanged", _T, voc_xml((20, 20, 5, 5)), _BROKEN),
    Case("box of fractions", _R, voc_xml((4.6, "5.5", 20.2, 20.9)), note="cut to whole pixels"),
    Case("box of enormous numbers", _T, voc_xml((5, 5, 10**30, 20)), _BROKEN),
    Case("box of NaN", _T, voc_xml((5, 5, "nan", 20)), _BROKEN),
    Case("box of infinity", _T, voc_xml((5, 5, "1e999", 20)), _BROKEN),
    Case("box of words", _T, voc_xml((5, 5, "twenty", 20)), _BROKEN),
    Case("box without a corner", _T, voc_xml().replace("xmax", "right"), _BROKEN),
    Case("unknown class", _T, voc_xml(name="dodecahedron"),
         "no network output stands for class 'dodecahedron'"),
    Case("object without a name", _T, voc_xml(name=""), _BROKEN),
    Case("entity bomb", _T, entity_bomb(), _BROKEN),
    Case("external entity", _T, external_entity(), _BROKEN),
    Case("annotation nested 50,000 deep", _R, voc_xml(tail=_DEEP), note="what is not asked for is not read"),
    Case("annotation in UTF-16", _R, voc_xml(head=xml_head("utf-16")).encode("utf-16"),
         note="encodings that the file names are understood"),
    Case("annotation in Latin-1 that does not say so", _T, voc_xml(name="é").encode("latin-1"), _BROKEN),
    Case("annotation in an unknown encoding", _T, voc_xml(head=xml_head("klingon")), _BROKEN),
)

# The list of the images, where "good" and "fine" are two that exist.
LISTS: Sequence[Case[bytes]] = (
    Case("list with empty lines", _R, b"\n\ngood\n   \nfine\n\n", note="they are skipped"),
    Case("list with an image twice", _R, b"good\nfine\ngood\n", note="it is one image"),
    Case("list with Windows line ends", _R, b"good\r\nfine\r\n", note="read like any other"),
    Case("list with a byte order mark", _R, b"\xef\xbb\xbfgood\nfine\n", note="the mark is skipped"),
    Case("list with a flag per image", _R, b"good  1\nfine -1\n", note="the first word is the name"),
    Case("list with an image that is nowhere", _T, b"good\nfine\nabsent\n", _BROKEN, "absent"),
    Case("list with a name of 300 letters", _T, b"good\nfine\n" + b"x" * 300, _BROKEN, "x" * 300),
    Case("list with a null character", _T, b"good\nfine\nnu\0ll\n", _BROKEN, "nu\0ll"),
    Case("list that climbs with ..", _X, b"good\n../../secret\n", "is no name below the dataset's folder"),
    Case("list with an absolute path", _X, b"good\n/etc/passwd\n", "is no name below the dataset's folder"),
    Case("list in Latin-1", _X, b"good\nb\xe4r\n", "restore the list or choose another split"),
    Case("empty list", _X, b"", "There is nothing to do"),
)
# fmt: on


# ---------------------------------------------------------------- annotations of COCO


def coco_entry(number: int) -> dict[str, Any]:
    """An image of COCO with one object, under the keys `image` and `annotations`."""
    image = {"id": number, "file_name": f"{number}.jpg", "width": SIDE, "height": SIDE}
    square = [5, 5, 20, 5, 20, 20, 5, 20]
    annotation = {
        "id": number,
        "image_id": number,
        "category_id": 1,
        "bbox": [5, 5, 15, 15],
        "iscrowd": 0,
        "segmentation": [square],
    }
    return {"image": image, "annotations": [annotation]}


def coco_text(*entries: dict[str, Any], **changes: Any) -> str:
    """The JSON of entries; a change of None takes a key away."""
    data = {
        "images": [entry["image"] for entry in entries],
        "annotations": [annotation for entry in entries for annotation in entry["annotations"]],
        "categories": [{"id": i, "name": name} for i, name in enumerate(SHAPES, 1)],
    }
    return json.dumps({key: value for key, value in (data | changes).items() if value is not None})


Mutation = Callable[[dict[str, Any]], object]


def annotated(**changes: Any) -> Mutation:
    return lambda entry: entry["annotations"][0].update(changes)


def pictured(**changes: Any) -> Mutation:
    return lambda entry: entry["image"].update(changes)


def runs(counts: object, side: int = SIDE) -> dict[str, Any]:
    return {"size": [side, side], "counts": counts}


_CIRCLE = "the annotation of 'circle' in"
_NOT_COCO = "not a COCO instances file"
_FAR = [[0, 0, 1e12, 0, 1e12, 1e12]]
_NAN = float("nan")
_GAP = coco_entry(1)["image"] | {"file_name": "2.jpg"}

# fmt: off
COCO: Sequence[Case[Mutation]] = (
    Case("crowd as runs", _R, annotated(segmentation=runs([0, 10, SIDE * SIDE - 10]), iscrowd=1),
         note="crowds are ground truth too"),
    Case("mask of another size than the image", _T, annotated(segmentation=runs([0, 100], 10)), _CIRCLE),
    Case("runs that do not fill the image", _T, annotated(segmentation=runs([0, 10])), _CIRCLE),
    Case("runs beyond the image", _T, annotated(segmentation=runs([0, 10**9])), _CIRCLE),
    Case("negative runs", _T, annotated(segmentation=runs([-10, SIDE * SIDE + 10])), _CIRCLE),
    Case("compressed runs that are garbage", _T, annotated(segmentation=runs("zzzz~~~~oooo")), _CIRCLE),
    Case("runs that are a number", _T, annotated(segmentation=runs(7)), _CIRCLE),
    Case("mask without polygons", _T, annotated(segmentation=[]), _CIRCLE),
    Case("empty polygon", _T, annotated(segmentation=[[]]), _CIRCLE),
    Case("polygon of two points", _T, annotated(segmentation=[[5, 5, 20, 20]]), _CIRCLE),
    Case("polygon with half a point", _T, annotated(segmentation=[[5, 5, 20, 5, 20, 20, 5]]), _CIRCLE),
    Case("polygon to a point very far away", _T, annotated(segmentation=_FAR), _CIRCLE),
    Case("polygon with NaN", _T, annotated(segmentation=[[5, 5, _NAN, 5, 20, 20]]), _CIRCLE),
    Case("polygon of words", _T, annotated(segmentation=[["a", "b", "c", "d", "e", "f"]]), _CIRCLE),
    Case("mask that is null", _T, annotated(segmentation=None), _CIRCLE),
    Case("mask left out", _T, lambda entry: entry["annotations"][0].pop("segmentation"), _CIRCLE),
    Case("bbox left out", _T, lambda entry: entry["annotations"][0].pop("bbox"), _CIRCLE),
    Case("bbox of negative size", _T, annotated(bbox=[20, 20, -15, -15]), _CIRCLE),
    Case("bbox with NaN", _T, annotated(bbox=[_NAN, 5, 15, 15]), _CIRCLE),
    Case("bbox of three numbers", _T, annotated(bbox=[5, 5, 15]), _CIRCLE),
    Case("unknown category", _T, annotated(category_id=99), "stands for class 'category 99'"),
    Case("category that is null", _T, annotated(category_id=None), "stands for class 'category None'"),
    Case("width that is a text", _T, pictured(width="40"), _CIRCLE),
    Case("width that is NaN", _T, pictured(width=_NAN), _CIRCLE),
    Case("height that is negative", _T, pictured(height=-SIDE), _CIRCLE),
    Case("size of two billion pixels", _T, pictured(width=50_000, height=40_000), _CIRCLE),
    Case("size of another image", _D, pictured(width=80, height=60), "made for 80x60"),
    Case("image file that is nowhere", _D, pictured(file_name="absent.jpg"), "no such file", "absent.jpg"),
    Case("annotation of an image that is not listed", _L, annotated(image_id=-7),
         note="no file is known for it, so there is no pair"),
)

COCO_FILES: Sequence[Case[str]] = (
    Case("COCO file that is no JSON", _X, "<html>404</html>", _NOT_COCO),
    Case("COCO file cut off", _X, coco_text(coco_entry(1))[:150], _NOT_COCO),
    Case("COCO file that is a list", _X, "[]", _NOT_COCO),
    Case("COCO file of brackets without end", _X, "[" * 200_000, _NOT_COCO),
    Case("COCO file without images", _X, coco_text(coco_entry(1), images=None), _NOT_COCO),
    Case("COCO file without categories", _X, coco_text(coco_entry(1), categories=None), _NOT_COCO),
    Case("COCO file without annotations", _X, coco_text(coco_entry(1), annotations=None),
         "There is nothing to do"),
    Case("COCO file with an annotation that is a number", _X, coco_text(coco_entry(1), annotations=[7]),
         _NOT_COCO),
    Case("COCO file with two images of one id", _X,
         coco_text(coco_entry(1), {"image": _GAP, "annotations": []}), "two entries have the id 1"),
    Case("COCO file with ids of two kinds", _X,
         coco_text(coco_entry(1), {"image": _GAP | {"id": "one"}, "annotations": []}), _NOT_COCO),
    Case("COCO file_name that climbs with ..", _X,
         coco_text({"image": _GAP | {"file_name": "../../etc/passwd"}, "annotations": []}),
         "is no name below the dataset's folder"),
    Case("COCO file_name that is a number", _X,
         coco_text({"image": _GAP | {"file_name": 7}, "annotations": []}), "file_name is 7, not a text"),
    Case("COCO file_name with half a character", _X,
         coco_text({"image": _GAP | {"file_name": "\ud83d.jpg"}, "annotations": []}), "not a text"),
)


# ---------------------------------------------------------------- labels of ImageNet

WNIDS = imagenet_wnids()

# A row of labels.csv beside good ones.
LABELS: Sequence[Case[str]] = (
    Case("label 1000", _T, "odd.jpg,1000,", "no network output stands for class '1000'", "odd.jpg"),
    Case("label -1", _T, "odd.jpg,-1,", "no network output stands for class '-1'", "odd.jpg"),
    Case("label that is a word", _T, "odd.jpg,dog,", "no network output stands for class 'dog'", "odd.jpg"),
    Case("label of five thousand digits", _T, f"odd.jpg,{'9' * 5000},", "no network output stands",
         "odd.jpg"),
    Case("label left out", _T, "odd.jpg", "is missing or broken", "odd.jpg"),
    Case("label that contradicts its wnid", _T, f"odd.jpg,3,{WNIDS[4]}",
         f"no network output stands for class '3 {WNIDS[4]}'", "odd.jpg"),
    Case("row with more columns", _R, "odd.jpg,3,,x,y,z", file="odd.jpg", note="they are ignored"),
    Case("labelled file that is nowhere", _D, "absent.jpg,3,", "no such file", "absent.jpg"),
    Case("labelled file with a name of 300 letters", _D, "x" * 300 + ".jpg,3,", "File name too long",
         "x" * 300 + ".jpg"),
)

LABEL_FILES: Sequence[Case[bytes]] = (
    Case("labels with a byte order mark", _R, b"\xef\xbb\xbffile,label\ngood.jpg,1\n",
         note="the mark is skipped"),
    Case("labels with Windows line ends", _R, b"file,label\r\ngood.jpg,1\r\n", note="read like any other"),
    Case("labels with a comma in a name", _R, b'file,label\n"go,od.jpg",1\ngood.jpg,1\n',
         note="a quoted name"),
    Case("labels without a header", _X, b"good.jpg,1\n", "write a CSV with the header file,label"),
    Case("labels with other columns", _X, b"image,class\ngood.jpg,1\n", "write a CSV with the header"),
    Case("labels in Latin-1", _X, b"file,label\nb\xe4r.jpg,1\n", "write a CSV with the header"),
    Case("labels with a quote that is not closed", _X, b'file,label\n"good.jpg,1\nfine.jpg,2\n',
         "a quote is not closed"),
    Case("labels with a field of 200,000 letters", _X, b"file,label\n" + b"x" * 200_000 + b",1\n",
         "field larger than field limit"),
    Case("labels with a path outside", _X, b"file,label\n../good.jpg,1\n", "is no name below the dataset's"),
    Case("labels without a file name", _X, b"file,label\n,1\n", "is no name below the dataset's folder"),
    Case("empty labels", _X, b"", "no labels"),
)
# fmt: on


# ---------------------------------------------------------------- weights


class Touch:
    """An object whose unpickling creates a file: what a hostile checkpoint would do with any command."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (self.path, "w")


def proof(path: Path) -> Path:
    """The file that exists if the code in the checkpoint at `path` ran."""
    return path.with_suffix(".ran")


def state(**changes: torch.Tensor) -> dict[str, torch.Tensor]:
    return dict(shapes_cnn().state_dict()) | changes


def stored(thing: object) -> Maker:
    return lambda path: torch.save(thing, path)


def cut_weights(path: Path) -> None:
    torch.save(state(), path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])


def hostile(path: Path) -> None:
    path.write_bytes(pickle.dumps(Touch(proof(path)), protocol=2))


def hostile_zip(path: Path) -> None:
    torch.save({"fc.weight": Touch(proof(path))}, path)


_FC = state()["fc.weight"]
_CORRUPT = "corrupt, or not a file of torch.save"
_CODE = "refused because loading them could run code"
_NO_STATE = "not a state dict"

# fmt: off
WEIGHTS: Sequence[Case[Maker]] = (
    Case("weights missing", _X, lambda path: None, "no such file"),
    Case("weights that are a folder", _X, lambda path: path.mkdir(), "no such file"),
    Case("weights that are a pipe", _X, os.mkfifo, "no such file"),
    Case("weights empty", _X, content(b""), "truncated or corrupt"),
    Case("weights cut off", _X, cut_weights, "truncated or corrupt"),
    Case("weights that are an HTML page", _X, content(b"<html>404</html>"), _CORRUPT),
    Case("weights that are a text", _X, content(b"hello there\n" * 99), "corrupt"),
    Case("weights in safetensors", _X, content(b"\x02\0\0\0\0\0\0\0??"),
         "does not read the safetensors file", "weights.safetensors"),
    Case("pickle that runs code", _X, hostile, _CODE),
    Case("checkpoint that runs code", _X, hostile_zip, _CODE),
    Case("whole module pickled", _X, stored(nn.Linear(2, 2)), _CODE),
    Case("weights in a list", _X, stored([_FC]), _NO_STATE),
    Case("weights that are numbers", _X, stored({"fc.weight": 1.0}), _NO_STATE),
    Case("weights nested twice", _X, stored({"net": {"state": state()}}), _NO_STATE),
    Case("weights of no layer", _X, stored({}), _NO_STATE),
    Case("weights of another network", _X, stored(nn.Linear(2, 2).state_dict()), "does not fit ShapesCNN"),
    Case("weights of another shape", _X, stored(state(**{"fc.weight": torch.zeros(6, 3)})),
         "fc.weight is (6, 3), not (6, 128)"),
    Case("sparse weights", _X, stored(state(**{"fc.weight": _FC.to_sparse()})),
         "save it again after .to_dense()"),
    Case("weights without numbers (meta)", _X, stored(state(**{"fc.weight": _FC.to("meta")})),
         "save the real weights"),
    Case("complex weights", _X, stored(state(**{"fc.weight": _FC.to(torch.complex64)})),
         "holds complex numbers"),
    Case("NaN weights", _X, stored(state(**{"fc.weight": _FC * float("nan")})), "holds NaN"),
    Case("half-precision weights", _R, stored({key: value.half() for key, value in state().items()}),
         note="converted to float32"),
)
# fmt: on


# ---------------------------------------------------------------- networks of the user

NETWORKS_FILE = """
import sys
import torch
from torch import nn
from extremal.workers import Preprocess

class Plain(nn.Module):
    preprocess = Preprocess(resize=32, crop=32, mean=(0.5,) * 3, std=(0.5,) * 3)
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 5)
    def forward(self, x):
        return self.conv(x).abs().mean((2, 3))

def changed(**attributes):
    network = Plain()
    for name, value in attributes.items():
        setattr(network, name, value)
    return network

class Exits(Plain):
    def forward(self, x):
        sys.exit("no images today")

class Three(Plain):
    def forward(self, x):
        return self.conv(x).flatten(2)

class Nothing(Plain):
    def forward(self, x):
        return {"logits": super().forward(x)}

"""
_FREEZE = "return a plain nn.Module in float32"

# fmt: off
NETWORKS: Sequence[Case[str]] = (
    Case("network that ends the program", _X, "sys.exit('no licence')", "SystemExit: no licence"),
    Case("network that ends the program on an image", _X, "return Exits()", "no images today"),
    Case("network that raises", _X, "raise OSError('no weights here')", "OSError: no weights here"),
    Case("network that is None", _X, "pass", "must return an nn.Module, not NoneType"),
    Case("network that is a class", _X, "return Plain", "must return an nn.Module, not type"),
    Case("network with a lazy layer", _X, "return changed(conv=nn.LazyConv2d(3, 5))", "has no shape yet"),
    Case("network on the meta device", _X, "return Plain().to('meta')", _FREEZE),
    Case("network of float16", _X, "return Plain().half()", "converted with .float()"),
    Case("network that returns a dict", _X, "return Nothing()", "must return a tensor (B, C)"),
    Case("network that returns three dimensions", _X, "return Three()", "must return a tensor (B, C)"),
    Case("network with numbers for classes", _X, "return changed(classes=[1, 2, 3])",
         "must be a list of names"),
    Case("network with too few classes", _X, "return changed(classes=['a'])", "names 1 classes"),
    Case("network with a preprocess of its own kind", _X, "return changed(preprocess=len)",
         "must be a extremal.workers.images.Preprocess"),
    Case("network from torch.jit.script", _X, "return torch.jit.script(Plain())", _FREEZE),
    Case("network from torch.jit.trace", _R, "return torch.jit.trace(Plain(), torch.rand(1, 3, 32, 32))",
         note="spatial masks; its layers cannot be cut for channels"),
)


# ---------------------------------------------------------------- configurations and flags

TOML: Sequence[Case[str | bytes]] = (
    Case("TOML cut off", _X, "[spatial\n", "is not valid TOML"),
    Case("TOML in UTF-16", _X, "batch = 2\n".encode("utf-16"), "is not valid TOML"),
    Case("TOML of brackets without end", _X, "batch = " + "[" * 100_000, "is not valid TOML"),
    Case("TOML with a number of 5000 digits", _X, "batch = " + "9" * 5000, "is not valid TOML"),
    Case("TOML with a key twice", _X, "batch = 2\nbatch = 3\n", "is not valid TOML"),
    Case("unknown key", _X, "[spatial]\nareaz = [0.1]\n", "spatial.areaz"),
    Case("unknown section", _X, "[colour]\nred = 1\n", "colour"),
    Case("word for a number", _X, "batch = 'many'\n", "batch: Input should be a valid integer"),
    Case("date for a number", _X, "batch = 2020-01-01\n", "batch: Input should be a valid integer"),
    Case("fraction for a whole number", _X, "batch = 2.5\n", "batch: Input should be a valid integer"),
    Case("NaN", _X, "[spatial]\ntau = nan\n", "spatial.tau must be a finite number"),
    Case("NaN in quotes", _X, "[spatial]\ntau = 'nan'\n", "spatial.tau must be a finite number"),
    Case("infinity", _X, "[spatial.schedule]\nlr = inf\n", "spatial.schedule.lr must be a finite number"),
    Case("negative number", _X, "[spatial]\nsmooth = -1.0\n", "must not be negative"),
    Case("value where a section belongs", _X, "network = 'vgg16'\n", "network must be a table"),
    Case("section where a value belongs", _X, "[batch]\nsize = 3\n",
         "batch: Input should be a valid integer"),
    Case("list of sections", _X, "[[spatial]]\ntau = 1.0\n", "spatial must be a table"),
    Case("no areas", _X, "[spatial]\nareas = []\n", "areas must be ascending fractions"),
    Case("areas that descend", _X, "[spatial]\nareas = [0.2, 0.1]\n", "areas must be ascending fractions"),
    Case("area 0", _X, "[spatial]\nareas = [0.0, 0.1]\n", "areas must be ascending fractions"),
    Case("area over 1", _X, "[spatial]\nareas = [0.1, 1.5]\n", "areas must be ascending fractions"),
    Case("unknown preset in a file", _X, "preset = 'slow'\n", "preset must be fast, torchray or paper"),
    Case("preset that is a number", _X, "preset = 3\n", "preset must be fast, torchray or paper"),
    Case("mask step over sigma", _X, "[spatial.mask]\nstep = 64\n", "must be at most sigma"),
    Case("sigma 0", _X, "[spatial.mask]\nsigma = 0.0\n", "sigma and inverse_temperature must be positive"),
    Case("std 0", _X, "[network]\nstd = [0.5, 0.0, 0.5]\n", "std must be positive"),
    Case("mean of two numbers", _X, "[network]\nmean = [0.5, 0.5]\n", "network.mean"),
    Case("limit 0 in a file", _X, "[dataset]\nlimit = 0\n", "limit must be at least 1"),
    Case("limit of thirty digits", _X, f"[dataset]\nlimit = {10**30}\n", "limit must be at least 1 and less"),
    Case("method as a list", _X, "method = ['spatial']\n", "There is no method"),
    Case("saliency as a text", _X, "method = 'grad_cam'\nsaliency = 'x'\n", "saliency must be a table"),
    Case("inversion as a text", _X, "method = 'inversion'\ninversion = 'x'\n", "inversion must be a table"),
)

# Added to a command that is right.
FLAGS: Sequence[Case[Sequence[str]]] = (
    Case("config file missing", _X, ("--config", "absent.toml"), "Cannot read the config file absent.toml"),
    Case("config that is a folder", _X, ("--config", "."), "Cannot read the config file"),
    Case("unknown dataset", _X, ("--dataset", "cifar"), "dataset.name: Input should be 'imagenet', 'voc'"),
    Case("unknown network", _X, ("--network", "resnet5O"), "close: resnet50"),
    Case("network of an absent module", _X, ("--network", "absent_module:f"), "ModuleNotFoundError"),
    Case("unknown method", _X, ("--method", "guess"), "There is no method 'guess' to compare"),
    Case("unknown layer", _X, ("--method", "channel", "--layer", "block9"), "has no layer 'block9'; close:"),
    Case("unknown game", _X, ("--game", "chess"), "spatial.game: Input should be 'preserve'"),
    Case("unknown preset", _X, ("--preset", "slow"), "preset must be fast, torchray or paper"),
    Case("unknown device", _X, ("--device", "tpu"), "--device is cpu, cuda or cuda:N, not 'tpu'"),
    Case("unknown precision", _X, ("--precision", "fp8"), "precision: Input should be 'float32' or 'bf16'"),
    Case("unknown flag", _X, ("--area", "0.1"), "No such option"),
    Case("root that is nowhere", _X, ("--root", "absent"), "no such folder"),
    Case("root that is a file", _X, ("--root", "images/good-PNG.png"), "no such folder"),
    Case("root without images", _X, ("--root", "empty"), "no images found"),
    Case("root left empty", _X, ("--root", ""), "Give the folder of the dataset: --root DIR"),
    Case("out that is a file", _X, ("--out", "images/good-PNG.png"), "Cannot write the run directory"),
    Case("out on an unknown kind of store", _X, ("--out", "gopher://host/run"), "is no place for a run"),
    Case("split of a folder", _X, ("--split", "test"), "a folder has no splits"),
    Case("labels for a folder", _X, ("--labels", "x.csv"), "is for the dataset imagenet, not folder"),
    Case("target beyond the outputs", _X, ("--target", "6"), "has outputs 0 to 5"),
    Case("target -1", _X, ("--target", "-1"), "from 0"),
    Case("limit 0", _X, ("--limit", "0"), "limit must be at least 1"),
    Case("batch 0", _X, ("--batch", "0"), "batch must be at least 1"),
    Case("slots 0", _X, ("--slots", "0"), "slots must be at least 1"),
    Case("shard size 0", _X, ("--shard-size", "0"), "shard_size must be at least 1"),
    Case("threads 0", _X, ("--threads", "0"), "threads must be at least 1"),
    Case("actors 0", _X, ("--actors", "0"), "Invalid value"),
    Case("steps 0", _X, ("--steps", "0"), "steps must be at least 1"),
    Case("seed -1", _X, ("--seed", "-1"), "seed must not be negative"),
    Case("word for a flag's number", _X, ("--batch", "many"), "Invalid value"),
    Case("resize 0", _X, ("--resize", "0"), "resize must be between 1 and 2896 pixels"),
    Case("resize 1000000", _X, ("--resize", "1000000"), "resize must be between 1 and 2896 pixels"),
    Case("crop over resize", _X, ("--crop", "300"), "must be between 1 and resize"),
    Case("crop -1", _X, ("--crop", "-1"), "must be between 1 and resize"),
    Case("areas that are words", _X, ("--areas", "0.1,lots"), "--areas takes numbers separated by commas"),
    Case("areas left empty", _X, ("--areas", ""), "areas must be ascending fractions"),
    Case("areas of NaN", _X, ("--areas", "nan"), "spatial.areas must be a finite number"),
    Case("counts that are fractions", _X, ("--counts", "1.5"), "--counts takes numbers separated by commas"),
    Case("counts over the channels", _X, ("--method", "channel", "--layer", "block4", "--counts", "1,999"),
         "has 128 channels"),
)
# fmt: on

# Title on the page -> its cases.
ALL: Mapping[str, Sequence[Case[Any]]] = {
    "Images": IMAGES,
    "Annotations: VOC": VOC,
    "Lists of images: VOC": LISTS,
    "Annotations: COCO": COCO,
    "The COCO file": COCO_FILES,
    "Rows of labels.csv": LABELS,
    "labels.csv": LABEL_FILES,
    "Weights": WEIGHTS,
    "Networks of your own (`--network module:function`)": NETWORKS,
    "Configuration files": TOML,
    "Flags": FLAGS,
}
