"""Codes in columns of their record, its last change beside them, tombstones, imports, review dates.

A record keeps its number and the number of its last change, so that existing search indexes stay valid.
"""

from __future__ import annotations

import hashlib
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_ALGORITHMS = ("MD5", "SHA1", "SHA256", "PDQ", "PHASH", "DHASH", "AHASH", "WHASH", "PHOTODNA")
_PERCEPTUAL_KEY_ORDER = ("pdq", "phash", "dhash", "ahash", "whash", "photodna")
_PRESENT = ("md5", "sha1", "sha256", "perceptual_key", "review_ms")
_TEXTS = ("case_reference", "case_contact", "handling_note", "category", "category_scale", "category_region", "source_grading")
_BIG = sa.BigInteger().with_variant(sa.Integer, "sqlite")
_BATCH = 5_000


def _texts(*names: str) -> list[sa.Column[Any]]:
    return [sa.Column(name, sa.String, nullable=False) for name in names]


def _create() -> None:
    op.create_table(
        "imports",
        sa.Column("id", _BIG, primary_key=True, autoincrement=False),
        *_texts("file_name"),
        sa.Column("file_sha256", sa.LargeBinary),
        *_texts("format", "tool"),
        sa.Column("imported_ms", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "refused_codes",
        sa.Column("algorithm", sa.String, primary_key=True),
        sa.Column("code", sa.LargeBinary, primary_key=True),
        sa.Column("refused_ms", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "records",
        sa.Column("id", _BIG, primary_key=True, autoincrement=False),
        sa.Column("reference", sa.String, nullable=False, unique=True),
        sa.Column("version", sa.BigInteger, nullable=False, unique=True),
        *(sa.Column(name.lower(), sa.LargeBinary) for name in _ALGORITHMS),
        sa.Column("perceptual_key", sa.LargeBinary),
        sa.Column("pdq_quality", sa.Integer),
        sa.Column("size_bytes", sa.BigInteger),
        *_texts("mime_type", "series", "tags"),
        *(sa.Column(name, sa.SmallInteger, nullable=False) for name in ("victim_identified", "offender_identified", "distributed")),
        *_texts("case_reference", "case_contact"),
        sa.Column("handling_code", sa.SmallInteger, nullable=False),
        *_texts("handling_note", "category", "category_scale", "category_region", "source_grading", "information_grading"),
        *_texts("sharing", "source_id"),
        sa.Column("review_ms", sa.BigInteger),
        sa.Column("import_id", sa.BigInteger),
        sa.Column("created_ms", sa.BigInteger, nullable=False),
        sa.Column("changed_ms", sa.BigInteger, nullable=False),
        sa.Column("retracted_ms", sa.BigInteger),
        *_texts("retraction_reason"),
        sa.Column("erased_ms", sa.BigInteger),
    )
    for name in _PRESENT:
        present = sa.text(f"{name} IS NOT NULL")
        op.create_index(f"records_{name}", "records", [name], sqlite_where=present, postgresql_where=present)
    numbered = sa.text("source_id != ''")
    op.create_index("records_source_id", "records", ["source_id"], sqlite_where=numbered, postgresql_where=numbered)


def upgrade() -> None:
    """Make the new tables, move every record, drop the old tables."""
    op.rename_table("records", "records_0001")
    _create()
    codes = [f"(SELECT code FROM hashes h WHERE h.record_id = r.id AND h.algorithm = '{name}') AS {name.lower()}" for name in _ALGORITHMS]  # noqa: S608 - our own names
    ternary = [
        f"CASE {name} WHEN 'YES' THEN 1 WHEN 'NO' THEN 2 ELSE 3 END AS {name}"
        for name in ("victim_identified", "offender_identified", "distributed")
    ]
    handling = "CASE handling_code WHEN 'H0' THEN 1 WHEN 'H1' THEN 2 WHEN 'H2' THEN 3 ELSE 4 END AS handling_code"
    same = ("id", "reference", "pdq_quality", "size_bytes", "mime_type", "series", "tags", *_TEXTS, "information_grading")
    version = "(SELECT max(version) FROM changes c WHERE c.record_id = r.id) AS version"
    columns = ", ".join((*same, "created_ms", "changed_ms", version, *codes, *ternary, handling))
    connection = op.get_bind()
    batch = sa.text(f"SELECT {columns} FROM records_0001 r WHERE id > :after ORDER BY id LIMIT {_BATCH}")  # noqa: S608 - our own names
    insert, after = None, 0
    while rows := [dict(row) for row in connection.execute(batch, {"after": after}).mappings()]:
        for row in rows:
            row |= {"sharing": "", "source_id": "", "retraction_reason": "", "perceptual_key": _likeness(row)}
            row["tags"] = row["tags"] if isinstance(row["tags"], str) else _json(row["tags"])
        if insert is None:
            names = ", ".join(rows[0])
            insert = sa.text(f"INSERT INTO records ({names}) VALUES ({', '.join(f':{name}' for name in rows[0])})")  # noqa: S608
        connection.execute(insert, rows)
        after = rows[-1]["id"]
    for table in ("hashes", "changes", "records_0001", "schema"):
        op.drop_table(table)


def _likeness(row: dict[str, Any]) -> bytes | None:
    if row["md5"] or row["sha1"] or row["sha256"]:
        return None
    name = next(name for name in _PERCEPTUAL_KEY_ORDER if row[name])
    return hashlib.blake2b(name.encode() + bytes(row[name]), digest_size=16).digest()


def _json(value: object) -> str:
    import json  # noqa: PLC0415 - PostgreSQL's driver parses JSON columns, SQLite's does not

    return json.dumps(value, ensure_ascii=False)
