"""The first form: what `schema` says. Nothing has shipped yet, so it follows that file; with the first release it is written out here."""

from __future__ import annotations

from alembic import op

from vidfed.node.records.schema import metadata

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the tables."""
    metadata.create_all(op.get_bind())
