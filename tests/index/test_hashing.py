"""One picture file: its hashes are those of other tools, its pixels those a person sees, and what is wrong with it is said in one line."""

from __future__ import annotations

import hashlib
import os
import struct
import warnings
import zlib
from typing import TYPE_CHECKING, Any

import imagehash
import numpy as np
import pdqhash
import pytest
from PIL import Image, ImageDraw, ImageOps

from vidfed.index import Algorithm, PictureError
from vidfed.index.hashing.pictures import MAX_PIXELS, ORIENTATIONS, find_pictures, hash_picture
from vidfed.synthetic.pictures import Family, picture

if TYPE_CHECKING:
    import io
    from pathlib import Path

FORMATS = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp", "GIF": "image/gif", "TIFF": "image/tiff", "BMP": "image/bmp"}


def pdq_of(image: Image.Image) -> bytes:
    """PDQ as any other user of the library computes it."""
    vector, _ = pdqhash.compute(np.asarray(image.convert("RGB")))
    return np.packbits(vector).tobytes()


def distance(left: bytes, right: bytes) -> int:
    return (int.from_bytes(left) ^ int.from_bytes(right)).bit_count()


def saved(path: Path, image: Image.Image, **options: Any) -> Path:  # noqa: ANN401 - whatever Pillow's save takes
    image.save(path, **options)
    return path


def shown(path: Path) -> Image.Image:
    with Image.open(path) as image:
        return image.convert("RGB")


@pytest.mark.parametrize(("form", "mime_type"), FORMATS.items())
def test_a_picture_of_each_format_has_the_hashes_that_other_tools_compute(form: str, mime_type: str, tmp_path: Path) -> None:
    path = saved(tmp_path / "picture", picture(1, size=(300, 200)), format=form)

    hashes = hash_picture(path)

    content = path.read_bytes()
    assert hashes.code(Algorithm.MD5) == hashlib.md5(content).digest()
    assert hashes.code(Algorithm.SHA1) == hashlib.sha1(content).digest()
    assert hashes.code(Algorithm.SHA256) == hashlib.sha256(content).digest()
    assert hashes.code(Algorithm.PDQ) == pdq_of(shown(path))
    assert hashes.code(Algorithm.PHASH).hex() == str(imagehash.phash(shown(path)))
    assert hashes.code(Algorithm.DHASH).hex() == str(imagehash.dhash(shown(path)))
    assert hashes.pdq_quality == pdqhash.compute(np.asarray(shown(path)))[1]
    assert (hashes.path, hashes.mime_type, hashes.width, hashes.height) == (path, mime_type, 300, 200)
    assert hashes.size_bytes == len(content)
    assert hashes.pdq_orientations == ()


def test_hashes_of_algorithms_that_pictures_are_not_hashed_with_are_a_key_error(tmp_path: Path) -> None:
    hashes = hash_picture(saved(tmp_path / "a.png", picture(1)))

    with pytest.raises(KeyError):
        hashes.code(Algorithm.PHOTODNA)


def test_a_large_file_is_digested_to_its_end(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png", picture(1))
    with path.open("ab") as file:
        file.write(bytes(3_000_000))

    assert hash_picture(path).code(Algorithm.SHA256) == hashlib.sha256(path.read_bytes()).digest()


def test_the_eight_orientations_are_the_pdqs_of_the_turned_and_mirrored_picture(tmp_path: Path) -> None:
    image = picture(3, Family.TEXTURE, (400, 300))
    turn = Image.Transpose
    by_name = {
        "as it is": image,
        "turned 90 degrees": image.transpose(turn.ROTATE_90),
        "turned 180 degrees": image.transpose(turn.ROTATE_180),
        "turned 270 degrees": image.transpose(turn.ROTATE_270),
        "flipped top to bottom": image.transpose(turn.FLIP_TOP_BOTTOM),
        "flipped left to right": image.transpose(turn.FLIP_LEFT_RIGHT),
        "transposed": image.transpose(turn.TRANSPOSE),
        "transversed": image.transpose(turn.TRANSVERSE),
    }

    hashes = hash_picture(saved(tmp_path / "a.png", image), orientations=True)

    assert hashes.pdq_orientations[0] == hashes.code(Algorithm.PDQ)
    for name, code in zip(ORIENTATIONS, hashes.pdq_orientations, strict=True):
        distances = {other: distance(code, pdq_of(each)) for other, each in by_name.items()}
        assert min(distances, key=lambda other: distances[other]) == name
        assert distances[name] <= 31


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_the_exif_orientation_is_respected(form: str, orientation: int, tmp_path: Path) -> None:
    image = picture(4, size=(120, 80))
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(tmp_path / "picture", image, format=form, exif=exif)
    with Image.open(path) as opened:
        upright = ImageOps.exif_transpose(opened).convert("RGB")

    hashes = hash_picture(path)

    assert hashes.code(Algorithm.PDQ) == pdq_of(upright)
    assert (hashes.width, hashes.height) == upright.size == ((120, 80) if orientation <= 4 else (80, 120))


def test_a_damaged_exif_block_leaves_the_picture_as_it_lies(tmp_path: Path) -> None:
    without = saved(tmp_path / "a.jpg", picture(4))
    damaged = b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\x01\x12\0\x03\xff\xff\xff\xff" * 3
    path = saved(tmp_path / "b.jpg", picture(4), exif=damaged)

    assert hash_picture(path).code(Algorithm.PDQ) == pdq_of(shown(without))


def over_white(layers: Image.Image) -> Image.Image:
    return Image.alpha_composite(Image.new("RGBA", layers.size, "white"), layers.convert("RGBA")).convert("RGB")


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparent_pixels_are_seen_over_white(mode: str, tmp_path: Path) -> None:
    layers = picture(5).convert(mode)
    layers.putalpha(picture(6).convert("L"))

    hashes = hash_picture(saved(tmp_path / "a.png", layers))

    assert distance(hashes.code(Algorithm.PDQ), pdq_of(over_white(layers))) <= 2
    assert distance(hashes.code(Algorithm.PDQ), pdq_of(layers)) > 31


def test_a_transparent_palette_colour_is_seen_over_white(tmp_path: Path) -> None:
    image = Image.new("P", (100, 100), 0)
    image.putpalette([0, 0, 0, 255, 0, 0, 0, 0, 255])
    draw = ImageDraw.Draw(image)
    draw.rectangle((10, 20, 60, 50), fill=1)
    draw.rectangle((50, 70, 90, 95), fill=2)
    path = saved(tmp_path / "a.gif", image, transparency=0)

    with Image.open(path) as opened:
        assert hash_picture(path).code(Algorithm.PDQ) == pdq_of(over_white(opened))


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGBA", "LA"])
def test_opaque_pictures_of_every_mode_hash_like_their_colours(mode: str, tmp_path: Path) -> None:
    image = picture(7).convert(mode)

    assert hash_picture(saved(tmp_path / "a.png", image)).code(Algorithm.PDQ) == pdq_of(image)


def test_a_cmyk_jpeg_hashes_like_its_colours(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.jpg", picture(8).convert("CMYK"))

    assert hash_picture(path).code(Algorithm.PDQ) == pdq_of(shown(path))


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_16_bit_grey_hashes_like_its_high_bytes(suffix: str, tmp_path: Path) -> None:
    high = np.asarray(picture(9).convert("L")).astype(np.uint16)
    deep = Image.fromarray(high * 256 + 77)

    assert deep.mode == "I;16"
    hashes = hash_picture(saved(tmp_path / f"a.{suffix}", deep))
    assert hashes.code(Algorithm.PDQ) == pdq_of(Image.fromarray(high.astype(np.uint8)))


@pytest.mark.parametrize("mode", ["I", "F"])
def test_32_bit_grey_is_stretched_from_its_darkest_to_its_brightest(mode: str, tmp_path: Path) -> None:
    grey = np.asarray(picture(10).convert("L")).astype(np.int64)
    stretched = np.rint((grey - grey.min()) * 255 / (grey.max() - grey.min())).astype(np.uint8)
    deep = Image.fromarray((grey * 1000 - 50_000).astype(np.int32 if mode == "I" else np.float32))

    hashes = hash_picture(saved(tmp_path / "a.tiff", deep))

    assert distance(hashes.code(Algorithm.PDQ), pdq_of(Image.fromarray(stretched))) <= 2


def test_the_first_frame_of_an_animation_is_hashed(tmp_path: Path) -> None:
    first = picture(11).quantize(64)
    alone = saved(tmp_path / "alone.gif", first)
    moving = saved(tmp_path / "moving.gif", first, save_all=True, append_images=[picture(12).quantize(64)])

    assert hash_picture(moving).code(Algorithm.PDQ) == hash_picture(alone).code(Algorithm.PDQ)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("tenths", [0.02, 0.1, 0.5, 0.8, 0.95])
def test_a_truncated_file_is_refused_never_half_decoded(form: str, tenths: float, tmp_path: Path) -> None:
    path = saved(tmp_path / "picture", picture(13), format=form)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * tenths)])

    with pytest.raises(PictureError, match=f"{path}: (truncated|damaged)"):
        hash_picture(path)


@pytest.mark.parametrize("form", FORMATS)
def test_a_file_that_lacks_its_last_bytes_is_refused_or_has_all_its_pixels(form: str, tmp_path: Path) -> None:
    path = saved(tmp_path / "picture", picture(13), format=form)
    whole, content = hash_picture(path).code(Algorithm.PHASH), path.read_bytes()
    for missing in (1, 2, 4, 12, 40):
        path.write_bytes(content[:-missing])
        try:
            hashes = hash_picture(path)
        except PictureError:
            continue
        assert hashes.code(Algorithm.PHASH) == whole


@pytest.mark.parametrize("form", ["PNG", "GIF", "TIFF", "WEBP"])
def test_damage_in_the_middle_is_one_line_or_harmless(form: str, tmp_path: Path) -> None:
    path = saved(tmp_path / "picture", picture(13, size=(64, 64)), format=form)
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(100):
        damaged = bytearray(content)
        for position in rng.integers(4, len(content), 8).tolist():
            damaged[position] = int(rng.integers(0, 256))
        path.write_bytes(damaged)
        try:
            hash_picture(path)
        except PictureError as error:
            assert len(str(error).splitlines()) == 1  # noqa: PT017 - either outcome is right


def png_of_size(width: int, height: int) -> bytes:
    """A PNG of a few hundred bytes that claims any size."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


def test_a_decompression_bomb_is_refused_with_its_size_and_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(png_of_size(20_000, 20_000))

    with pytest.raises(PictureError) as caught:
        hash_picture(path)

    assert str(caught.value) == f"{path}: too large a picture: 400,000,000 pixels, the limit is {MAX_PIXELS:,}"


def test_pillows_own_limit_and_its_warnings_are_left_as_they_were(tmp_path: Path) -> None:
    limit = Image.MAX_IMAGE_PIXELS
    path = tmp_path / "large.png"
    path.write_bytes(png_of_size(10_000, 10_000))  # Pillow alone would warn

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with pytest.raises(PictureError, match="truncated"):
            hash_picture(path)

    assert not caught
    assert limit == Image.MAX_IMAGE_PIXELS


@pytest.mark.parametrize("content", [b"hello, world", b"%PDF-1.7 ...", b"RIFF\0\0\0\0WAVEfmt ", b"<svg/>"])
def test_a_file_that_is_no_picture_is_said_to_be_none(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "picture.jpg"
    path.write_bytes(content)

    with pytest.raises(PictureError, match="not a picture: neither JPEG, PNG, WebP, GIF, TIFF nor BMP"):
        hash_picture(path)


def test_formats_beyond_the_six_are_not_decoded(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.ppm", picture(1))

    with pytest.raises(PictureError, match="not a picture"):
        hash_picture(path)


def test_a_huge_file_that_is_no_picture_is_not_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    with path.open("wb") as file:
        file.write(b"\0\0\0\x18ftypmp42")
        file.truncate(1 << 40)  # sparse: takes no room, but would take hours to read

    with pytest.raises(PictureError, match="not a picture"):
        hash_picture(path)


def test_a_huge_file_that_begins_like_a_picture_is_refused_with_its_size_and_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "huge.bmp"
    with path.open("wb") as file:
        file.write(b"BM")
        file.truncate(1 << 40)

    with pytest.raises(PictureError, match="too large a file: 1,099,511,627,776 bytes, the limit is 1,073,741,824"):
        hash_picture(path)


def test_an_empty_file_a_missing_one_and_a_folder_are_named_as_such(tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "folder").mkdir()

    for name, reason in [("empty.jpg", "an empty file"), ("missing.jpg", "no such file"), ("folder", "an empty folder")]:
        with pytest.raises(PictureError) as caught:
            hash_picture(tmp_path / name)
        assert str(caught.value) == f"{tmp_path / name}: {reason}"
    with pytest.raises(PictureError, match="a folder, not a picture file"):
        hash_picture(tmp_path)


def test_a_named_pipe_is_refused_instead_of_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")

    with pytest.raises(PictureError, match="not a regular file"):
        hash_picture(tmp_path / "pipe")


def test_a_file_without_permission_is_named_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path / "a.png", picture(1))

    def refuse(*_args: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)  # file modes mean nothing to an administrator, who may run the tests

    with pytest.raises(PictureError, match="cannot be read: permission denied"):
        hash_picture(path)


def test_a_file_name_with_line_ends_and_terminal_codes_stays_one_harmless_line(tmp_path: Path) -> None:
    with pytest.raises(PictureError) as caught:
        hash_picture(tmp_path / "a\n\x1b[31mb")

    assert str(caught.value) == f"{tmp_path}/a\\n\\x1b[31mb: no such file"


def test_folders_are_walked_in_order_with_hidden_files_and_without_loops(tmp_path: Path) -> None:
    (tmp_path / "b" / "deep").mkdir(parents=True)
    for name in ("c.jpg", "a.txt", ".hidden.jpg", "b/deep/x.png"):
        (tmp_path / name).touch()
    (tmp_path / "b" / "loop").symlink_to(tmp_path)
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    (tmp_path / "b" / "none").mkdir()

    found = [str(path.relative_to(tmp_path)) for path in find_pictures([tmp_path / "missing.jpg", tmp_path])]

    assert found == ["missing.jpg", ".hidden.jpg", "a.txt", "b/deep/x.png", "c.jpg", "dangling"]


def test_an_empty_folder_is_listed_itself_so_that_it_is_reported(tmp_path: Path) -> None:
    assert list(find_pictures([tmp_path])) == [tmp_path]


def test_a_jpeg_with_further_pictures_attached_is_a_jpeg(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    picture(1).save(path, format="MPO", save_all=True, append_images=[picture(2)])

    assert hash_picture(path).mime_type == "image/jpeg"


def test_a_picture_too_small_for_pdq_has_quality_zero(tmp_path: Path) -> None:
    hashes = hash_picture(saved(tmp_path / "a.png", Image.new("RGB", (3, 200))))

    assert (hashes.code(Algorithm.PDQ), hashes.pdq_quality) == (bytes(32), 0)


def test_bytes_are_hashed_as_they_were_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path / "a.png", picture(1))
    before = path.read_bytes()
    opened = Image.open

    def replace_then_open(file: io.BytesIO, formats: tuple[str, ...]) -> Image.Image:
        picture(2).save(path)
        return opened(file, formats=formats)

    monkeypatch.setattr(Image, "open", replace_then_open)
    hashes = hash_picture(path)

    assert hashes.code(Algorithm.SHA256) == hashlib.sha256(before).digest()
    assert hashes.code(Algorithm.PDQ) == pdq_of(picture(1))
