"""The tables of the record store, as they are now. How older stores get here: migrations/.

One row for each record, with its digests and the codes of what it shows as a whole in columns: a lookup, a change and an import each touch
one row. Its further codes (of renderings, variants, frames, moments of a film) are rows of `codes`, which most records have none of. A row
of `records` is never deleted, so that numbers are not given twice and a tombstone stays; erasing empties it.

In the indexes a code's label is its record's number and its own place among the record's codes, so that nothing has to be looked up between
them: `label = record << PLACE_BITS | place`, place 0 being the columns.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from vidfed.formats.fields import FIELDS, Kind
from vidfed.index import Algorithm

REVISION = "0001"
"""The newest file in migrations/versions; a test keeps them equal."""

PLACE_BITS = 16
"""Of a label in an index; the others are the record's number."""
MAX_PLACES = (1 << PLACE_BITS) - 1
"""Further codes of one record: a film's, four a second, of four and a half hours."""

metadata = sa.MetaData()
_BIG = sa.BigInteger().with_variant(sa.Integer, "sqlite")  # SQLite numbers rows itself only in a column of type INTEGER

# Texts in a list are kept as JSON; three-valued fields and the handling code as their numbers on the wire.
_TYPES: dict[Kind, type[sa.types.TypeEngine[Any]]] = {
    Kind.TEXT: sa.String,
    Kind.TEXTS: sa.String,
    Kind.TERNARY: sa.SmallInteger,
    Kind.HANDLING: sa.SmallInteger,
    Kind.SMALL_NUMBER: sa.Integer,
    Kind.NUMBER: sa.BigInteger,
    Kind.MOMENT: sa.BigInteger,
}

imports = sa.Table(
    "imports",
    metadata,
    sa.Column("id", _BIG, primary_key=True, autoincrement=False),
    sa.Column("file_name", sa.String, nullable=False),
    sa.Column("file_sha256", sa.LargeBinary),
    sa.Column("format", sa.String, nullable=False),
    sa.Column("tool", sa.String, nullable=False),
    sa.Column("imported_ms", sa.BigInteger, nullable=False),
)

records = sa.Table(
    "records",
    metadata,
    sa.Column("id", _BIG, primary_key=True, autoincrement=False),
    sa.Column("reference", sa.String, nullable=False, unique=True),
    # The number of the last change to this row, over all rows; whoever keeps an index follows it.
    sa.Column("version", sa.BigInteger, nullable=False, unique=True),
    *(sa.Column(algorithm.value, sa.LargeBinary) for algorithm in Algorithm),
    # Places given to further codes so far, in `codes`; the number never shrinks, so that no place is given twice.
    sa.Column("places", sa.Integer, nullable=False, server_default="0"),
    # Digest of the strongest perceptual hash of a record that has no digest of a file; by it an item is recognised when imported again.
    sa.Column("perceptual_key", sa.LargeBinary),
    *(sa.Column(field.name, _TYPES[field.kind], nullable=field.kind.absent is None) for field in FIELDS.values()),
    # The source that is in charge of the record, empty for what was taken in by hand; `source_id` is its key there. Records of different
    # sources are different statements, also about one file.
    sa.Column("source", sa.String, nullable=False, server_default=""),
    sa.Column("fingerprint", sa.LargeBinary),  # of what the source said last; of an erased record, of its key: it is never taken in again
    sa.Column("edited", sa.String, nullable=False, server_default=""),  # names of the fields set by hand, with commas: imports leave them
    sa.Column("import_id", sa.BigInteger),
    sa.Column("created_ms", sa.BigInteger, nullable=False),
    sa.Column("changed_ms", sa.BigInteger, nullable=False),
    sa.Column("retracted_ms", sa.BigInteger),
    sa.Column("retraction_reason", sa.String, nullable=False),
    sa.Column("erased_ms", sa.BigInteger),
)

for _name in ("md5", "sha1", "sha256", "perceptual_key", "review_ms"):
    _present = records.c[_name].is_not(None)
    sa.Index(f"records_{_name}", records.c[_name], sqlite_where=_present, postgresql_where=_present)
_numbered = records.c.source_id != ""
sa.Index("records_source_id", records.c.source, records.c.source_id, sqlite_where=_numbered, postgresql_where=_numbered)
_erased = records.c.erased_ms.is_not(None)
sa.Index("records_erased_ms", records.c.erased_ms, sqlite_where=_erased, postgresql_where=_erased)

sources = sa.Table(
    "sources",
    metadata,
    # One row for each source that was ever followed and not removed: what is known of its records, changed with them in one transaction.
    sa.Column("name", sa.String, primary_key=True),
    sa.Column("kind", sa.String, nullable=False),
    sa.Column("import_id", sa.BigInteger, nullable=False),
    sa.Column("late_after_ms", sa.BigInteger, nullable=False),  # when it is behind, after its records were last known to be current
    sa.Column("as_of_ms", sa.BigInteger, nullable=False),  # its records are what it said at this moment; 0: it was never read
    sa.Column("compared_ms", sa.BigInteger, nullable=False),  # when everything was compared last; 0: never
    sa.Column("cursor", sa.String, nullable=False),  # where the next look at its changes begins
    sa.Column("live", sa.BigInteger, nullable=False),  # its live records, as of the last run
)

codes = sa.Table(
    "codes",
    metadata,
    # A record's further codes, in the order of their labels, which is that of records and places.
    sa.Column("label", _BIG, primary_key=True, autoincrement=False),
    sa.Column("algorithm", sa.String, nullable=False),
    sa.Column("code", sa.LargeBinary, nullable=False),
    sa.Column("kind", sa.String, nullable=False),  # what it is the code of, as `vidfed.index.Code.kind`
    sa.Column("quality", sa.SmallInteger),
)

commits = sa.Table(
    "commits",
    metadata,
    # One row for the making of the store, version 0, and one for each transaction that changed records: the last version it gave. Each has
    # a random mark. Two stores with the same mark at a version have the same history up to it; a store put back from a copy and changed
    # since has not.
    sa.Column("version", _BIG, primary_key=True, autoincrement=False),
    sa.Column("mark", sa.String, nullable=False),
)

repeated_codes = sa.Table(
    "repeated_codes",
    metadata,
    # Perceptual hashes that one import had on many unrelated items, by a fingerprint: they themselves go when their records are erased.
    sa.Column("number", _BIG, primary_key=True, autoincrement=False),
    sa.Column("algorithm", sa.String, nullable=False),
    sa.Column("fingerprint", sa.LargeBinary, nullable=False),
    sa.Column("import_id", sa.BigInteger, nullable=False),
    sa.Column("records", sa.BigInteger, nullable=False),  # of the import that had it
    sa.Column("evidence", sa.String, nullable=False),  # what else is known of these says of it
    sa.Column("confirmed", sa.Boolean, nullable=False),  # that says they are one picture
    sa.Column("is_aside", sa.Boolean, nullable=False),  # it is in `codes_aside` for now, not with the records
    sa.Column("decision", sa.String, nullable=False),  # an operator's: keep, refuse, or none yet
    sa.Column("reason", sa.String, nullable=False),
    sa.Column("found_ms", sa.BigInteger, nullable=False),
    sa.Column("decided_ms", sa.BigInteger),
    # Set for a frame that very many films share (`shared_frames`): its code; what is near it is that frame too. It is nobody's alone, so
    # it stays when a film is erased.
    sa.Column("frame", sa.LargeBinary),
)

codes_aside = sa.Table(
    "codes_aside",
    metadata,
    # What was set aside from a record, to be had back; lookups and indexes do not see it.
    sa.Column("record", _BIG, primary_key=True, autoincrement=False),
    sa.Column("algorithm", sa.String, primary_key=True),
    sa.Column("code", sa.LargeBinary, primary_key=True),
    sa.Column("kind", sa.String, nullable=False),  # as in `codes`; empty: the record's own row held it
    sa.Column("quality", sa.SmallInteger),
    sa.Column("repeated", sa.BigInteger, nullable=False, index=True),
)
