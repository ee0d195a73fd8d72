"""`vidfed node ...`: the national unit's commands. Thin: parse, call, print."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from vidfed.cli.terminal import HELP, note, print_json, progress, reporting
from vidfed.index.errors import HashError
from vidfed.node.errors import NodeError
from vidfed.security.errors import SecurityError
from vidfed.wire.errors import WireError

if TYPE_CHECKING:
    from collections.abc import Callable

    from vidfed.node.records import Record
    from vidfed.node.store import UpsertReport

_COMMAND = reporting(NodeError, SecurityError, HashError, WireError)
_HOME = click.option(
    "--home",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(),
    envvar="VIDFED_HOME",
    show_default="the current folder, or $VIDFED_HOME",
    help="The member's folder, made by `vidfed node init`.",
)


@click.group(context_settings=HELP)
def node() -> None:
    """Set up, fill and run a member's node."""


@node.command(cls=_COMMAND)
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--member", required=True, help="Short id of this member, e.g. nl.")
@click.option("--name", required=True, help="The unit's name, for people.")
@click.option("--contact", required=True, help="Whom other members call about a hit.")
@click.option("--anchor", type=click.Path(path_type=Path, dir_okay=False), required=True, help="The federation's anchor file.")
@click.option("--endpoint", required=True, help="host:port under which the other members reach this node.")
@click.option("--listen", help="host:port on which the node listens.  [default: the endpoint's port on every address]")
@click.option("--gateway-listen", default="127.0.0.1:7444", show_default=True, help="host:port for this member's own investigators.")
@click.option("--directory", type=click.Path(path_type=Path, file_okay=False), help="A folder in which the administrators publish.")
@click.option("--answer", "answer_members", multiple=True, metavar="MEMBER", help="A member to answer; may be repeated. Default: nobody.")
def init(
    folder: Path,
    member: str,
    name: str,
    contact: str,
    anchor: Path,
    endpoint: str,
    listen: str | None,
    gateway_listen: str,
    directory: Path | None,
    answer_members: tuple[str, ...],
) -> None:
    """Make FOLDER with keys, certificates, configuration and an empty store.

    The file member.json in it goes to the federation's administrators, who add it to the trust directory.
    """
    from vidfed.node.config import render_config
    from vidfed.node.store import RecordStore
    from vidfed.security.home import create_home
    from vidfed.security.trust.anchor import Anchor
    from vidfed.security.trust.entry import Entry

    root = Anchor.load(anchor)
    config = render_config(
        federation=root.federation,
        member=member,
        name=name,
        contact=contact,
        listen=listen or f"0.0.0.0:{endpoint.rpartition(':')[2]}",
        gateway_listen=gateway_listen,
        directory_folder=str(directory.absolute()) if directory else "",
        answer_members=answer_members,
    )
    home = create_home(folder, config=config, endpoint=endpoint, anchor=root)
    RecordStore(folder / "store/records.db").close()
    note(f"Made {folder} for member {member} of federation {root.federation}.")
    note(f"  words         {Entry.load(home.entry_path).words}  (read them to the administrators over the phone)")
    note(f"  configuration {home.config_path}")
    note("Next:")
    note(f"  1. hand {home.entry_path} to the federation's administrators, who sign it into the trust directory")
    if not answer_members:
        note("  2. say in [policy] answer_members whom this node answers; so far nobody")
    note(f"  {2 if answer_members else 3}. vidfed node ingest PICTURES --home {folder} ..., then: vidfed node serve --home {folder}")


def _describe(function: Callable[..., None]) -> Callable[..., None]:
    """Options that say what is known about all the records taken in."""
    options = (
        click.option("--series", default="", help="Series the pictures belong to."),
        click.option("--case", "case_reference", default="", help="Reference of the case they come from."),
        click.option("--contact", "case_contact", default="", help="Whom to call about them.  [default: the member's contact]"),
        click.option("--victim-identified", default="unknown", type=click.Choice(["yes", "no", "unknown"]), show_default=True),
        click.option("--offender-identified", default="unknown", type=click.Choice(["yes", "no", "unknown"]), show_default=True),
        click.option("--handling", default="H0", type=click.Choice(["H0", "H1", "H2", "H3"]), show_default=True, help="Handling code."),
        click.option("--handling-note", default="", help="The limits that H3 stands for."),
        click.option("--json", "as_json", is_flag=True, help="Print the report as JSON."),
        _HOME,
    )
    for option in reversed(options):
        function = option(function)
    return function


def _template(**values: str) -> Record:
    from vidfed.node.intake import parse_ternary
    from vidfed.node.records import Record
    from vidfed.wire.values import MAX_TEXT, HandlingCode

    handling = HandlingCode[values.pop("handling")]
    victim, offender = (parse_ternary(values.pop(name)) for name in ("victim_identified", "offender_identified"))
    for name, value in values.items():
        if len(value) > MAX_TEXT or not value.isprintable():
            raise click.BadParameter(f"--{name.replace('_', '-')}: at most {MAX_TEXT} printable characters")
    return Record(hashes={}, handling_code=handling, victim_identified=victim, offender_identified=offender, **values)  # type: ignore[arg-type]  # texts, by the options above


@node.command(cls=_COMMAND)
@click.argument("pictures", nargs=-1, required=True, type=click.Path(path_type=Path))
@_describe
def ingest(pictures: tuple[Path, ...], home: Path, as_json: bool, **described: str) -> None:
    """Hash PICTURES (files or folders) into records. No picture is kept.

    All of them become records in one transaction at the end: interrupted, nothing has changed. Run again, a picture that is already
    known is updated, not doubled.
    """
    from vidfed.index.hashing import PictureHashes, find_pictures, hash_pictures
    from vidfed.node.intake import record_of_picture
    from vidfed.node.store import RecordStore
    from vidfed.security.clock import system_clock
    from vidfed.security.home import MemberHome

    member_home = MemberHome(home)
    template = _template(**described | {"case_contact": described["case_contact"] or member_home.identity.contact})
    paths = list(find_pictures(pictures))
    records, failures = [], []
    with progress() as bar:
        task = bar.add_task("hashing", total=len(paths))
        for result in hash_pictures(paths):
            if isinstance(result, PictureHashes):
                records.append(record_of_picture(result, template))
            else:
                failures.append(result)
                note(str(result))
            bar.advance(task)
    store = RecordStore(member_home.folder / "store/records.db")
    try:
        report = store.upsert(records, now_ms=system_clock())
    finally:
        store.close()
    _print_report(report, [str(failure) for failure in failures], "not hashed", as_json=as_json)


@node.command("import", cls=_COMMAND)
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@_describe
def import_(file: Path, home: Path, as_json: bool, **described: str) -> None:
    """Take the hashes in FILE, a CSV whose first line names its columns, into records.

    Columns: md5, sha1, sha256, pdq, phash, dhash, ahash, whash, photodna, and what else a record holds (series, victim_identified, ...).
    Options give what the file does not say. One transaction: broken or interrupted, nothing has changed. Rows that cannot be used are
    left out and listed by line; the exit status is then 1.
    """
    from vidfed.node.intake import Skipped, read_csv
    from vidfed.node.store import RecordStore
    from vidfed.security.clock import system_clock
    from vidfed.security.home import MemberHome

    member_home = MemberHome(home)
    template = _template(**described | {"case_contact": described["case_contact"] or member_home.identity.contact})
    skipped = Skipped()
    store = RecordStore(member_home.folder / "store/records.db")
    try:
        with progress() as bar:
            task = bar.add_task("importing", total=None)
            rows = read_csv(file, template, skipped, lambda line: bar.update(task, completed=line))
            report = store.upsert(rows, now_ms=system_clock())
    finally:
        store.close()
    for line in skipped.lines:
        note(f"{file}: {line}")
    _print_report(report, skipped.lines, "skipped", as_json=as_json)


def _print_report(report: UpsertReport, failures: list[str], word: str, *, as_json: bool) -> None:
    if as_json:
        counts = {"new": report.new, "updated": report.updated, "unchanged": report.unchanged}
        print_json({"schema": "vidfed.intake/1", **counts, "skipped": failures})
    else:
        click.echo(f"{report.new} new, {report.updated} updated, {report.unchanged} unchanged, {len(failures)} {word}")
    if failures:
        raise SystemExit(1)


@node.command(cls=_COMMAND)
@_HOME
def serve(home: Path) -> None:
    """Answer the other members' lookups until SIGTERM or Ctrl-C."""
    import asyncio

    from vidfed.cli.terminal import log_to_stderr
    from vidfed.node.server import serve as serve_node
    from vidfed.security.home import MemberHome

    log_to_stderr()
    member_home = MemberHome(home)
    asyncio.run(serve_node(member_home, lambda address: click.echo(f"node {member_home.member} answers on {address}")))


@node.command(cls=_COMMAND)
@_HOME
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def status(home: Path, as_json: bool) -> None:
    """Show what the node holds, how current its index is, what it trusts, and whether it runs."""
    from vidfed.node.status import read_status
    from vidfed.security.home import MemberHome

    found = read_status(MemberHome(home))
    if as_json:
        print_json(found.to_fields())
    else:
        for label, value in found.lines():
            click.echo(f"{label:<16} {value}")


@node.command(cls=_COMMAND)
@_HOME
@click.option("--endpoint", help="Another host:port under which the others reach this node.")
def request(home: Path, endpoint: str | None) -> None:
    """Make member.json anew: to join again, to live longer, or with another name, contact or endpoint."""
    from vidfed.security.home import MemberHome
    from vidfed.security.trust.own import OwnEntry

    member_home = MemberHome(home)
    made = OwnEntry(member_home).renew(endpoint=endpoint)
    note(f"Made version {made.version} of {member_home.entry_path}; words: {made.words}")
    note("Next: hand it to whoever has the online key: vidfed trust accept FOLDER member.json")
    note("  (who is not a member, or no longer, needs the administrators: vidfed trust propose add-member)")


@node.command(cls=_COMMAND)
@click.argument("what", type=click.Choice(["signing-key", "ca", "certificate"]))
@click.option("--finish", is_flag=True, help="Go over to the new one, a day after it was published.")
@_HOME
def rotate(what: str, finish: bool, home: Path) -> None:
    """Rotate a key of this member, without a ceremony: begin, publish member.json, a day later --finish, publish again.

    The node's certificate is renewed at once and needs no publishing: the member's CA stands behind it.
    """
    from vidfed.security.home import MemberHome
    from vidfed.security.tls import make_node_leaf
    from vidfed.security.trust.own import OwnEntry, write_node_tls

    member_home = MemberHome(home)
    if what == "certificate":
        write_node_tls(member_home, make_node_leaf(member_home.ca, member_home.federation, member_home.member))
        note("Made a new certificate; running services use it from the next connection on.")
        return
    own = OwnEntry(member_home)
    steps = {"signing-key": (own.begin_signing_key, own.finish_signing_key), "ca": (own.begin_ca, own.finish_ca)}
    made = steps[what][finish]()
    note(f"Made version {made.version} of {member_home.entry_path}.")
    note(f"Next: whoever has the online key: vidfed trust accept FOLDER {member_home.entry_path}")
    note("Then restart node and gateway." if finish else f"A day later: vidfed node rotate {what} --finish --home {home}")


@node.command(cls=_COMMAND)
@click.option("--to", "publisher", required=True, metavar="MEMBER", help="The member whose node publishes.")
@_HOME
def submit(publisher: str, home: Path) -> None:
    """Hand this member's newest entry (member.json) to the node that publishes, so that everybody learns of it."""
    from vidfed.security.home import MemberHome
    from vidfed.wire.trust import submit_entry

    member_home = MemberHome(home)
    directory = member_home.directory_source().last_known_or_fail()
    submit_entry(member_home.entry_path.read_bytes(), member_home.node_tls(), directory, directory.member(publisher))
    note(f"The node of {publisher} has published it.")


@node.command(cls=_COMMAND)
@_HOME
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def check(home: Path, as_json: bool) -> None:
    """Run the protocol of an accession: directory, clock, keys, permissions, TLS, disk, index, and a signed self-test of every node.

    Attach what it prints to the accession. Nothing is changed. Exit status 1 if a point fails.
    """
    from vidfed.node.check import check_node
    from vidfed.security.home import MemberHome

    report = check_node(MemberHome(home))
    if as_json:
        print_json(report.to_fields())
    else:
        for line in report.lines():
            click.echo(line)
    if not report.passed:
        raise SystemExit(1)
