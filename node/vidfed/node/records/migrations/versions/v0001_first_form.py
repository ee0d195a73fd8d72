"""The first form: codes in a table of their own, changes in a log. It was made without migrations."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_TERNARY = sa.Enum("YES", "NO", "UNKNOWN", name="ternary", native_enum=False)
_HANDLING = sa.Enum("H0", "H1", "H2", "H3", name="handlingcode", native_enum=False)
_ALGORITHM = sa.Enum("MD5", "SHA1", "SHA256", "PDQ", "PHASH", "DHASH", "AHASH", "WHASH", "PHOTODNA", name="algorithm", native_enum=False)


def upgrade() -> None:
    """Make the tables."""
    texts = ("case_reference", "case_contact", "handling_note", "category", "category_scale", "category_region")
    op.create_table("schema", sa.Column("version", sa.Integer, nullable=False))
    op.create_table(
        "records",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("reference", sa.String, nullable=False, unique=True),
        sa.Column("identity", sa.String, nullable=False, unique=True),
        sa.Column("pdq_quality", sa.Integer),
        sa.Column("size_bytes", sa.BigInteger),
        *(sa.Column(name, sa.String, nullable=False) for name in ("mime_type", "series")),
        sa.Column("tags", sa.JSON, nullable=False),
        *(sa.Column(name, _TERNARY, nullable=False) for name in ("victim_identified", "offender_identified", "distributed")),
        sa.Column("handling_code", _HANDLING, nullable=False),
        *(sa.Column(name, sa.String, nullable=False) for name in (*texts, "source_grading", "information_grading")),
        sa.Column("created_ms", sa.BigInteger, nullable=False),
        sa.Column("changed_ms", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "hashes",
        sa.Column("record_id", sa.Integer, sa.ForeignKey("records.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("algorithm", _ALGORITHM, primary_key=True),
        sa.Column("code", sa.LargeBinary, nullable=False),
    )
    op.create_index("hashes_by_code", "hashes", ["algorithm", "code"])
    op.create_table(
        "changes",
        sa.Column("version", sa.Integer, primary_key=True),
        sa.Column("record_id", sa.Integer, nullable=False),
        sa.Column("changed_ms", sa.BigInteger, nullable=False),
        sqlite_autoincrement=True,
    )
