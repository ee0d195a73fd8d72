"""A feed over HTTPS whose server misbehaves, and a clearing house's pages."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.https import Reply, Server, serving
from vidfed.node.sources.errors import SourceReadError, SourceSettingsError
from vidfed.node.sources.remote import https
from vidfed.node.sources.remote.clearing_house import Page, read_pages
from vidfed.node.sources.remote.https import BusyServerError, HttpsClient
from vidfed.node.sources.remote.lists import rows
from vidfed.node.sources.remote.process import read_messages
from vidfed.node.sources.rows.statement import Kind

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NAMESPACE = "https://hashsharing.ncmec.org/hashsharing/v2"
NOW_MS = 1_780_000_000_000


def client(server: Server, pauses: list[float] | None = None, **settings: Any) -> HttpsClient:  # noqa: ANN401 - settings of any type
    waited = [] if pauses is None else pauses
    usual: dict[str, Any] = {"ca_pem": server.ca_pem, "timeout_s": 5.0, "sleep": waited.append}
    return HttpsClient(server.url, **usual | settings)


def after(*replies: Reply) -> Callable[[str], Reply]:
    """Give these answers one after the other, the last one for ever."""
    left = list(replies)
    return lambda _path: left.pop(0) if len(left) > 1 else left[0]


def refused(tmp_path: Path, reply: Reply, words: str, **settings: Any) -> Server:  # noqa: ANN401 - settings of any type
    with serving(after(reply), tmp_path) as server:
        with pytest.raises(SourceReadError, match=words):
            client(server, **settings).get("/list")
        return server


def test_an_answer_comes_whole(tmp_path: Path) -> None:
    body = b"x" * 700_000
    with serving(after(Reply(body, headers={"Content-Type": "text/CSV; charset=utf-8"})), tmp_path) as server:
        answer = client(server).get("/list?a=b")
    assert (answer.body, answer.content_type, server.asked) == (body, "text/csv", ["/list?a=b"])


def test_chunks_come_whole(tmp_path: Path) -> None:
    with serving(after(Reply(b"abc", chunked=True)), tmp_path) as server:
        assert client(server).get("/list").body == b"abc"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_refused_and_nobody_else_is_asked(tmp_path: Path, status: int) -> None:
    with serving(after(Reply(b"stolen")), tmp_path) as elsewhere:
        (tmp_path / "a").mkdir()
        with serving(after(Reply(status=status, headers={"Location": f"{elsewhere.url}/list"})), tmp_path / "a") as server:
            with pytest.raises(SourceReadError, match="redirects are not followed"):
                client(server, password="secret").get("/list")
            assert len(server.asked) == 1
    assert not elsewhere.asked


def test_no_proxy_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    with serving(after(Reply(b"x")), tmp_path) as server:
        assert client(server).get("/list").body == b"x"


def test_a_certificate_that_is_not_trusted_ends_it(tmp_path: Path) -> None:
    with serving(after(Reply(b"x")), tmp_path) as server:
        with pytest.raises(SourceReadError, match="certificate is not to be trusted"):
            client(server, ca_pem="").get("/list")
        assert not server.asked


def test_a_certificate_of_another_host_ends_it(tmp_path: Path) -> None:
    with serving(after(Reply(b"x")), tmp_path, host="other.example") as server:
        with pytest.raises(SourceReadError, match="certificate is not to be trusted"):
            client(server).get("/list")
        assert not server.asked


@pytest.mark.parametrize(
    "reply", [Reply(b"x" * 100, cut=1), Reply(b"x" * 100, chunked=True, cut=1), Reply(raw=b""), Reply(raw=b"SSH-2.0-x\r\n")]
)
def test_a_cut_answer_is_tried_again_and_then_an_error(tmp_path: Path, reply: Reply) -> None:
    server = refused(tmp_path, reply, "4 attempts")
    assert len(server.asked) == 4


def test_a_cut_answer_does_not_count_when_a_whole_one_follows(tmp_path: Path) -> None:
    pauses: list[float] = []
    with serving(after(Reply(b"abc", cut=1), Reply(status=502), Reply(b"abc")), tmp_path) as server:
        assert client(server, pauses).get("/list").body == b"abc"
    assert pauses == [1.0, 2.0]


def test_an_answer_whose_end_could_not_be_told_is_refused(tmp_path: Path) -> None:
    refused(tmp_path, Reply(b"abc", length=False), "neither length nor chunks")


@pytest.mark.parametrize("chunked", [True, False])
def test_an_answer_that_is_too_large_is_not_taken(tmp_path: Path, chunked: bool) -> None:
    refused(tmp_path, Reply(b"x" * 3_000_000, chunked=chunked), "most_mib", most_bytes=1 << 20)


def test_a_compressed_answer_is_refused(tmp_path: Path) -> None:
    refused(tmp_path, Reply(b"abc", headers={"Content-Encoding": "gzip"}), "compress")


@pytest.mark.parametrize(("status", "words"), [(401, "password_file"), (403, "access"), (404, "url right"), (418, "answers 418")])
def test_what_will_not_pass_is_not_tried_again(tmp_path: Path, status: int, words: str) -> None:
    server = refused(tmp_path, Reply(status=status), words, username="u", password="geheim")
    assert len(server.asked) == 1


def test_a_server_that_asks_for_a_pause_gets_it(tmp_path: Path) -> None:
    pauses: list[float] = []
    with serving(after(Reply(status=429, headers={"Retry-After": "7"}), Reply(b"x")), tmp_path) as server:
        assert client(server, pauses).get("/list").body == b"x"
    assert pauses == [7.0]


@pytest.mark.parametrize(
    ("status", "said", "seconds"), [(429, "7200", 7200.0), (503, "99999999", 86400.0), (429, "Fri, 01 Jan 2100 00:00:00 GMT", 86400.0)]
)
def test_a_server_that_asks_for_a_long_pause_ends_the_run_and_is_left_alone(tmp_path: Path, status: int, said: str, seconds: float) -> None:
    with serving(after(Reply(status=status, headers={"Retry-After": said})), tmp_path) as server:
        with pytest.raises(BusyServerError) as found:
            client(server).get("/list")
        assert len(server.asked) == 1
    assert found.value.retry_after_s == seconds


@pytest.mark.parametrize("said", ["-5", "soon", "", "1e9"])
def test_a_pause_that_makes_no_sense_is_a_bounded_one(said: str) -> None:
    assert 0.0 <= https._retry_after_s(said) <= 60.0


def test_credentials_go_to_the_server_and_into_no_error(tmp_path: Path) -> None:
    with serving(after(Reply(b"x")), tmp_path) as server:
        client(server, username="u", password="p").get("/list")
        client(server, password="token").get("/list")
    assert [each["Authorization"] for each in server.headers] == ["Basic dTpw", "Bearer token"]
    assert "geheim" not in str(refused(tmp_path, Reply(status=401), "refuses", username="u", password="geheim"))


# -- NCMEC Hash Sharing v2 --


def page(inner: str, following: str = "") -> Reply:
    paging = f"<paging><next>{following}</next></paging>" if following else ""
    return Reply(f'<?xml version="1.0" encoding="UTF-8"?><queryResult xmlns="{NAMESPACE}">{paging}{inner}</queryResult>'.encode())


def image(identity: str, digest: str = "a1" * 16, member: str = "42") -> str:
    return (
        f'<image><member id="{member}">A</member><timestamp>2026-01-01T00:00:00Z</timestamp><id>{identity}</id>'
        f"<classification>A1</classification><fingerprints><md5>{digest}</md5></fingerprints></image>"
    )


def look(tmp_path: Path, answer: Callable[[str], Reply], **settings: Any) -> tuple[list[Page], Server]:  # noqa: ANN401 - settings of any type
    with serving(answer, tmp_path) as server:
        return list(read_pages(client(server), **{"from_ms": 0, "now_ms": NOW_MS} | settings)), server


def test_pages_are_followed_to_the_last(tmp_path: Path) -> None:
    second = "/v2/entries?from=1970-01-01T00%3A00%3A00Z&amp;start=1001&amp;size=1000&amp;max=2"
    pages, server = look(
        tmp_path, after(page(f"<images>{image('a')}</images>", second), page(f"<videos>{image('b').replace('image', 'video')}</videos>"))
    )
    assert [each.key for found in pages for each in found.statements] == ["42/a", "42/b"]
    assert server.asked[0].startswith("/v2/entries?from=1970-01-01T00%3A00%3A00Z&to=")
    assert server.asked[1] == "/v2/entries?from=1970-01-01T00%3A00%3A00Z&start=1001&size=1000&max=2"


def test_a_deletion_takes_the_entry_back_that_its_member_made(tmp_path: Path) -> None:
    deleted = (
        '<images><deletedImage><member id="42">A</member><id>a</id><timestamp>2026-01-03T00:00:00Z</timestamp></deletedImage></images>'
    )
    ((found,), _) = look(tmp_path, after(page(deleted)))
    assert [(each.key, each.kind) for each in found.statements] == [("42/a", Kind.DELETED)]


def test_who_voted_does_not_own_the_entry(tmp_path: Path) -> None:
    votes = (
        '<feedback lastUpdateTimestamp="2026-01-02T00:00:00Z"><affirmativeFeedback type="Md5"><members timestamp="2026-01-02T00:00:00Z">'
        '<member id="77">Voter</member></members></affirmativeFeedback></feedback>'
    )
    ((found,), _) = look(tmp_path, after(page(f"<images>{image('a').replace('</image>', votes + '</image>')}</images>")))
    assert [each.key for each in found.statements] == ["42/a"]


@pytest.mark.parametrize(
    "following",
    ["https://elsewhere.example/steal?x=1", "//elsewhere.example/v2/other?x=1", "/v2/status?x=1", "/v2/entries", "/v2/entries?a=b c", "x"],
)
def test_a_following_page_elsewhere_is_not_asked(tmp_path: Path, following: str) -> None:
    with pytest.raises(SourceReadError, match="following page"):
        look(tmp_path, after(page(f"<images>{image('a')}</images>", following)))


def test_a_following_page_on_another_host_is_asked_of_our_own(tmp_path: Path) -> None:
    _, server = look(tmp_path, after(page("<images/>", "https://elsewhere.example/npo/v2/entries?start=2"), page("<images/>")))
    assert server.asked[1] == "/v2/entries?start=2"


def test_pages_in_a_circle_end(tmp_path: Path) -> None:
    with pytest.raises(SourceReadError, match="circle"):
        look(tmp_path, after(page("<images/>", "/v2/entries?start=2")))


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "nothing"),
        (b"<!DOCTYPE html>\n<html><head><title>Sign in</title></head></html>", "(?i)html|document type"),
        (b"<html><body>proxy</body></html>", "(?i)html|namespace"),
        (b'{"error": 1}', "cannot be used"),
        (b"\xff\xfe\x00\x01garbage", "cannot be used"),
        (f'<queryResult xmlns="{NAMESPACE}"><images>{image("a")}'.encode(), "cannot be used"),
        (f'<!DOCTYPE x [<!ENTITY a "b">]><queryResult xmlns="{NAMESPACE}">&a;</queryResult>'.encode(), "document type"),
        (f'<queryResult xmlns="{NAMESPACE[:-1]}3"></queryResult>'.encode(), "namespace"),
    ],
)
def test_what_is_no_page_changes_nothing(tmp_path: Path, body: bytes, words: str) -> None:
    with pytest.raises(SourceReadError, match=words):
        look(tmp_path, after(Reply(body)))


def test_entries_that_say_nothing_are_passed_over_alone(tmp_path: Path) -> None:
    broken = (
        '<image><member id="1">M</member><id>x</id><fingerprints></fingerprints></image>'
        f'<image><member id="1">M</member><id/><fingerprints><md5>{"b1" * 16}</md5></fingerprints></image>'
    )
    ((found,), _) = look(tmp_path, after(page(f"<images>{broken}{image('a')}</images>")))
    assert [each.key for each in found.statements if each.kind is Kind.LIVE] == ["42/a"]
    assert len(found.skipped) + sum(each.kind is Kind.UNUSABLE for each in found.statements) == 2


def test_a_server_whose_clock_is_behind_loses_no_entry(tmp_path: Path) -> None:
    """Its entries of the next minutes carry times before our now."""
    behind = page("<images/>")
    behind.headers["Date"] = "Tue, 01 Jul 2025 00:00:00 GMT"
    ((found,), _) = look(tmp_path, after(behind))
    assert found.until_ms <= 1_751_328_000_000


def test_a_broken_look_goes_on_at_its_last_page(tmp_path: Path) -> None:
    resumed = {"rest": "/v2/entries?start=2001", "until_ms": 77}
    ((found,), server) = look(tmp_path, after(page(f"<images>{image('a')}</images>")), resume=resumed)
    assert server.asked == ["/v2/entries?start=2001"]
    assert found.until_ms == 77


def test_the_reading_process_reads_a_clearing_house(tmp_path: Path) -> None:
    with serving(
        after(page(f"<images>{image('a')}</images>", "/v2/entries?start=2"), page(f"<images>{image('b')}</images>")), tmp_path
    ) as server:
        task = {"task": "ncmec", "client": {"address": server.url, "ca_pem": server.ca_pem}, "from_ms": 0, "now_ms": NOW_MS}
        messages = list(read_messages(task))
    assert [list(each) for each in messages] == [["rows"], ["page"], ["rows"], ["page"], ["end"]]


def test_the_reading_process_hands_on_how_long_a_server_wants_to_be_left_alone(tmp_path: Path) -> None:
    with serving(after(Reply(status=429, headers={"Retry-After": "7200"})), tmp_path) as server:
        task = {"task": "ncmec", "client": {"address": server.url, "ca_pem": server.ca_pem}, "from_ms": 0, "now_ms": NOW_MS}
        with pytest.raises(BusyServerError) as found:
            list(read_messages(task))
    assert found.value.retry_after_s == 7200.0


# -- lists --


@pytest.mark.parametrize(
    "body",
    [
        b"id;md5;note\r\n1;aa;x\r\n2;bb;y\r\n",
        b'\xef\xbb\xbfID,MD5\n"1",aa\n\n2,bb\n',
        json.dumps([{"id": "1", "md5": "aa"}, {"id": "2", "md5": "bb"}]).encode(),
        b'{"id": "1", "md5": "aa"}\n{"id": "2", "md5": "bb"}\n',
        "id,md5\n1,aa\n2,bb\n".encode("utf-16"),
    ],
    ids=["csv", "csv with BOM", "json", "ndjson", "utf-16"],
)
def test_a_list_is_read_in_each_form(body: bytes) -> None:
    assert list(rows(body, ("md5", "id") if b"ID" not in body else ("MD5", "ID"))) == [["aa", "1"], ["bb", "2"]]


def test_a_list_further_down_is_found() -> None:
    assert list(rows(b'{"data": {"items": [{"md5": "aa"}]}}', ("md5",), "data.items")) == [["aa"]]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "empty"),
        (b"<html><body>Sign in", "HTML"),
        (b"<?xml version='1.0'?><a/>", "XML"),
        (b'[{"md5": "aa"', "cut"),
        (b'id,md5\n1,"aa\n', "cut"),
        (b"[" * 100_000, "deep|cut"),
        (b"\xff\xff\xff", "UTF"),
    ],
)
def test_what_is_no_list_is_said_to_be_none(body: bytes, words: str) -> None:
    with pytest.raises(SourceReadError, match=words):
        list(rows(body, ("md5",)))


def test_a_column_that_is_not_there_is_named() -> None:
    with pytest.raises(SourceSettingsError, match="no column 'sha1'; it has md5"):
        list(rows(b"md5\naa\n", ("sha1",)))
