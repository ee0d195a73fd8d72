"""VICS 2.0 as other tools accept it: a hash set of media objects (`Default`, `#Media`), written as a stream.

What VICS has no place for goes under one extra key of each media object, which other tools pass over; ours reads it back.
"""

from __future__ import annotations

from typing import IO, TYPE_CHECKING, Any

from vidfed.formats.fields import FIELDS, Kind, field_text
from vidfed.formats.values import code_text, dumps, further_text
from vidfed.formats.vics_media import EXTENSION, FRAMES, KIND, QUALITY
from vidfed.formats.vpdq import frame_lines
from vidfed.index import Algorithm
from vidfed.index.codes import frame_times
from vidfed.wire.values import Ternary

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from vidfed.index import Code

CONTEXT = "http://github.com/VICSDATAMODEL/ProjectVic/DataModels/2.0.xml/Default/$metadata#Media"
_OWN_KEYS = {"md5": "MD5", "sha1": "SHA1", "photodna": "PhotoDNA"}
_FLAG = {Ternary.YES: True, Ternary.NO: False, Ternary.UNKNOWN: None}
OTHER_HASHES = "other_hashes"
_NATIVE = {field.name: field for field in FIELDS.values() if field.vics}
_IN_PLACE = {*_NATIVE, OTHER_HASHES}


def write_hash_set(file: IO[str], media: Iterable[Mapping[str, Any]]) -> int:
    """Write media objects as a hash set, and return how many."""
    file.write(f'{{"@odata.context":{dumps(CONTEXT)},"value":[')
    count = 0
    for count, each in enumerate(media, 1):
        file.write("\n" if count == 1 else ",\n")
        file.write(dumps(each))
    file.write("\n]}\n")
    return count


def media_hashes(codes: Mapping[Algorithm, bytes], further: Iterable[Code] = ()) -> dict[str, Any]:
    """Return the keys of a media object that hold its hashes; MD5 is always there, because tools want it.

    Args:
        codes: of the item as a whole.
        further: of other views of it: alternative hashes that say of which; frames of a film are one, vPDQ.
    """
    texts = {algorithm: code_text(algorithm.value, code, upper=algorithm.value in _OWN_KEYS) for algorithm, code in codes.items()}
    md5 = texts.get(Algorithm.MD5, "")
    media: dict[str, Any] = {"MD5": md5, "SHA1": texts.get(Algorithm.SHA1), "PhotoDNA": texts.get(Algorithm.PHOTODNA)}
    alternatives: list[dict[str, Any]] = [
        {"MD5": md5, "HashName": _hash_name(algorithm), "HashValue": text}
        for algorithm, text in texts.items()
        if algorithm.value not in _OWN_KEYS
    ]
    every = tuple(further)
    frames = [each for each in every if frame_times(each.kind) is not None]
    if frames:
        value = dumps(frame_lines(frames))
        alternatives.append({"MD5": md5, "HashName": "vPDQ", "HashValue": value, FRAMES: further_text(frames)})
    for each in every:
        if frame_times(each.kind) is not None:
            continue
        said = {
            "MD5": md5,
            "HashName": _hash_name(each.algorithm),
            "HashValue": code_text(each.algorithm.value, each.code),
            KIND: each.kind,
        }
        alternatives.append(said if each.quality is None else said | {QUALITY: each.quality})
    if alternatives:
        media["AlternativeHashes"] = alternatives
    return media


def _hash_name(algorithm: Algorithm) -> str:
    return algorithm.label.replace("-", "")


def media_object(number: int, codes: Mapping[Algorithm, bytes], values: Mapping[str, Any], further: Iterable[Code] = ()) -> dict[str, Any]:
    """Return one record as a media object.

    Args:
        number: from 1, its number in the hash set.
        codes: of the record.
        values: all of `FIELDS`, by name.
        further: its further codes.
    """
    category, tags = values["category"], values["tags"]
    media: dict[str, Any] = {"MediaID": number, "Category": int(category) if _is_number(category) else None}
    media |= media_hashes(codes, further)
    kept = [{"MD5": media["MD5"], "HashName": "TMK", "HashValue": each.removeprefix("TMK:")} for each in values[OTHER_HASHES]]
    if kept:
        media["AlternativeHashes"] = [*media.get("AlternativeHashes", ()), *kept]
    for name, field in _NATIVE.items():
        value = values[name]
        if field.kind is Kind.TERNARY:
            media[field.vics] = _FLAG[value]
        elif field.kind is Kind.TEXTS:
            media[field.vics] = ",".join(value) or None
        else:
            media[field.vics] = None if value == "" else value
    extension: dict[str, Any] = {
        name: field_text(name, values[name])
        for name, field in FIELDS.items()
        if name not in _IN_PLACE and values[name] != field.kind.absent
    }
    if any("," in tag for tag in tags):
        extension["tags"] = list(tags)
    if category:  # or the context's region would be taken for the record's
        extension |= {"category_scale": values["category_scale"], "category_region": values["category_region"]}
    if extension:
        media[EXTENSION] = extension
    return media


def _is_number(category: str) -> bool:
    return category.isdecimal() and category.isascii() and str(int(category)) == category
