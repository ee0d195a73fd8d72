"""One picture file: its hashes are those of other tools, its pixels those a person sees, and what is wrong with it is said in one line."""

from __future__ import annotations

import hashlib
import os
import struct
import warnings
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import imagehash
import numpy as np
import pdqhash
import pytest
from PIL import Image, ImageDraw, ImageFile, ImageOps

from tests.support.hashing import failure_of, hashes_of
from vidfed.index import Algorithm
from vidfed.index.find import find_files
from vidfed.index.hashing import decode, digests
from vidfed.index.hashing.decode import MAX_PIXELS
from vidfed.index.hashing.results import ORIENTATIONS, FileHashes, Reason
from vidfed.synthetic.pictures import Family, picture

if TYPE_CHECKING:
    import io

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

    hashes = hashes_of(path)

    content = path.read_bytes()
    assert hashes.code(Algorithm.MD5) == hashlib.md5(content).digest()
    assert hashes.code(Algorithm.SHA1) == hashlib.sha1(content).digest()
    assert hashes.code(Algorithm.SHA256) == hashlib.sha256(content).digest()
    assert hashes.code(Algorithm.PDQ) == pdq_of(shown(path))
    assert hashes.code(Algorithm.PHASH).hex() == str(imagehash.phash(shown(path)))
    assert hashes.code(Algorithm.DHASH).hex() == str(imagehash.dhash(shown(path)))
    assert hashes.pdq_quality == pdqhash.compute(np.asarray(shown(path)))[1]
    assert (hashes.path, hashes.media_type, hashes.width, hashes.height) == (path, mime_type, 300, 200)
    assert hashes.size_bytes == len(content)
    assert all(code.orientations == () for code in hashes.codes)


def test_hashes_of_algorithms_that_pictures_are_not_hashed_with_are_a_key_error(tmp_path: Path) -> None:
    hashes = hashes_of(saved(tmp_path / "a.png", picture(1)))

    with pytest.raises(KeyError):
        hashes.code(Algorithm.PHOTODNA)


def test_a_large_file_is_digested_to_its_end(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png", picture(1))
    with path.open("ab") as file:
        file.write(bytes(3_000_000))

    assert hashes_of(path).code(Algorithm.SHA256) == hashlib.sha256(path.read_bytes()).digest()


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

    hashes = hashes_of(saved(tmp_path / "a.png", image), orientations=True)

    pdq = hashes.main[0]
    assert pdq.orientations[0] == pdq.code == hashes.code(Algorithm.PDQ)
    for name, code in zip(ORIENTATIONS, pdq.orientations, strict=True):
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

    hashes = hashes_of(path)

    assert hashes.code(Algorithm.PDQ) == pdq_of(upright)
    assert (hashes.width, hashes.height) == upright.size == ((120, 80) if orientation <= 4 else (80, 120))


def test_a_damaged_exif_block_leaves_the_picture_as_it_lies(tmp_path: Path) -> None:
    without = saved(tmp_path / "a.jpg", picture(4))
    damaged = b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\x01\x12\0\x03\xff\xff\xff\xff" * 3
    path = saved(tmp_path / "b.jpg", picture(4), exif=damaged)

    assert hashes_of(path).code(Algorithm.PDQ) == pdq_of(shown(without))


def over_white(layers: Image.Image) -> Image.Image:
    return Image.alpha_composite(Image.new("RGBA", layers.size, "white"), layers.convert("RGBA")).convert("RGB")


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparent_pixels_are_seen_over_white(mode: str, tmp_path: Path) -> None:
    layers = picture(5).convert(mode)
    layers.putalpha(picture(6).convert("L"))

    hashes = hashes_of(saved(tmp_path / "a.png", layers))

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
        assert hashes_of(path).code(Algorithm.PDQ) == pdq_of(over_white(opened))


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGBA", "LA"])
def test_opaque_pictures_of_every_mode_hash_like_their_colours(mode: str, tmp_path: Path) -> None:
    image = picture(7).convert(mode)

    assert hashes_of(saved(tmp_path / "a.png", image)).code(Algorithm.PDQ) == pdq_of(image)


def test_a_cmyk_jpeg_hashes_like_its_colours(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.jpg", picture(8).convert("CMYK"))

    assert hashes_of(path).code(Algorithm.PDQ) == pdq_of(shown(path))


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_16_bit_grey_hashes_like_its_high_bytes(suffix: str, tmp_path: Path) -> None:
    high = np.asarray(picture(9).convert("L")).astype(np.uint16)
    deep = Image.fromarray(high * 256 + 77)

    assert deep.mode == "I;16"
    hashes = hashes_of(saved(tmp_path / f"a.{suffix}", deep))
    assert hashes.code(Algorithm.PDQ) == pdq_of(Image.fromarray(high.astype(np.uint8)))


@pytest.mark.parametrize("mode", ["I", "F"])
def test_32_bit_grey_is_stretched_from_its_darkest_to_its_brightest(mode: str, tmp_path: Path) -> None:
    grey = np.asarray(picture(10).convert("L")).astype(np.int64)
    stretched = np.rint((grey - grey.min()) * 255 / (grey.max() - grey.min())).astype(np.uint8)
    deep = Image.fromarray((grey * 1000 - 50_000).astype(np.int32 if mode == "I" else np.float32))

    hashes = hashes_of(saved(tmp_path / "a.tiff", deep))

    assert distance(hashes.code(Algorithm.PDQ), pdq_of(Image.fromarray(stretched))) <= 2


def test_the_first_frame_of_an_animation_is_hashed(tmp_path: Path) -> None:
    first = picture(11).quantize(64)
    alone = saved(tmp_path / "alone.gif", first)
    moving = saved(tmp_path / "moving.gif", first, save_all=True, append_images=[picture(12).quantize(64)])

    assert hashes_of(moving).code(Algorithm.PDQ) == hashes_of(alone).code(Algorithm.PDQ)


def only_note(hashes: FileHashes) -> str:
    (note,) = hashes.notes
    return note.text


@pytest.mark.parametrize("form", ["JPEG", "PNG", "BMP"])
@pytest.mark.parametrize("share", [0.3, 0.5, 0.8])
def test_a_truncated_picture_is_hashed_as_far_as_it_goes_and_the_share_is_said(form: str, share: float, tmp_path: Path) -> None:
    noise = Image.fromarray(np.random.default_rng(1).integers(0, 256, (256, 256, 3), dtype=np.uint8))  # so that bytes tell rows
    path = saved(tmp_path / "picture", noise, format=form)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])

    hashes = hashes_of(path)

    assert [note.reason for note in hashes.notes] == [Reason.PARTLY_DECODED]
    said = int(only_note(hashes).partition(" % of it")[0].rpartition(" ")[2])
    assert abs(said - share * 100) <= 8
    assert hashes.code(Algorithm.MD5) == hashlib.md5(path.read_bytes()).digest()


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("share", [0.02, 0.1, 0.5, 0.8, 0.95])
def test_a_truncated_picture_has_digests_and_a_note_whatever_else(form: str, share: float, tmp_path: Path) -> None:
    path = saved(tmp_path / "picture", picture(13), format=form)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])

    hashes = hashes_of(path)

    assert len(hashes.digests) == 3
    assert {note.reason for note in hashes.notes} & {Reason.PARTLY_DECODED, Reason.DAMAGED, Reason.FRAMES_CUT}


@pytest.mark.parametrize("form", FORMATS)
def test_a_picture_that_lacks_its_last_bytes_is_near_the_whole_one(form: str, tmp_path: Path) -> None:
    path = saved(tmp_path / "picture", picture(13), format=form)
    whole, content = hashes_of(path).code(Algorithm.PHASH), path.read_bytes()
    for missing in (1, 2, 4, 12, 40):
        path.write_bytes(content[:-missing])
        hashes = hashes_of(path)
        if hashes.codes:
            assert distance(hashes.code(Algorithm.PHASH), whole) <= 2
        else:
            assert hashes.notes[0].reason is Reason.DAMAGED


def test_a_jpeg_with_a_bad_marker_is_decoded_up_to_it(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.jpg", picture(13))
    content = path.read_bytes()
    middle = (content.index(b"\xff\xda") + len(content)) // 2
    path.write_bytes(content[:middle] + b"\xff\x9a" + content[middle + 2 :])

    hashes = hashes_of(path)

    assert len(hashes.main) == 3
    assert hashes.notes[0].reason is Reason.PARTLY_DECODED


@pytest.mark.parametrize("form", ["PNG", "GIF", "TIFF", "WEBP", "JPEG"])
def test_damage_in_the_middle_never_costs_the_digests(form: str, tmp_path: Path) -> None:
    path = saved(tmp_path / "picture", picture(13, size=(64, 64)), format=form)
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(100):
        damaged = bytearray(content)
        for position in rng.integers(4, len(content), 8).tolist():
            damaged[position] = int(rng.integers(0, 256))
        path.write_bytes(damaged)

        hashes = hashes_of(path)

        assert hashes.code(Algorithm.SHA1) == hashlib.sha1(damaged).digest()
        assert hashes.codes or hashes.notes
        assert all(len(str(note).splitlines()) == 1 for note in hashes.notes)


def with_chunk(png: bytes, kind: bytes, body: bytes) -> bytes:
    """A PNG with one more chunk after its header."""
    chunk = struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    return png[:33] + chunk + png[33:]


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (b"zTXt", b"x\0\0" + zlib.compress(bytes(80_000_000))),
        (b"iTXt", b"x\0\1\0\0\0" + zlib.compress(bytes(80_000_000))),
        (b"iCCP", b"x\0\0" + b"no profile"),
        (b"tEXt", bytes(200_000)),
        (b"gAMA", b"\0"),
        (b"sBIT", b"\x0c"),
        (b"eXIf", b"nonsense"),
    ],
)
def test_what_else_is_in_a_png_does_not_decide(kind: bytes, body: bytes, tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png", picture(1))
    plain = hashes_of(path)
    path.write_bytes(with_chunk(path.read_bytes(), kind, body))

    assert (hashes_of(path).codes, hashes_of(path).notes) == (plain.codes, ())


@pytest.mark.parametrize("marker", [0xE0, 0xE1, 0xE2, 0xED, 0xFE])
def test_what_else_is_in_a_jpeg_does_not_decide(marker: int, tmp_path: Path) -> None:
    path = saved(tmp_path / "a.jpg", picture(1))
    plain, content = hashes_of(path), path.read_bytes()
    names = {0xE1: b"Exif\0\0", 0xE2: b"MPF\0", 0xED: b"Photoshop 3.0\0", 0xE0: b"JFIF\0", 0xFE: b""}
    body = names[marker] + b"\xff\xd8\xff\xc0" * 9
    path.write_bytes(content[:2] + bytes((0xFF, marker)) + struct.pack(">H", len(body) + 2) + body + content[2:])

    assert hashes_of(path).codes == plain.codes


def png_of_size(width: int, height: int) -> bytes:
    """A PNG of a few hundred bytes that claims any size."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


def test_a_decompression_bomb_is_digested_and_the_limit_said(tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(png_of_size(20_000, 20_000))

    hashes = hashes_of(path)

    assert (hashes.codes, len(hashes.digests)) == ((), 3)
    assert only_note(hashes) == f"too large a picture: 400,000,000 pixels, the limit is {MAX_PIXELS:,}"


def test_pillows_own_settings_and_its_warnings_are_left_as_they_were(tmp_path: Path) -> None:
    limit, tolerant = Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES
    path = tmp_path / "large.png"
    path.write_bytes(png_of_size(10_000, 10_000))  # Pillow alone would warn

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        hashes_of(path)

    assert not caught
    assert (limit, tolerant) == (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES)


@pytest.mark.parametrize(
    ("content", "media_type", "said"),
    [
        (b"hello, world", "", "no picture of a known format"),
        (b"%PDF-1.7 ...", "application/pdf", "no picture but PDF (application/pdf)"),
        (b"RIFF\0\0\0\0WAVEfmt ", "audio/wav", "no picture but WAV audio (audio/wav)"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom", "video/mp4", "no picture but MP4 video or audio (video/mp4)"),
        (b"P6 1 1 255 abc", "", "no picture of a known format"),
    ],
)
def test_a_file_that_is_no_picture_has_its_digests_and_says_what_it_is(content: bytes, media_type: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "picture.jpg"
    path.write_bytes(content)

    hashes = hashes_of(path)

    assert hashes.code(Algorithm.SHA256) == hashlib.sha256(content).digest()
    assert (hashes.codes, hashes.media_type, only_note(hashes)) == ((), media_type, said)


def test_a_file_too_large_to_decode_is_digested(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path / "a.png", picture(1))
    monkeypatch.setattr(digests, "MAX_PICTURE_BYTES", 1000)

    hashes = hashes_of(path)

    assert hashes.code(Algorithm.MD5) == hashlib.md5(path.read_bytes()).digest()
    assert (hashes.codes, hashes.notes[0].reason) == ((), Reason.TOO_LARGE)


def test_an_empty_file_a_missing_one_and_a_folder_are_named_as_such(tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "folder").mkdir()

    for name, reason in [
        ("empty.jpg", "an empty file: its digests are those of every empty file"),
        ("missing.jpg", "no such file"),
        ("folder", "an empty folder"),
    ]:
        assert str(failure_of(tmp_path / name)) == f"{tmp_path / name}: {reason}"
    assert failure_of(tmp_path).reason == "a folder, not a file"


def test_pipes_devices_and_links_are_named_instead_of_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/etc/hostname")

    assert failure_of(tmp_path / "pipe").reason == "a named pipe, not a regular file"
    assert failure_of(Path("/dev/zero")).reason == "a device, not a regular file"
    assert failure_of(tmp_path / "link").reason == "a symbolic link to '/etc/hostname': links found in folders are not followed"


def test_a_file_without_permission_is_named_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path / "a.png", picture(1))

    def refuse(*_args: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)  # file modes mean nothing to an administrator, who may run the tests

    assert failure_of(path).reason == "cannot be read: permission denied"


def test_a_file_name_with_line_ends_and_terminal_codes_stays_one_harmless_line(tmp_path: Path) -> None:
    assert str(failure_of(tmp_path / "a\n\x1b[31mb")) == f"{tmp_path}/a\\n\\x1b[31mb: no such file"


def test_a_link_that_is_named_is_followed_and_one_that_is_found_is_not(tmp_path: Path) -> None:
    photo = saved(tmp_path / "photo.png", picture(1))
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "link").symlink_to(photo)

    assert list(find_files([folder / "link"])) == [photo.resolve()]
    assert [failure_of(found).note.reason for found in find_files([folder])] == [Reason.NOT_A_FILE]


def test_folders_are_walked_in_order_with_hidden_files_and_without_loops(tmp_path: Path) -> None:
    (tmp_path / "b" / "deep").mkdir(parents=True)
    for name in ("c.jpg", "a.txt", ".hidden.jpg", "b/deep/x.png"):
        (tmp_path / name).touch()
    (tmp_path / "b" / "loop").symlink_to(tmp_path)
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    (tmp_path / "b" / "none").mkdir()

    found = [str(path.relative_to(tmp_path)) for path in find_files([tmp_path / "missing.jpg", tmp_path])]

    assert found == ["missing.jpg", ".hidden.jpg", "a.txt", "b/deep/x.png", "b/loop", "c.jpg", "dangling"]


def test_an_empty_folder_is_listed_itself_so_that_it_is_reported(tmp_path: Path) -> None:
    assert list(find_files([tmp_path])) == [tmp_path]


def test_a_jpeg_with_further_pictures_attached_is_a_jpeg(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    picture(1).save(path, format="MPO", save_all=True, append_images=[picture(2)])

    hashes = hashes_of(path)
    assert hashes.media_type == "image/jpeg"
    assert [code.kind for code in hashes.codes if code.kind.startswith("frame")] == ["frame:2"]
    assert distance(next(code.code for code in hashes.codes if code.kind == "frame:2"), pdq_of(picture(2))) <= 10


def test_a_heic_is_hashed_as_the_picture_it_was_made_from() -> None:
    """Encoded once from a drawn picture of the generator; no encoder of it is installed here, the decoder is."""
    drawn = Path(__file__).parent / "assets/picture-5.heic"
    hashes = hashes_of(drawn)
    assert (hashes.media_type, hashes.width, hashes.height, hashes.notes) == ("image/heic", 256, 192, ())
    assert distance(hashes.code(Algorithm.PDQ), pdq_of(picture(5).resize((256, 192)))) <= 10


def test_a_damaged_further_frame_is_decoded_as_far_as_it_goes(tmp_path: Path) -> None:
    """As a first one is: other programs show it."""
    path = tmp_path / "a.gif"
    picture(1).save(path, save_all=True, append_images=[picture(2)], duration=100)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 9 // 10])
    assert [code.kind for code in hashes_of(path).codes if code.kind.startswith("frame")] == ["frame:2"]


def test_a_picture_too_small_for_pdq_has_quality_zero(tmp_path: Path) -> None:
    hashes = hashes_of(saved(tmp_path / "a.png", Image.new("RGB", (3, 200))))

    assert (hashes.code(Algorithm.PDQ), hashes.pdq_quality) == (bytes(32), 0)


def test_bytes_are_hashed_as_they_were_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path / "a.png", picture(1))
    before = path.read_bytes()
    opened = Image.open

    def replace_then_open(file: io.BytesIO, formats: tuple[str, ...]) -> Image.Image:
        picture(2).save(path)
        return opened(file, formats=formats)

    monkeypatch.setattr(Image, "open", replace_then_open)
    hashes = hashes_of(path)

    assert hashes.code(Algorithm.SHA256) == hashlib.sha256(before).digest()
    assert hashes.code(Algorithm.PDQ) == pdq_of(picture(1))


@pytest.mark.parametrize(("form", "media_type"), [("AVIF", "image/avif"), ("JPEG2000", "image/jp2")])
def test_further_formats_are_told_by_content_and_hashed(form: str, media_type: str, tmp_path: Path) -> None:
    path = saved(tmp_path / "picture.txt", picture(1, size=(300, 200)), format=form)

    hashes = hashes_of(path)

    assert (hashes.media_type, hashes.width, hashes.height) == (media_type, 300, 200)
    assert distance(hashes.code(Algorithm.PDQ), pdq_of(shown(path))) <= 2


@pytest.mark.parametrize("form", ["GIF", "PNG", "WEBP", "TIFF"])
def test_every_frame_and_page_that_looks_different_has_a_code(form: str, tmp_path: Path) -> None:
    frames = [picture(seed, Family.SHAPES, (200, 150)) for seed in (1, 2, 1, 3)]
    path = saved(tmp_path / "moving", frames[0], format=form, save_all=True, append_images=frames[1:])

    hashes = hashes_of(path)

    assert hashes.frames == 4
    assert [code.kind for code in hashes.codes if code.kind.startswith("frame")] == ["frame:2", "frame:4"]
    assert distance(hashes.codes[-1].code, pdq_of(frames[3])) <= 31


def test_a_picture_with_transparency_dropped_by_another_tool_is_among_its_renderings(tmp_path: Path) -> None:
    layers = picture(5).convert("RGBA")
    layers.putalpha(picture(6).convert("L"))

    codes = {code.kind: code.code for code in hashes_of(saved(tmp_path / "a.png", layers)).codes if code.algorithm is Algorithm.PDQ}

    assert distance(codes["rendering:no-alpha"], pdq_of(layers)) <= 2
    assert "rendering:black" in codes


def test_a_large_jpeg_is_hashed_at_reduced_size_within_two_bits_and_says_so(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.jpg", picture(3, Family.TEXTURE, (2600, 2100)))

    fast, full = hashes_of(path), hashes_of(path, full_size=True)

    assert (fast.method, full.method) == ("luma-1/2", "full")
    assert (fast.width, fast.height) == (full.width, full.height) == (2600, 2100)
    assert distance(fast.code(Algorithm.PDQ), full.code(Algorithm.PDQ)) <= 2
    assert full.code(Algorithm.PDQ) == pdq_of(shown(path))


@pytest.mark.parametrize(("more", "hashed"), [(0, True), (-1, False)])
def test_exactly_MAX_PIXELS_is_hashed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: int, hashed: bool) -> None:  # noqa: N802
    shown = picture(1)
    path = saved(tmp_path / "a.png", shown)
    monkeypatch.setattr(decode, "MAX_PIXELS", shown.width * shown.height + more)
    assert bool(hashes_of(path).codes) is hashed
