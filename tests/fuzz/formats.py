"""A bounded run of atheris (libFuzzer) over every reader of files: `python -m tests.fuzz.formats [--seconds 300] [--corpus FOLDER]`.

Not part of the test suite: `pip install -e .[fuzz]` first. Whatever the bytes, a reader yields entries of the right form or raises
FormatError, and VICS parsed many objects at a time gives what it gives one by one. What breaks that is left in a folder of the
system's for temporary files, whose name is told; nothing is left in the checkout.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import atheris

with atheris.instrument_imports(include=["vidfed.formats"]):
    from vidfed.formats import json_stream
    from vidfed.formats.entries import FileEntry, FormatError, Skip
    from vidfed.formats.fields import FIELDS, field_text, field_value
    from vidfed.formats.recognise import FORMATS, open_hash_file

from vidfed.index import Algorithm

if TYPE_CHECKING:
    from collections.abc import Iterator

_LENGTHS = {algorithm.value: algorithm.code_bytes for algorithm in Algorithm}
_CONTEXT = "http://github.com/VICSDATAMODEL/ProjectVic/DataModels/2.0.xml/US/$metadata#"


def seeds() -> Iterator[bytes]:
    """Yield files to begin with: a byte that chooses the reader, then one of each shape and encoding."""
    media = {"MediaID": 1, "Category": 1, "MD5": "AB" * 16, "SHA1": "cd" * 20, "PhotoDNA": "QUJD" * 48, "VictimIdentified": "true"}
    media |= {"Tags": "a,b", "AlternativeHashes": [{"HashName": "PDQ", "HashValue": "ef" * 32}], "MediaFiles": [{"MD5": "AB" * 16}]}
    case = {"CaseNumber": "1", "ContactName": "x", "Media": [media, media | {"MD5": ""}]}
    for document in (
        {"@odata.context": f"{_CONTEXT}Cases", "value": [case]},
        {"value": [media] * 3},
        [case, media],
        {"Media": [media]} | case,
    ):
        text = json.dumps(document)
        yield from (b"\0" + text.encode(encoding) for encoding in ("utf-8", "utf-8-sig", "utf-16"))
    yield b"\1MD5;SHA1;PhotoDNA;Image ID;Is distributed;Victim identified;Series name\n" + b"ab" * 16 + b";;;1;y;no;a\n"
    yield b"\2md5,pdq,series,victim_identified,review_date\n" + b"ab" * 16 + b',,"a, b",yes,2027-01-01\n'
    yield b"\3# list\nmd5:" + b"ab" * 16 + b"\n" + b"cd" * 20 + b"  name\n"
    member = b'<image><member id="1"/><id>2</id><classification>A1</classification><fingerprints><md5>' + b"ab" * 16
    yield b"\5%%%% HASHDEEP-1.0\n%%%% size,md5,filename\n1," + b"ab" * 16 + b",a,b\n"
    yield (
        b'\4<queryResult xmlns="https://hashsharing.ncmec.org/hashsharing/v2"><images>'
        + member
        + b"</md5></fingerprints></image></images></queryResult>"
    )


def check(path: Path, content: bytes) -> None:
    """Read a file whose first byte chooses the reader, or none, and check what comes."""
    path.write_bytes(content[1:])
    chosen = content[0] if content else 0
    found = outcome(path, FORMATS[chosen] if chosen < len(FORMATS) else None)
    if found and isinstance(found[0], FileEntry | Skip):
        with mock.patch.object(json_stream, "_NEXT_OBJECT", mock.Mock(match=lambda *_: None)):
            assert found == outcome(path, FORMATS[chosen] if chosen < len(FORMATS) else None), "one by one it is something else"


def outcome(path: Path, format_name: str | None) -> list[Any]:
    """Return the entries, checked, or the error's text."""
    try:
        entries = list(open_hash_file(path, format_name=format_name, algorithm="md5").entries())
    except FormatError as error:
        return [str(error)]
    for entry in entries:
        if isinstance(entry, FileEntry):
            assert entry.codes or entry.retracts
            assert all(type(code) is bytes and len(code) == _LENGTHS[name] for name, code in entry.codes.items())
            for name, value in entry.values.items():
                assert name == "source_id" or field_value(name, field_text(name, value)) == value or name not in FIELDS, name
        else:
            assert entry.reason
    return entries


def main() -> None:
    """Run for so many seconds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=300)
    parser.add_argument("--corpus", type=Path, help="keeps what was found for the next run")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="vidfed-fuzz-") as name:
        corpus = options.corpus or Path(name, "corpus")
        corpus.mkdir(exist_ok=True)
        for number, seed in enumerate(seeds()):
            (corpus / f"seed-{number}").write_bytes(seed)
        file = Path(name, "file")
        found = tempfile.mkdtemp(prefix="vidfed-fuzz-found-")
        sys.stderr.write(f"what breaks is left in {found}\n")
        limits = [f"-artifact_prefix={found}/", f"-max_total_time={options.seconds}", "-max_len=4096", "-timeout=10", "-rss_limit_mb=1024"]
        atheris.Setup([sys.argv[0], *limits, str(corpus)], lambda content: check(file, content))
        atheris.Fuzz()


if __name__ == "__main__":
    main()
