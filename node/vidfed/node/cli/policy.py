"""`vidfed node policy ...`: whether the policy file is right, and whom it tells what. Thin: parse, call, print."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vidfed.cli.terminal import HELP, HOME, JSON, note, print_json, progress, say
from vidfed.node.cli.options import COMMAND

if TYPE_CHECKING:
    from vidfed.security.member.home import MemberHome


@click.group(context_settings=HELP)
def policy() -> None:
    r"""Check the policy, see what it does, and change it.

    \b
    Change it deliberately:
      vidfed node policy check new.toml       is it right, and what does it say?
      vidfed node policy explain --policy new.toml --member fr --record REFERENCE
      vidfed node policy apply new.toml       who gains and loses what; asks, then installs it whole
    """


@policy.command(cls=COMMAND)
@click.argument("file", required=False, type=click.Path(path_type=Path, dir_okay=False, exists=True))
@HOME
@JSON
def check(home: Path, file: Path | None, as_json: bool) -> None:
    """Read the policy, or FILE before it becomes the policy, and show its rules. Nothing is changed.

    What cannot be understood is an error and ends with status 1. A rule that never decides because an earlier one does is a warning, and
    so is a withheld series or tag that no record has: a typo there would withhold nothing. The audit log says who looked.
    """
    from vidfed.node.operations.operator_audit import Operation, log_operation
    from vidfed.node.policy.file import POLICY_FILE, read_own_policy
    from vidfed.node.policy.lint import lint
    from vidfed.node.records.known import open_store
    from vidfed.security.clock import system_clock
    from vidfed.security.member.home import MemberHome

    member_home = MemberHome(home)
    path = file or home / POLICY_FILE
    members = _members(member_home)
    found = read_own_policy(member_home, members, path)
    with open_store(member_home, reads_only=True) as store:
        if found.rules:  # whether any record is of a series, has a tag
            log_operation(member_home, Operation.CONSULTATION, "READ", records=0, now_ms=system_clock())
        warnings = list(lint(store, found))
    if members is not None:
        warnings += [f"{stranger} is named and is not in the trust directory any more" for stranger in found.strangers(members)]
    if as_json:
        import json

        print_json({"schema": "vidfed.policy-check/1", "file": str(path), "rules": json.loads(found.to_json()), "warnings": warnings})
        return
    for warning in warnings:
        note(f"Warning: {warning}")
    for number, rule in enumerate(found.rules, 1):
        roles = f" with one of the roles {', '.join(sorted(rule.roles))}" if rule.roles else ""
        purposes = ", ".join(sorted(purpose.code for purpose in rule.purposes))
        say(f"{number}. {rule.name}: {', '.join(sorted(rule.members))}{roles}, for {purposes}")
    say(f"{path}: {len(found.rules)} rules" if found.rules else f"{path}: no rule, so nobody is answered")


@policy.command(cls=COMMAND)
@click.option("--member", required=True, help="Who would ask.")
@click.option("--role", "roles", multiple=True, help="A role of the person who would ask; may be repeated.")
@click.option("--purpose", help="Why.  [default: each purpose in turn]")
@click.option("--record", "reference", required=True, metavar="REFERENCE", help="The record's reference.")
@click.option("--policy", "file", type=click.Path(path_type=Path, dir_okay=False, exists=True), help="A file that is not the policy yet.")
@HOME
@JSON
def explain(home: Path, member: str, roles: tuple[str, ...], purpose: str | None, reference: str, file: Path | None, as_json: bool) -> None:
    """Show step by step why a member would or would not be told of a record. The audit log says who looked at it."""
    from vidfed.node.operations.operator_audit import Operation, log_operation
    from vidfed.node.policy.explain import explain as explained
    from vidfed.node.policy.file import read_own_policy
    from vidfed.node.policy.policy import Requester
    from vidfed.node.records.known import open_store
    from vidfed.node.records.lifecycle import stored_record
    from vidfed.security.clock import system_clock
    from vidfed.security.documents import ROLES
    from vidfed.security.member.home import MemberHome
    from vidfed.wire.values import Purpose

    known = {each.code: each for each in Purpose}
    if purpose is not None and purpose not in known:
        raise click.BadParameter(f"{purpose!r} is unknown; known are {', '.join(known)}", param_hint="--purpose")
    if unknown := [role for role in roles if role not in ROLES]:
        raise click.BadParameter(f"{unknown[0]!r} is unknown; known are {', '.join(ROLES)}", param_hint="--role")
    member_home = MemberHome(home)
    members = _members(member_home)
    found = read_own_policy(member_home, members, file)
    with open_store(member_home, reads_only=True) as store:
        log_operation(member_home, Operation.CONSULTATION, "READ", records=1, reference=reference, now_ms=system_clock())
        kept = stored_record(store, reference)
    askers = [Requester(member, frozenset(roles), each) for each in ([known[purpose]] if purpose else Purpose)]
    explanations = [explained(found, asker, kept, members) for asker in askers]
    if as_json:
        print_json([each.to_fields() for each in explanations])
        return
    for each in explanations:
        for line in each.lines():
            say(line)


@policy.command(cls=COMMAND)
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.option("--dry-run", is_flag=True, help="Show what would change, and install nothing.")
@click.option("--yes", is_flag=True, help="Install it without asking, as scripts do.")
@HOME
@JSON
def apply(home: Path, file: Path, dry_run: bool, yes: bool, as_json: bool) -> None:
    """Make FILE the policy: check it, show who gains and loses what, ask, install it whole.

    Gains and losses are counted over the live records and all members, by the decisions a lookup takes. What was read is what is
    installed, even if FILE is changed meanwhile. A node that runs takes the new policy over within seconds and logs it;
    `vidfed node status` says so, and says it plainly where an older policy is still in force.
    """
    from vidfed.node.operations.policy_change import install, proposal
    from vidfed.node.policy.difference import SCHEMA
    from vidfed.node.policy.file import POLICY_FILE
    from vidfed.security.member.home import MemberHome

    member_home = MemberHome(home)
    with progress() as shown:
        task = shown.add_task("counting records", total=None)
        found = proposal(member_home, file, _members(member_home), lambda done, total: shown.update(task, completed=done, total=total))
    if as_json and not (yes or dry_run):
        raise click.UsageError("--json asks nothing: add --dry-run, or --yes to install it")
    installed = False
    if not as_json:
        for warning in found.warnings:
            note(f"Warning: {warning}")
        for each in found.differences:
            for line in each.lines():
                say(line)
        say(f"{file}: {len(found.policy.rules)} rules for {found.records:,} live records, in place of {found.before}")
    if not dry_run:
        if not yes and not sys.stdin.isatty():
            raise click.UsageError("nobody is there to be asked: add --yes to install it, or --dry-run")
        if not yes:
            click.confirm("Install this policy?", abort=True, err=True)
        install(member_home, found)
        installed = True
        note(f"Installed as {member_home.folder / POLICY_FILE}. A node that runs takes it over within seconds: vidfed node status")
    if as_json:
        fields = {"schema": SCHEMA, "file": str(file), "before": found.before, "records": found.records, "installed": installed}
        print_json(fields | {"warnings": found.warnings, "members": [asdict(each) for each in found.differences]})


def _members(home: MemberHome) -> list[str] | None:
    """Return the ids in the trust directory, None where there is no valid one: then ids are not looked at."""
    from vidfed.security.errors import SecurityError

    try:
        return sorted(home.directory_source().current().members)
    except SecurityError as error:
        note(f"Warning: member ids are not checked: {error}")
        return None
