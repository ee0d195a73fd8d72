"""A node says in its member's entry what its program speaks, by itself."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest

from tests.support.sockets import SocketFederation
from vidfed.node.operations.check import WarnedError
from vidfed.node.operations.doctor import _Doctor
from vidfed.node.serving.stating import Stating
from vidfed.security.clock import HOUR_MS, system_clock
from vidfed.security.identity.capabilities import all_speak
from vidfed.security.member.audit_log import open_log
from vidfed.security.member.rotation import OwnEntry
from vidfed.wire.capabilities import SPOKEN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from vidfed.security.identity.directory import Directory
    from vidfed.security.member.home import MemberHome

LATER = "of-a-later-version"


@pytest.fixture
def federation(tmp_path: Path) -> SocketFederation:
    return SocketFederation(tmp_path, "nl", "fr")


@pytest.fixture
def stating(federation: SocketFederation) -> Iterator[Callable[..., Stating]]:
    """Makes what a node of fr runs beside the lookups, in the process that publishes."""
    with contextlib.ExitStack() as stack:

        def made(**changes: object) -> Stating:
            home = federation.homes["fr"]
            audit = stack.enter_context(contextlib.closing(open_log(home)))
            return Stating(home, home.directory_source(), audit, federation.administrators.folder, **changes)  # type: ignore[arg-type]

        yield made


def known(home: MemberHome) -> Directory:
    return home.directory_source().current()


def test_a_node_after_an_upgrade_says_what_it_speaks_now_and_after_a_way_back_what_it_speaks_then(
    federation: SocketFederation, stating: Callable[..., Stating]
) -> None:
    assert not stating().look()  # it said so when it joined
    assert stating(speaks=SPOKEN | {LATER}).look()
    assert all_speak(known(federation.homes["nl"]), ["fr"], LATER, *SPOKEN)
    assert not all_speak(known(federation.homes["nl"]), ["fr", "nl"], LATER)
    assert stating().look()
    assert not all_speak(known(federation.homes["nl"]), ["fr"], LATER)


def test_what_a_person_has_begun_is_not_published_by_the_node(federation: SocketFederation, stating: Callable[..., Stating]) -> None:
    own = OwnEntry(federation.homes["fr"])
    begun = own.begin_signing_key()
    assert not stating(speaks=SPOKEN | {LATER}).look()
    assert own.present().to_json() == begun.to_json()
    assert own.unpublished(known(federation.homes["fr"])) == ("signing_keys",)
    points = dict(_Doctor(federation.homes["fr"]).points())
    with pytest.raises(WarnedError, match="version 2 is not published: the others do not know its signing_keys: vidfed node submit"):
        points["entry"]()
    with pytest.raises(WarnedError, match=r"half done: signing-key: from .* on, vidfed node rotate signing-key --finish"):
        points["rotations"]()


def test_every_field_of_an_entry_counts_as_unpublished_until_it_is(federation: SocketFederation) -> None:
    own = OwnEntry(federation.homes["fr"])
    assert own.unpublished(known(federation.homes["fr"])) == ()
    own.renew(endpoint="127.0.0.1:2")
    own.revoke("0" * 32)
    own.replace_entry_key()
    assert own.unpublished(known(federation.homes["fr"])) == ("endpoint", "entry_key", "revoked")


def test_what_could_not_be_published_is_stated_later(federation: SocketFederation, stating: Callable[..., Stating]) -> None:
    elsewhere = stating(speaks=SPOKEN | {LATER})
    elsewhere._publisher = None
    assert not elsewhere.look()
    version = OwnEntry(federation.homes["fr"]).present().version
    assert stating(speaks=SPOKEN | {LATER}).look()
    assert OwnEntry(federation.homes["fr"]).present().version == version


def test_doctor_is_alarmed_once_nobody_confirmed_the_directory_for_half_of_its_life(federation: SocketFederation) -> None:
    administrators = federation.administrators.folder
    points = dict(_Doctor(federation.homes["fr"]).points())
    assert "is confirmed for" in points["directory age"]()
    administrators._clock = lambda: system_clock() - 13 * HOUR_MS
    federation.administrators.sign_and_publish(administrators.propose_renewal())
    points = dict(_Doctor(federation.homes["fr"]).points())
    with pytest.raises(WarnedError, match=r"online has not confirmed it for 13 hours; it ends .*: call them"):
        points["directory age"]()
