"""Which source is in charge of a record, and what is known of each source."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add columns, a table and their indexes. What was taken in so far belongs to no source."""
    op.add_column("records", sa.Column("source", sa.String, nullable=False, server_default=""))
    op.add_column("records", sa.Column("fingerprint", sa.LargeBinary))
    op.drop_index("records_source_id", "records")
    numbered, erased = sa.text("source_id != ''"), sa.text("erased_ms IS NOT NULL")
    op.create_index("records_source_id", "records", ["source", "source_id"], sqlite_where=numbered, postgresql_where=numbered)
    op.create_index("records_erased_ms", "records", ["erased_ms"], sqlite_where=erased, postgresql_where=erased)
    op.create_table(
        "sources",
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("kind", sa.String, nullable=False),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in ("import_id", "late_after_ms", "as_of_ms", "compared_ms")),
        sa.Column("cursor", sa.String, nullable=False),
        sa.Column("live", sa.BigInteger, nullable=False),
    )
