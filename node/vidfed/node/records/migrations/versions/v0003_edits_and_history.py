"""Which fields were set by hand, and a mark for each transaction, by which an index knows the store it followed."""

from __future__ import annotations

import secrets

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_BIG = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Add a column and a table. What was edited by hand so far is not known."""
    op.add_column("records", sa.Column("edited", sa.String, nullable=False, server_default=""))
    commits = op.create_table(
        "commits",
        sa.Column("version", _BIG, primary_key=True, autoincrement=False),
        sa.Column("mark", sa.String, nullable=False),
    )
    last = op.get_bind().execute(sa.text("SELECT max(version) FROM records")).scalar()
    if last is not None:
        op.bulk_insert(commits, [{"version": last, "mark": secrets.token_hex(8)}])
