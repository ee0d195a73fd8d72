"""The node's part of the configuration file, and the commented file that `vidfed node init` writes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from vidfed.security.member.home import config_text
from vidfed.security.settings import check_listen, check_not_below_zero

if TYPE_CHECKING:
    from pathlib import Path

    from vidfed.security.member.home import MemberHome


@dataclass(frozen=True, slots=True)
class NodeSection:
    """`[node]` of the configuration file.

    Attributes:
        listen: where other members' gateways connect, as `host:port`.
        workers: processes that answer lookups; 0 for as many as there are processors; `vidfed serve` wants 1.
        metrics_listen: where Prometheus reads, as `host:port` over plain HTTP, so of this machine only; empty: nowhere.
        answer_grid_ms: answers leave so many milliseconds after the question came, or a multiple of that, and by chance up to a quarter
            more; 0: as soon as they are there.
    """

    listen: str
    workers: int = 1
    metrics_listen: str = ""
    answer_grid_ms: float = 20.0

    def __post_init__(self) -> None:
        """Refuse what makes no sense."""
        check_not_below_zero(self, "answer_grid_ms")
        check_listen(self, "listen", *(["metrics_listen"] if self.metrics_listen else []))
        check_not_below_zero(self, "workers")


@dataclass(frozen=True, slots=True)
class StoreSection:
    """`[store]`: where the records are.

    Attributes:
        url: `postgresql://USER@HOST/DATABASE` (the password belongs into ~/.pgpass or PGPASSFILE), or empty for the file store/records.db.
        review_after_days: how long after being taken in a record is due for review; 0: no date is set.
        category_scales: TOML files with further category scales and mappings, relative to the member's folder.
    """

    url: str = ""
    review_after_days: int = 0
    category_scales: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what makes no sense."""
        check_not_below_zero(self, "review_after_days")


def store_location(home: MemberHome) -> Path | str:
    """Return where a member's records are, for `RecordStore`."""
    return home.section("store", StoreSection).url or home.folder / "store/records.db"


_METRICS_BEYOND = 2_000  # the port of a service's metrics is so far beyond its own
_PORTS = 65_535
_TEMPLATE = """\
# Configuration of one vidfed member. Times, sizes and rates carry their unit in their name.
# Paths are relative to this folder. Services read this file when they start.

[member]
federation = {federation}
id = {member}
name = {name}
# Whom other members call about a hit, unless a record says otherwise.
contact = {contact}

[trust]
# Where trust starts; compare its words with the administrators by telephone (`vidfed trust show`).
anchor_file = "trust/anchor.json"
# A folder in which the administrators publish; what is newer there takes effect at once, without restart. Empty: none.
directory_folder = {directory_folder}
# The administrators' folder with the online key, if this node is the one that publishes. Empty: it is not.
publish_folder = ""
# How often some other members' nodes are asked for a newer directory. 0: never.
refresh_s = 300.0
# Addresses (host:port) of members' nodes to ask as well: for a newcomer without a copy of the directory, or with one that leads to nobody.
ask = []

[node]
# Where other members' gateways connect: host:port.
listen = {listen}
# Processes that answer lookups, each with a few threads of its own and about 200 MB; 0: as many as there are processors. One keeps up with
# some hundred lookups a second. Connections, not lookups, are spread over them: more help when several members ask at once. `vidfed serve`,
# node and gateway in one process, wants 1.
workers = 1
# Where Prometheus reads what the node measures, without a password, so on this machine only. Empty: nowhere.
metrics_listen = {metrics_listen}
# Answers leave so many milliseconds after the question came, or a whole multiple of that, so that the time a record takes that is found and
# withheld cannot be measured by who asks. 0: as soon as they are there, for nodes that withhold nothing.
answer_grid_ms = 20.0

[store]
# Empty: the file store/records.db. Several processes or hosts: postgresql://USER@HOST/DATABASE (15 or newer; password in ~/.pgpass).
# A node answers from no other store than the one it had: once this is set, run `vidfed node adopt-store --make --reason "..."`.
url = ""
# Days after which a record taken in must be reviewed (`vidfed node records due`); 0: no date is set.
review_after_days = 0
# TOML files with category scales and mappings of your own, see docs/import-export.md.
category_scales = []

[gateway]
# Where this member's own investigators connect: host:port.
listen = {gateway_listen}
# Where Prometheus reads what the gateway measures.
metrics_listen = {gateway_metrics_listen}
# How long one lookup waits for the slowest member.
deadline_s = 20.0
# How long a connection to a member may take, in how many attempts; a lookup itself is never sent twice.
connect_s = 5.0
connect_attempts = 3
# Lookups at the same time: of all investigators, of one, and to one member (fewer while it does not keep up).
max_lookups = 64
max_lookups_per_investigator = 16
max_calls_per_member = 32
# A member that fails this often in a row is left alone for a while (life at risk is always tried), longer each time a trial fails too.
# Silence counts as failure only if it had breaker_slow_s.
breaker_failures = 5
breaker_open_s = 15.0
breaker_open_max_s = 300.0
breaker_slow_s = 5.0
# Answers that come after the deadline are collected this much longer. Replies are kept, readable by who asked alone, for so long and in
# so much room.
late_s = 120.0
keep_hours = 168.0
keep_max_mib = 1024

[casework]
# Where conversations about hits are kept: empty for the file state/casework.db, or postgresql://USER@HOST/DATABASE.
url = ""
# How many different officers sign a release, a refusal, a wait or a correction: 1 or 2.
officers = 1
# How long contents are kept after a conversation was closed, and at the longest.
retention_days = 90
maximum_days = 730
# For so long it is known whom this member told of which record: they can ask about it, and hear what becomes of it.
told_days = 1095
# After how long an entry that cannot be delivered is named as such. It is tried all the same.
give_up_days = 7.0
# How often a standing lookup is asked at the most, by this gateway and of this node. Shorter than 15 is for exercises.
watch_minutes = 15.0
# A program that calls somebody when another member asks; it gets no content. Empty: the log alone says so.
alarm = ""
# HOST or HOST:PORT of your own mail server, and a sender: those on duty (duty.toml) who have an address get a mail without content.
mail_host = ""
mail_from = ""

[log]
# "console" for people or "json" for machines, on stderr; "debug", "info", "warning" or "error".
format = "console"
level = "info"

[audit]
# How often the log's state is signed while it grows, and how often the other members are asked to cosign it.
checkpoint_every_s = 10.0
witness_every_s = 60.0
# After this, `vidfed audit prune` drops what entries say. Their places in the log stay, so that it can still be verified.
retention_days = 365
"""


def render_config(
    *,
    federation: str,
    member: str,
    name: str,
    contact: str,
    listen: str,
    gateway_listen: str,
    directory_folder: str,
) -> str:
    """Return the text of a new `vidfed.toml`."""
    return _TEMPLATE.format(
        federation=config_text(federation),
        member=config_text(member),
        name=config_text(name),
        contact=config_text(contact),
        directory_folder=config_text(directory_folder),
        listen=config_text(listen),
        gateway_listen=config_text(gateway_listen),
        metrics_listen=config_text(_metrics_listen(listen)),
        gateway_metrics_listen=config_text(_metrics_listen(gateway_listen)),
    )


def _metrics_listen(listen: str) -> str:
    """Return a loopback address beside this one; empty where its port is not fixed."""
    port = int(listen.rpartition(":")[2] or 0)
    return f"127.0.0.1:{port + _METRICS_BEYOND}" if 0 < port <= _PORTS - _METRICS_BEYOND else ""
