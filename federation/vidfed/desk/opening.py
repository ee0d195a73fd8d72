"""Which desk is opened with what, and its rooms: a person's kit, or on the server a member's folder."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from vidfed.desk.app import application

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from vidfed.desk.desk import Desk
    from vidfed.desk.shell.guard import Guard
    from vidfed.desk.unit import UnitDesk
    from vidfed.security.member.home import MemberHome
    from vidfed.security.member.kit import Kit


class Opened(NamedTuple):
    """A run of the desk, and how its application is made for the `host:port` that the browser may name."""

    desk: Desk | UnitDesk
    application: Callable[[Iterable[str]], Guard]


def for_kit(kit: Kit, *, practice: bool = False) -> Opened:
    """Return the desk of a person. Nothing of a node or of its search is loaded.

    Raises:
        SecurityError: the kit cannot be used.
    """
    from vidfed.desk.desk import Desk  # noqa: PLC0415 - each desk loads its own half alone
    from vidfed.desk.rooms import ask, cases, earlier, watched, whole_cases  # noqa: PLC0415

    desk = Desk(kit, practice=practice)
    rooms = [*ask.ROUTES, *earlier.ROUTES, *whole_cases.ROUTES, *watched.ROUTES, *cases.ROUTES]
    return Opened(desk, lambda shown: application(desk, rooms, shown))


def for_home(home: MemberHome, *, practice: bool = False) -> Opened:
    """Return the desk of a member's node."""
    from vidfed.desk.rooms import unit as unit_rooms  # noqa: PLC0415
    from vidfed.desk.unit import UnitDesk  # noqa: PLC0415
    from vidfed.node.errors import NodeError  # noqa: PLC0415

    desk = UnitDesk(home, practice=practice)
    return Opened(desk, lambda shown: application(desk, unit_rooms.ROUTES, shown, [NodeError]))
