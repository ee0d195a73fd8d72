"""`vidfed node ...`: the national unit's commands. Thin: parse, call, print."""

from __future__ import annotations

from pathlib import Path

import click

from vidfed.cli.terminal import HELP, HOME, JSON, note, print_json, say
from vidfed.node.cli.backups import adopt_store, backup, backup_key, restore
from vidfed.node.cli.files import export, import_, migrate, scales
from vidfed.node.cli.ingest import ingest
from vidfed.node.cli.known_good import known_good
from vidfed.node.cli.membership import check, doctor, passphrase, request, rotate, submit
from vidfed.node.cli.news import news
from vidfed.node.cli.options import COMMAND
from vidfed.node.cli.policy import policy
from vidfed.node.cli.records import records
from vidfed.node.cli.repeats import repeats
from vidfed.node.cli.sources import source


@click.group(context_settings=HELP)
def node() -> None:
    """Set up, fill and run a member's node."""


@node.command(cls=COMMAND)
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
    from vidfed.node.policy.file import POLICY_FILE, render_policy
    from vidfed.node.records.known import make_store
    from vidfed.node.search.canary import CANARY, make_canary
    from vidfed.security.clock import system_clock
    from vidfed.security.documents import MAX_CONTACT_CHARS, MAX_NAME_CHARS, check_endpoint, check_line
    from vidfed.security.errors import HomeError
    from vidfed.security.files import write_whole
    from vidfed.security.member.home import create_home
    from vidfed.security.trust.anchor import Anchor
    from vidfed.security.trust.entry import Entry
    from vidfed.wire.capabilities import SPOKEN

    root = Anchor.load(anchor)
    check_endpoint(endpoint, HomeError, "--endpoint")
    check_line(name, MAX_NAME_CHARS, HomeError, "--name")
    check_line(contact, MAX_CONTACT_CHARS, HomeError, "--contact")
    for option, address in (("--listen", listen), ("--gateway-listen", gateway_listen)):
        if address is not None:
            check_endpoint(address, HomeError, option, any_port=True)
    config = render_config(
        federation=root.federation,
        member=member,
        name=name,
        contact=contact,
        listen=listen or f"0.0.0.0:{endpoint.rpartition(':')[2]}",
        gateway_listen=gateway_listen,
        directory_folder=str(directory.absolute()) if directory else "",
    )
    home = create_home(folder, config=config, endpoint=endpoint, anchor=root, speaks=SPOKEN)
    write_whole(folder / POLICY_FILE, render_policy(answer_members).encode())
    make_store(home)
    make_canary(folder / CANARY, root.federation, member, now_ms=system_clock())
    note(f"Made {folder} for member {member} of federation {root.federation}.")
    note(f"  words         {Entry.load(home.entry_path).words}  (read them to the administrators over the phone)")
    note(f"  configuration {home.config_path}")
    note("Next:")
    note(f"  1. hand {home.entry_path} to the federation's administrators, who sign it into the trust directory")
    if not answer_members:
        note(f"  2. say in {folder / POLICY_FILE} whom this node answers; so far nobody")
    note(f"  {2 if answer_members else 3}. vidfed node ingest PICTURES --home {folder} ..., then: vidfed node serve --home {folder}")


@node.command(cls=COMMAND)
@HOME
@click.option("--worker", type=click.IntRange(min=0), hidden=True, help="Be this worker of a node that runs in several processes.")
@click.option("--listen", hidden=True, help="Where that node listens.")
def serve(home: Path, worker: int | None, listen: str | None) -> None:
    """Answer the other members' lookups until SIGTERM or Ctrl-C.

    With [node] workers above 1 this process starts that many others and keeps them running.
    """
    import asyncio
    import os

    from vidfed.node.config import NodeSection
    from vidfed.rpc.counting import counting_in
    from vidfed.security.lockfile import check_not_serving
    from vidfed.security.member.home import MemberHome
    from vidfed.security.member.logs import start_logging

    member_home = MemberHome(home)
    start_logging(member_home, "node")
    section = member_home.section("node", NodeSection)
    count = section.workers or os.cpu_count() or 1

    def started(address: str) -> None:
        say(f"node {member_home.member} answers on {address}")

    if worker is not None:
        from vidfed.node.serving.server import Share
        from vidfed.node.serving.server import serve as serve_node
        from vidfed.node.serving.workers import stop_with_parent

        stop_with_parent()
        asyncio.run(serve_node(member_home, started, Share(worker, listen or section.listen)))
        return
    check_not_serving(member_home.state_file("serving"), "node")
    with counting_in(member_home.state_file("metrics"), "node"):
        from vidfed.node.serving.metrics import serving_node_metrics

        with serving_node_metrics(member_home):
            if count > 1:
                from vidfed.node.serving.workers import serve_with_workers

                asyncio.run(serve_with_workers(member_home, count, started))
            else:
                from vidfed.node.serving.server import serve as serve_node

                asyncio.run(serve_node(member_home, started))


@node.command(cls=COMMAND)
@HOME
@JSON
def status(home: Path, as_json: bool) -> None:
    """Show what the node holds, how current its index is, what it trusts, and whether it runs."""
    from vidfed.node.operations.status import read_status
    from vidfed.security.member.home import MemberHome

    found = read_status(MemberHome(home))
    if as_json:
        print_json(found.to_fields())
    else:
        for label, value in found.lines():
            say(f"{label:<16} {value}")


@node.command(cls=COMMAND)
@HOME
def health(home: Path) -> None:
    """Ask this member's running node, over its own mutual TLS, whether it answers lookups now. Exit status 0 if it does, 1 if not.

    For a container's or a service manager's probe.
    """
    from vidfed.node.serving.health import ask_health
    from vidfed.security.member.home import MemberHome

    said = ask_health(MemberHome(home))
    say(said)
    if said != "SERVING":
        raise SystemExit(1)


_COMMANDS = (
    *(doctor, ingest, import_, export, known_good, records, repeats, news, source, policy, scales),
    *(backup, backup_key, restore, adopt_store, migrate),
    *(request, rotate, submit, check, passphrase),
)
for _command in _COMMANDS:
    node.add_command(_command)
