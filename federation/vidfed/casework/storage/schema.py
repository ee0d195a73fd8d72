"""The tables of casework. They may stand in a database with others: each name begins with `casework_`."""

from __future__ import annotations

import sqlalchemy as sa

FORM = 1
"""Of the tables; a store of another form is refused."""

metadata = sa.MetaData()
_BIG = sa.BigInteger().with_variant(sa.Integer, "sqlite")

form = sa.Table("casework_form", metadata, sa.Column("form", sa.Integer, primary_key=True))

conversations = sa.Table(
    "casework_conversations",
    metadata,
    sa.Column("id", sa.LargeBinary, primary_key=True),
    sa.Column("asker", sa.String, nullable=False),
    sa.Column("owner", sa.String, nullable=False),
    sa.Column("reference", sa.String, nullable=False),
    # Signed times, from which both members count when contents are deleted.
    sa.Column("begun_ms", sa.BigInteger, nullable=False),
    sa.Column("closed_ms", sa.BigInteger),
)

entries = sa.Table(
    "casework_entries",
    metadata,
    sa.Column("digest", sa.LargeBinary, primary_key=True),
    # The number of the last change to this row, over all rows; a person's inbox follows it.
    sa.Column("version", _BIG, nullable=False, unique=True),
    sa.Column("conversation", sa.LargeBinary, sa.ForeignKey("casework_conversations.id"), nullable=False, index=True),
    sa.Column("side", sa.SmallInteger, nullable=False),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("place", sa.SmallInteger, nullable=False),
    sa.Column("delivery", sa.LargeBinary, nullable=False),  # a Delivery without its sealed part
    sa.Column("sealed", sa.LargeBinary, nullable=False),  # empty once deleted
    sa.Column("stored_ms", sa.BigInteger, nullable=False),
    # The receipt's envelope, and the time in it if it says TAKEN: given by us for the other's entries, by them for ours.
    sa.Column("receipt", sa.LargeBinary),
    sa.Column("received_ms", sa.BigInteger),
)
_in_chain = entries.c.place == 1
sa.Index(
    "casework_chain",
    entries.c.conversation,
    entries.c.side,
    entries.c.number,
    unique=True,
    sqlite_where=_in_chain,
    postgresql_where=_in_chain,
)

outbox = sa.Table(
    "casework_outbox",
    metadata,
    sa.Column("digest", sa.LargeBinary, sa.ForeignKey("casework_entries.digest"), primary_key=True),
    sa.Column("member", sa.String, nullable=False),
    sa.Column("conversation", sa.LargeBinary, nullable=False),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("urgent", sa.Boolean, nullable=False),
    sa.Column("since_ms", sa.BigInteger, nullable=False),
    sa.Column("next_ms", sa.BigInteger, nullable=False, index=True),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("trouble", sa.String, nullable=False),
)

wraps = sa.Table(
    "casework_wraps",
    metadata,
    # Content keys wrapped for persons of the own member after an entry was signed.
    sa.Column("digest", sa.LargeBinary, sa.ForeignKey("casework_entries.digest"), primary_key=True),
    sa.Column("key_id", sa.LargeBinary, primary_key=True),
    sa.Column("sealed_key", sa.LargeBinary, nullable=False),
)

cards = sa.Table(
    "casework_cards",
    metadata,
    # Whom contents are sealed to: own persons who registered, and officers of other members as they were fetched.
    sa.Column("member", sa.String, primary_key=True),
    sa.Column("pseudonym", sa.String, primary_key=True),
    sa.Column("made_ms", sa.BigInteger, nullable=False),
    sa.Column("card", sa.LargeBinary, nullable=False),
)

told_answers = sa.Table(
    "casework_told_answers",
    metadata,
    # Each answer by which this member told of records. Derived from its audit log, which has the answer before it leaves.
    sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("answer_digest", sa.LargeBinary, nullable=False, unique=True),
    sa.Column("lookup_digest", sa.LargeBinary, nullable=False),
    sa.Column("member", sa.String, nullable=False),
    sa.Column("pseudonym", sa.String, nullable=False),
    sa.Column("told_ms", sa.BigInteger, nullable=False, index=True),
    sa.Column("version", sa.BigInteger, nullable=False),  # of the records that were searched
)

told = sa.Table(
    "casework_told",
    metadata,
    # Which records. The key is all there is: a bulk lookup with many hits tells thousands a second.
    sa.Column("reference", sa.String, primary_key=True),
    sa.Column("answer", sa.BigInteger, primary_key=True, autoincrement=False, index=True),
    sqlite_with_rowid=False,
)

seen = sa.Table(
    "casework_seen",
    metadata,
    # Of each record that was told: digests of what matters of it, as it was when it was last looked at, at which version of the records.
    sa.Column("reference", sa.String, primary_key=True),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("fingerprint", sa.LargeBinary, nullable=False),
)

notices = sa.Table(
    "casework_notices",
    metadata,
    # News that is to go out, one row for a person of another member and a record; what happens again meanwhile joins it.
    sa.Column("number", _BIG, primary_key=True),
    sa.Column("member", sa.String, nullable=False),
    sa.Column("pseudonym", sa.String, nullable=False),
    sa.Column("reference", sa.String, nullable=False),
    sa.Column("changes", sa.Integer, nullable=False),  # a bit for each
    sa.Column("since_ms", sa.BigInteger, nullable=False),
    sa.Column("held", sa.Boolean, nullable=False),  # a person is to confirm first
    sa.Column("next_ms", sa.BigInteger, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("trouble", sa.String, nullable=False),
    sa.Column("received_ms", sa.BigInteger),  # by the signed receipt; None: nobody has confirmed
    sa.Column("receipt", sa.LargeBinary),
)
_waiting = notices.c.received_ms.is_(None)
sa.Index(
    "casework_notices_waiting",
    notices.c.member,
    notices.c.pseudonym,
    notices.c.reference,
    unique=True,
    sqlite_where=_waiting,
    postgresql_where=_waiting,
)
sa.Index("casework_notices_due", notices.c.next_ms, sqlite_where=_waiting, postgresql_where=_waiting)

news = sa.Table(
    "casework_news",
    metadata,
    # What other members say became of records that persons of this member were told.
    sa.Column("number", _BIG, primary_key=True),
    sa.Column("digest", sa.LargeBinary, nullable=False, unique=True),
    sa.Column("owner", sa.String, nullable=False),
    sa.Column("pseudonym", sa.String, nullable=False, index=True),
    sa.Column("envelope", sa.LargeBinary, nullable=False),
    sa.Column("received_ms", sa.BigInteger, nullable=False, index=True),
    sa.Column("receipt", sa.LargeBinary, nullable=False),
)

ended = sa.Table(
    "casework_ended_mandates",
    metadata,
    # All that is kept of other members' mandates: serial and end of those that ended before their time.
    sa.Column("member", sa.String, primary_key=True),
    sa.Column("serial", sa.LargeBinary, primary_key=True),
    sa.Column("until_ms", sa.BigInteger, nullable=False, index=True),
)

watches = sa.Table(
    "casework_watches",
    metadata,
    # Own persons' standing lookups. What is watched is closed with a key that is not in this database.
    sa.Column("serial", sa.LargeBinary, primary_key=True),
    sa.Column("pseudonym", sa.String, nullable=False, index=True),
    sa.Column("credential", sa.LargeBinary, nullable=False),
    sa.Column("mandate", sa.LargeBinary, nullable=False),
    sa.Column("sealing_key", sa.LargeBinary, nullable=False),  # to which hits are sealed
    sa.Column("every_ms", sa.BigInteger, nullable=False),
    sa.Column("ends_ms", sa.BigInteger, nullable=False),
    sa.Column("ended_ms", sa.BigInteger),  # before its time
)

watched = sa.Table(
    "casework_watched",
    metadata,
    sa.Column("serial", sa.LargeBinary, primary_key=True),
    sa.Column("part", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("closed", sa.LargeBinary, nullable=False),
)

rounds = sa.Table(
    "casework_watch_rounds",
    metadata,
    # How far each member has answered each part.
    sa.Column("serial", sa.LargeBinary, primary_key=True),
    sa.Column("part", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("member", sa.String, primary_key=True),
    sa.Column("epoch", sa.LargeBinary, nullable=False),
    sa.Column("answered_ms", sa.BigInteger),  # until when it is watched
    sa.Column("next_ms", sa.BigInteger, nullable=False, index=True),
    sa.Column("trouble", sa.String, nullable=False),
)

watch_ends = sa.Table(
    "casework_watch_ends",
    metadata,
    # Members that are still to be told that a mandate has ended.
    sa.Column("serial", sa.LargeBinary, primary_key=True),
    sa.Column("member", sa.String, primary_key=True),
    sa.Column("until_ms", sa.BigInteger, nullable=False),
    sa.Column("next_ms", sa.BigInteger, nullable=False),
)

watch_hits = sa.Table(
    "casework_watch_hits",
    metadata,
    # Answers with something new, sealed to the person.
    sa.Column("number", _BIG, primary_key=True),
    sa.Column("serial", sa.LargeBinary, nullable=False, index=True),
    sa.Column("pseudonym", sa.String, nullable=False, index=True),
    sa.Column("sealed", sa.LargeBinary, nullable=False),
    sa.Column("found_ms", sa.BigInteger, nullable=False),
)

watch_known = sa.Table(
    "casework_watch_known",
    metadata,
    # Digests of the hits that were handed on already, so that a record that changes is not found again and again.
    sa.Column("serial", sa.LargeBinary, primary_key=True),
    sa.Column("hit", sa.LargeBinary, primary_key=True),
)

places = sa.Table(
    "casework_places",
    metadata,
    # How far something was read that is followed: the audit log, the records.
    sa.Column("name", sa.String, primary_key=True),
    sa.Column("reached", sa.BigInteger, nullable=False),
    sa.Column("mark", sa.String, nullable=False),
)

spent = sa.Table(
    "casework_spent",
    metadata,
    # What each member has taken of its budgets, by day.
    sa.Column("member", sa.String, primary_key=True),
    sa.Column("day", sa.Integer, primary_key=True),
    sa.Column("conversations", sa.Integer, nullable=False),
    sa.Column("entries", sa.Integer, nullable=False),
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
)
