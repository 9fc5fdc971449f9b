"""A report's site made by hand, as the pages expect it: small, with hostile names, drawn from a seed."""

import json
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from PIL import Image

from extremal.jobs.report.pages.browser import browser_files

HOSTILE = "</script><img src=x onerror=alert(1)>\"'&`"
CLASSES = ["aeroplane", HOSTILE, "tabby, tabby cat"]
METHODS = ["center", "extremal", "grad_cam"]
AREAS = [0.05, 0.1, 0.2, 0.4, 0.6, 0.8]
WIDTH, HEIGHT, CELLS, CHANNELS = 300, 200, (14, 20), 512
CHUNK, PER_FILE = 5000, 20

Value = dict[str, Any]


def write_data(folder: Path, name: str, value: Value) -> None:
    """data/NAME.js: one statement that hands the value to the page."""
    text = json.dumps(value, allow_nan=False).replace("<", "\\u003c")
    path = folder / "data" / f"{name}.js"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'extremal.put("{name}", {text});')


def write_browser_files(folder: Path) -> None:
    """Pages, scripts and style."""
    folder.mkdir(parents=True)
    for name, content in browser_files().items():
        (folder / name).write_bytes(content)


def numbered(folder: Path, kind: str, number: int, ending: str) -> Path:
    path = folder / kind / f"{number // 1000:03d}" / f"{number:06d}.{ending}"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def image_id(pair: int) -> str:
    return HOSTILE if pair == 1 else f"2007_{pair:06d}"


def table(title: str, columns: list[str], rows: list[list[str]], note: str = "") -> Value:
    labels = [{"label": label, "number": rows[0][i][0].isdigit()} for i, label in enumerate(columns)]
    return {"id": title, "title": title, "note": note, "columns": labels, "rows": rows}


def overview(pairs: int, classes: list[str], counts: Value, chunk: int) -> Value:
    scores = [["center", "61.2% of 412", "58.9 to 64.1"], ["extremal", "88.0% of 412", "84.5 to 91.0"]]
    return {
        "title": "voc 2007 test, vgg16, extremal",
        "kind": "spatial",
        "made": "2026-11-22 03:00 UTC, extremal 0.1.0",
        "runs": [
            {
                "place": "runs/voc",
                "kind": "spatial",
                "network": "vgg16",
                "dataset": "voc 2007:test",
                "complete": True,
            },
            {
                "place": f"runs/{HOSTILE}",
                "kind": "saliency",
                "network": "vgg16",
                "dataset": "voc",
                "complete": False,
            },
        ],
        "facts": [
            ["network", "vgg16, weights of 0000aaaa"],
            ["dataset", HOSTILE],
            ["precision", "float32"],
            ["seed", "0"],
        ],
        "counts": counts,
        "tables": [
            table("Pointing game", ["method", "accuracy", "95% interval"], scores, "Tolerance 15 px.")
        ],
        "failures": table("Failures", ["image", "stage", "error"], [[HOSTILE, "decode", HOSTILE]], "1 of 1."),
        "config": {"network": {"name": "vgg16"}, "note": HOSTILE},
        "methods": METHODS,
        "classes": classes,
        "class_sizes": [pairs // len(classes)] * len(classes),
        "pairs": pairs,
        "chunk": chunk,
        "per_file": PER_FILE,
        "size_label": "area",
        "has": {"classes": True, "pictures": True},
    }


def index(generator: np.random.Generator, pairs: int, classes: int, pictures: int) -> Value:
    """All columns of the index over all pairs; pair 0 is a result, 2 failed, 3 is missing."""

    def numbers(scale: float, unknown: float) -> list[float | None]:
        values = generator.random(pairs) * scale
        return [
            None if gone else round(float(v), 4)
            for v, gone in zip(values, generator.random(pairs) < unknown, strict=True)
        ]

    state = generator.choice(list("rrrrrrfm"), pairs)
    state[:4] = list("rrfm")
    stars = generator.choice([*AREAS, np.nan], pairs)
    hits = {method: "".join(generator.choice(list("hhhmmsn"), pairs)) for method in METHODS}
    far = {
        m: [
            round(d, 1) if h == "m" else 0.0 if h == "h" else None
            for h, d in zip(hits[m], generator.random(pairs) * 150, strict=True)
        ]
        for m in METHODS
    }
    return {
        "class": [i % classes for i in range(pairs)],
        "image": [image_id(i) for i in range(pairs)],
        "state": "".join(state),
        "a_star": [
            float(a) if s == "r" and not np.isnan(a) else None for a, s in zip(stars, state, strict=True)
        ],
        "kept": numbers(1, 0.1),
        "hits": hits,
        "distance": far,
        "disagreement": numbers(1, 0.2),
        "picture": [i % pictures if i % 10 != 9 else -1 for i in range(pairs)],
        "swept": "".join("1" if s == "r" else "0" for s in state),
        "aspect": [WIDTH / HEIGHT if i % 10 != 9 else None for i in range(pairs)],
    }


def cut(columns: Value, start: int, end: int) -> Value:
    """A chunk of the index: the same columns, rows start to end."""

    def part(value: Any) -> Any:
        return {k: v[start:end] for k, v in value.items()} if isinstance(value, dict) else value[start:end]

    return {"start": start, **{name: part(value) for name, value in columns.items()}}


def pair_row(pair: int, columns: Value, classes: list[str]) -> Value:
    result = columns["state"][pair] == "r"
    tiles = [
        {
            "label": f"area {a}",
            "group": "masks",
            "method": "extremal",
            "size": a,
            "score": 0.9 * a**0.3,
            "deleted": 0.9 - a,
        }
        for a in AREAS
    ]
    tiles.append(
        {
            "label": "grad_cam",
            "group": "maps",
            "method": "grad_cam",
            "size": None,
            "score": None,
            "deleted": None,
        }
    )
    curve = {
        "title": "extremal",
        "label": "area",
        "sizes": AREAS,
        "series": [
            {"name": "preserve", "scores": [0.9 * a**0.3 for a in AREAS]},
            {"name": "delete", "scores": [0.8 * (1 - a) ** 2 for a in AREAS[:-1]] + [None]},
        ],
        "full": 0.84,
        "perturbed": 0.01,
        "a_star": columns["a_star"][pair],
    }
    return {
        "pair": pair,
        "image_id": columns["image"][pair],
        "path": f"JPEGImages/{columns['image'][pair]}.jpg",
        "class": columns["class"][pair],
        "class_name": classes[columns["class"][pair]],
        "target": 404,
        "target_name": HOSTILE if pair == 1 else "airliner",
        "width": WIDTH,
        "height": HEIGHT,
        "picture": columns["picture"][pair],
        "region": [50, 0, 250, 200],
        "strip": {"cells": list(CELLS), "tiles": tiles} if result else None,
        "boxes": [[60, 40, 199, 159]],
        "points": [
            {
                "method": m,
                "x": 90 + 45 * i,
                "y": 70 + 25 * i,
                "outcome": columns["hits"][m][pair],
                "distance": columns["distance"][m][pair],
            }
            for i, m in enumerate(METHODS)
        ]
        if result
        else [],
        "curves": [curve] if result else [],
        "numbers": [["steps", "800"], ["seconds", "3.2"]],
        "inversion": {
            "whole": "channels/00000.png",
            "masked": "channels/00001.png",
            "numbers": [["cosine, whole", "0.91"]],
        }
        if pair == 0
        else None,
        "failure": {"stage": "decode", "error_type": "OSError", "error": HOSTILE}
        if columns["state"][pair] == "f"
        else None,
    }


def strip(generator: np.random.Generator, path: Path) -> None:
    """Smooth maps in viridis, the low parts transparent, one below the other with a border of one cell."""
    rows, columns = CELLS
    y, x = np.mgrid[:rows, :columns]
    cy, cx = generator.uniform(4, 10), generator.uniform(6, 14)
    tiles = []
    for area in [*AREAS, 0.3]:
        radius = np.sqrt(area * rows * columns / np.pi)
        mask = 1 / (1 + np.exp(np.hypot(y - cy, x - cx) - radius))
        colours = colormaps["viridis"](mask)
        colours[..., 3] = mask
        tiles.append(np.pad(colours, ((1, 1), (1, 1), (0, 0)), mode="edge"))
    Image.fromarray((np.concatenate(tiles) * 255).astype(np.uint8)).save(path)


def picture(generator: np.random.Generator, width: int, height: int) -> Image.Image:
    """A soft picture: random colours on a coarse grid, enlarged."""
    coarse = Image.fromarray(generator.integers(40, 220, (5, 7, 3), dtype=np.uint8))
    return coarse.resize((width, height), Image.Resampling.BICUBIC)


def class_rows(columns: Value, classes: list[str]) -> Value:
    rows = []
    for c, name in enumerate(classes):
        mine = [i for i, k in enumerate(columns["class"]) if k == c]
        hits = {m: [sum(columns["hits"][m][i] == letter for i in mine) for letter in "hm"] for m in METHODS}
        stars = [columns["a_star"][i] for i in mine if columns["a_star"][i] is not None]
        rows.append(
            {
                "class": c,
                "name": name,
                "pairs": len(mine),
                "results": sum(columns["state"][i] == "r" for i in mine),
                "failed": sum(columns["state"][i] == "f" for i in mine),
                "mean_a_star": sum(stars) / len(stars) if stars else None,
                "no_a_star": len(mine) - len(stars),
                "hits": hits,
                "top": [3, 77],
                "specific": [77, 400 + c],
            }
        )
    closest = table("Closest classes", ["class", "closest", "cosine"], [[classes[0], HOSTILE, "0.93"]])
    return {
        "classes": rows,
        "similarity": {
            "image": "similarity.png",
            "order": list(range(len(classes))),
            "closest": closest,
            "note": "Cosine.",
        },
        "ablation": table(
            "Ablation", ["class", "own drop", "others", "null"], [[HOSTILE, "0.41", "0.05", "0.02"]]
        ),
    }


def class_page(generator: np.random.Generator, columns: Value, c: int, name: str) -> Value:
    mine = [i for i, k in enumerate(columns["class"]) if k == c]
    stars = [columns["a_star"][i] for i in mine if columns["state"][i] == "r"]
    mask = np.round(generator.beta(0.3, 3, CHANNELS), 4).tolist()
    mask[3], mask[77] = 0.93, 0.88
    example = {"pair": mine[0], "class_name": name, "image": "pictures/000/000000.jpg", "activation": 12.5}
    hidden = {**example, "image": None, "pair": mine[1]}
    return {
        "class": c,
        "name": name,
        "pairs": mine[:60],
        "total": len(mine),
        "layer": "features.29",
        "a_star": {
            "label": "area",
            "sizes": AREAS,
            "counts": [stars.count(a) for a in AREAS],
            "none": stars.count(None),
        },
        "mean_mask": mask,
        "channels": [
            {
                "channel": 3,
                "kind": "top",
                "value": mask[3],
                "picture": "channels/00000.png",
                "examples": [example, hidden],
            },
            {"channel": 77, "kind": "specific", "value": mask[77], "picture": None, "examples": []},
        ],
    }


def make_site(folder: Path, pairs: int = 90, chunk: int = 50) -> Value:
    """Writes a whole site: pages, data and pictures; returns the columns of its index."""
    generator = np.random.default_rng(0)
    write_browser_files(folder)
    columns = index(generator, pairs, len(CLASSES), 6)
    states = columns["state"]
    counts = {
        "pairs": pairs,
        "results": states.count("r"),
        "failed": states.count("f"),
        "missing": states.count("m"),
    }
    write_data(folder, "overview", overview(pairs, CLASSES, counts, chunk))
    for i, start in enumerate(range(0, pairs, chunk)):
        write_data(folder, f"index-{i:03d}", cut(columns, start, start + chunk))
    for i, start in enumerate(range(0, pairs, PER_FILE)):
        some = [pair_row(p, columns, CLASSES) for p in range(start, min(start + PER_FILE, pairs))]
        write_data(folder, f"pairs/{i:05d}", {"start": start, "pairs": some})
    for pair in range(pairs):
        if states[pair] == "r":
            strip(generator, numbered(folder, "strips", pair, "png"))
    for number in range(6):
        picture(generator, 336, 224).save(numbered(folder, "pictures", number, "jpg"))
    (folder / "channels").mkdir()
    for k in range(2):
        picture(generator, 160, 160).save(folder / "channels" / f"{k:05d}.png")
    picture(generator, 300, 300).save(folder / "similarity.png")
    write_data(folder, "classes", class_rows(columns, CLASSES))
    for c, name in enumerate(CLASSES):
        write_data(folder, f"class/{c:05d}", class_page(generator, columns, c, name))
    return columns


def make_large_site(folder: Path, pairs: int = 50_000) -> None:
    """Pages and index of a large run; of its pairs, those that the first page shows."""
    generator = np.random.default_rng(1)
    write_browser_files(folder)
    classes = [f"class {c:03d}" for c in range(1000)]
    columns = index(generator, pairs, len(classes), 6)
    counts = {
        "pairs": pairs,
        "results": columns["state"].count("r"),
        "failed": columns["state"].count("f"),
        "missing": columns["state"].count("m"),
    }
    write_data(folder, "overview", overview(pairs, classes, counts, CHUNK))
    for i, start in enumerate(range(0, pairs, CHUNK)):
        write_data(folder, f"index-{i:03d}", cut(columns, start, start + CHUNK))
    for i in range(2):
        some = [pair_row(p, columns, classes) for p in range(i * PER_FILE, (i + 1) * PER_FILE)]
        write_data(folder, f"pairs/{i:05d}", {"start": i * PER_FILE, "pairs": some})
        for row in some:
            if row["strip"]:
                strip(generator, numbered(folder, "strips", row["pair"], "png"))
    buffer = BytesIO()
    picture(generator, 336, 224).save(buffer, "JPEG")
    for number in range(6):
        numbered(folder, "pictures", number, "jpg").write_bytes(buffer.getvalue())
