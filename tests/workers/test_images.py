from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import models
from torchvision.transforms import v2

from extremal.workers import images
from extremal.workers.errors import ImageError
from extremal.workers.images import Preprocess, decode

HALVES = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
SIZES = [
    (1, 1),
    (1, 9),
    (9, 1),
    (2, 3),
    (31, 32),
    (32, 31),
    (32, 32),
    (33, 47),
    (100, 75),
    (227, 227),
    (7, 500),
]


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    file = BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def noise(width: int, height: int) -> Image.Image:
    pixels = np.random.default_rng(width * 1000 + height).integers(0, 256, (height, width, 3))
    return Image.fromarray(pixels.astype(np.uint8))


@pytest.mark.parametrize("mode", ["RGB", "L", "LA", "RGBA", "P", "1", "CMYK", "YCbCr"])
def test_every_mode_becomes_the_same_rgb(mode: str) -> None:
    kind = "TIFF" if mode in ("CMYK", "YCbCr") else "PNG"
    image = decode(encoded(Image.new("RGB", (6, 4), "white").convert(mode), kind))
    assert (image.mode, image.size) == ("RGB", (6, 4))
    assert np.asarray(image).min() >= 254


def test_cmyk_jpeg() -> None:
    image = decode(encoded(Image.new("RGB", (8, 8), (200, 30, 60)).convert("CMYK"), "JPEG", quality=95))
    np.testing.assert_allclose(np.asarray(image)[0, 0], (200, 30, 60), atol=4)


@pytest.mark.parametrize("value", [0, 257 * 100, 65535])
def test_16_bit_grey_is_scaled_not_clipped(value: int) -> None:
    image = decode(encoded(Image.fromarray(np.full((3, 5), value, np.uint16))))
    assert np.unique(np.asarray(image)).tolist() == [value >> 8]


@pytest.mark.filterwarnings("error")
def test_palette_with_transparency_keeps_its_colours() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putdata([0, 1])
    shown = decode(encoded(image, transparency=b"\x00\x80"))
    assert np.asarray(shown).tolist() == [[[255, 0, 0], [0, 0, 255]]]


def test_exif_orientation_is_not_applied() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    assert decode(encoded(noise(8, 4), "JPEG", exif=exif)).size == (8, 4)


def test_path_and_bytes_agree(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(encoded(noise(5, 4)))
    assert decode(file).tobytes() == decode(str(file)).tobytes() == decode(file.read_bytes()).tobytes()


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (b"", "empty"),
        (b"no picture", "not an image"),
        (encoded(noise(60, 60), "JPEG")[:900], "truncated"),
        (encoded(noise(60, 60))[:900], "truncated"),
        (encoded(noise(60, 60))[:20], "cannot be decoded"),
        (encoded(Image.new("F", (3, 3)), "TIFF"), "floating-point"),
    ],
)
def test_bad_files_are_named_with_their_cause(tmp_path: Path, content: bytes, cause: str) -> None:
    file = tmp_path / "bad.jpg"
    file.write_bytes(content)
    with pytest.raises(ImageError, match=cause) as error:
        decode(file)
    assert str(file) in str(error.value)
    with pytest.raises(ImageError, match=cause):
        decode(content)


def test_every_truncation_is_an_image_error() -> None:
    whole = encoded(noise(16, 16), "JPEG")
    for length in range(0, len(whole) - 2, 7):
        with pytest.raises(ImageError):
            decode(whole[:length])


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"none\.png: no such file"):
        decode(tmp_path / "none.png")
    with pytest.raises(ImageError, match="not a regular file"):
        decode(tmp_path)


def test_decompression_bomb(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "MAX_PIXELS", 99)
    with pytest.raises(ImageError, match="10x10 is over 99 pixels"):
        decode(encoded(noise(10, 10)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(ImageError, match="exceeds limit"):
        decode(encoded(noise(10, 10)))


@pytest.mark.parametrize("crop", [None, 1, 24, 31, 32])
def test_shape_and_region_agree_with_the_input(crop: int | None) -> None:
    preprocess = Preprocess(32, crop, *HALVES)
    for width, height in SIZES:
        x = preprocess(noise(width, height))
        assert x.dtype == torch.float32
        assert tuple(x.shape) == (3, *preprocess.input_shape(width, height))
        x0, y0, x1, y1 = preprocess.region(width, height)
        assert 0 <= x0 < x1 <= width + 1e-9
        assert 0 <= y0 < y1 <= height + 1e-9
        if crop is None:
            assert (x0, y0, x1, y1) == (0, 0, width, height)


def test_input_shape_over_many_sizes() -> None:
    preprocess = Preprocess(37, None, *HALVES)
    random = np.random.default_rng(0)
    for width, height in random.integers(1, 90, (300, 2)).tolist():
        assert tuple(preprocess(Image.new("RGB", (width, height))).shape[1:]) == preprocess.input_shape(
            width, height
        )


def test_region_finds_the_pixels_of_the_input() -> None:
    """An image whose red grows by one per column: the input's mean red tells which columns it shows."""
    width, height = 200, 100
    ramp = np.zeros((height, width, 3), np.uint8)
    ramp[..., 0] = np.arange(width)
    preprocess = Preprocess(100, 40, (0, 0, 0), (1, 1, 1))
    x0, y0, x1, y1 = preprocess.region(width, height)
    assert (x0, y0, x1, y1) == (80, 30, 120, 70)
    red = preprocess(Image.fromarray(ramp))[0] * 255
    torch.testing.assert_close(red[0], torch.arange(x0, x1), atol=1e-3, rtol=0)


@pytest.mark.parametrize("size", [(500, 333), (224, 224), (100, 301), (1, 1)])
def test_same_as_torchvision(size: tuple[int, int]) -> None:
    usual = models.ResNet50_Weights.IMAGENET1K_V2.transforms()
    preprocess = Preprocess(232, 224, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    torch.testing.assert_close(preprocess(noise(*size)), usual(noise(*size)), atol=1e-6, rtol=0)


def test_bicubic_differs_and_matches_torchvision() -> None:
    preprocess = Preprocess(64, None, (0, 0, 0), (1, 1, 1), "bicubic")
    resized = v2.functional.resize(noise(90, 70), [64], interpolation=v2.InterpolationMode.BICUBIC)
    torch.testing.assert_close(preprocess(noise(90, 70)), v2.functional.to_image(resized) / 255)


@pytest.mark.parametrize("wrong", [(0, None), (32, 33), (32, 0)])
def test_impossible_sizes_are_refused(wrong: tuple[int, int | None]) -> None:
    with pytest.raises(ValueError, match="resize"):
        Preprocess(*wrong, *HALVES)


def test_unknown_interpolation_is_refused() -> None:
    with pytest.raises(ValueError, match="cubist"):
        Preprocess(32, None, *HALVES, "cubist")


def test_extremely_thin_image_is_refused() -> None:
    with pytest.raises(ImageError, match="too thin"):
        Preprocess(256, 224, *HALVES)(Image.new("RGB", (2000, 1)))
