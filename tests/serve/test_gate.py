"""Who may ask: other hosts, other sites and those without the token are refused before anything is read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from served_world import ORIGIN, TOKEN, ServedWorld
from whence.cli.serve import _token
from whence.errors import InputError
from whence.serve.gate import OPEN, Rate
from whence.serve.settings import ServerSettings

Serve = Callable[..., TestClient]
PAGES = ["/", "/v1/index", "/v1/rows", "/metrics", "/v1/openapi.json", "/nothing"]


def three_parts(answer: object) -> bool:
    return set(answer.json()["error"]) == {"found", "expected", "fix"}  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8642", "127.0.0.1.evil.example", "", "[::2]", "0.0.0.0"]
)
def test_a_name_that_was_bound_to_loopback_is_refused(client: TestClient, host: str) -> None:
    for path in PAGES:
        answer = client.get(path, headers={"host": host})
        assert answer.status_code == 421, (path, answer.text)
        assert three_parts(answer)


@pytest.mark.parametrize("host", ["localhost", "localhost:9000", "127.0.0.1:8642", "[::1]:8642", "LOCALHOST"])
def test_loopback_names_are_answered_on_any_port(client: TestClient, host: str) -> None:
    assert client.get("/v1/index", headers={"host": host}).status_code == 200


def test_a_proxys_name_is_answered_where_it_is_allowed(serve: Serve) -> None:
    client = serve(allow_hosts=("whence.example",))
    assert client.get("/v1/index", headers={"host": "whence.example"}).status_code == 200
    assert client.get("/v1/index", headers={"host": "other.example"}).status_code == 421


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:9999"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
def test_another_sites_page_is_refused(client: TestClient, headers: dict[str, str]) -> None:
    for method, path in [("POST", "/v1/generate"), ("GET", "/v1/index"), ("DELETE", "/v1/queries/0123456789abcdef")]:
        answer = client.request(method, path, headers=headers, json={"prompt": "a"} if method == "POST" else None)
        assert answer.status_code == 403, answer.text
        assert three_parts(answer)


def test_the_own_page_is_answered_and_a_link_to_it_works(client: TestClient) -> None:
    assert client.get("/v1/index", headers={"origin": ORIGIN, "sec-fetch-site": "same-origin"}).status_code == 200
    assert client.get("/", headers={"sec-fetch-site": "cross-site"}).status_code == 200


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
def test_what_a_form_can_send_is_refused(client: TestClient, kind: str) -> None:
    answer = client.post("/v1/generate", content=b'{"prompt": "a"}', headers={"content-type": kind})
    assert answer.status_code == 415


def test_a_token_is_asked_for_everywhere_but_on_the_page_itself(serve: Serve) -> None:
    client = serve(token=TOKEN)
    for path in PAGES:
        expected = 200 if path in OPEN else 401
        assert client.get(path).status_code == expected, path
        assert client.get(f"{path}?token={TOKEN}").status_code == expected, path
    for wrong in (f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", f"Basic {TOKEN}", TOKEN, "Bearer", "Bearer \u00e9"):
        answer = client.get("/v1/index", headers={"authorization": wrong.encode("latin-1")})
        assert answer.status_code == 401, wrong
        assert answer.headers["www-authenticate"] == "Bearer"
        assert TOKEN not in answer.text
    assert client.get("/v1/index", headers={"authorization": f"Bearer {TOKEN}"}).status_code == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.2", "::", "whence.example"])
def test_other_addresses_need_a_token(host: str) -> None:
    with pytest.raises(InputError, match="no token"):
        ServerSettings(host=host)
    assert ServerSettings(host=host, token=TOKEN).token == TOKEN
    with pytest.raises(InputError, match="characters"):
        ServerSettings(host=host, token="short")


def test_a_token_may_come_with_a_newline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    monkeypatch.setenv("WHENCE_TOKEN", f" {TOKEN}\n")
    assert [_token(None), _token(tmp_path / "token")] == [TOKEN, TOKEN]
    monkeypatch.setenv("WHENCE_TOKEN", "\n")
    assert _token(None) is None


def test_large_requests_are_refused(serve: Serve) -> None:
    client = serve(max_body=1000)
    big = b'{"prompt": "' + b"a" * 2000 + b'"}'
    headers = {"content-type": "application/json"}
    assert client.post("/v1/generate", content=big, headers=headers).status_code == 413
    pieces = client.post("/v1/generate", content=iter([big[:900], big[900:]]), headers=headers)
    assert pieces.status_code == 413
    assert three_parts(pieces)
    odd = client.post("/v1/generate", content=b"{}", headers={**headers, "content-length": "-1"})
    assert 400 <= odd.status_code < 500


def test_too_many_requests_are_refused(serve: Serve) -> None:
    client = serve(rate=0.001, burst=5)
    found = [client.get("/v1/health").status_code for _ in range(8)]
    assert found[:5] == [200] * 5
    assert set(found[5:]) == {429}


def test_a_rate_fills_up_again_and_remembers_few_addresses() -> None:
    now = [0.0]
    rate = Rate(2.0, 2, lambda: now[0])
    assert [rate.allows("a") for _ in range(3)] == [True, True, False]
    assert rate.allows("b")
    now[0] = 0.5
    assert [rate.allows("a") for _ in range(2)] == [True, False]
    for number in range(3000):
        rate.allows(str(number))
    assert len(rate._left) <= 1024


def test_every_answer_has_the_policy(client: TestClient) -> None:
    for path in PAGES:
        headers = client.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "http" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert "server" not in headers
    assert client.get("/v1/index").headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    "path",
    [
        "/v1/exports/..%2f..%2f..%2fetc/cleaned",
        "/v1/exports/0123456789abcdef/..%2f..%2fstate.sqlite",
        "/v1/exports/0123456789abcdef/cleaned",
        "/../pyproject.toml",
        "/static/index.html",
        "/built.json",
        "/v1/rows/..%2f..%2fetc%2fpasswd",
    ],
)
def test_no_path_of_a_client_is_opened(client: TestClient, path: str) -> None:
    assert client.get(path).status_code in (404, 422)


def test_errors_have_no_folders_of_the_server(client: TestClient, served: ServedWorld) -> None:
    moved = served.data.rename(served.data.with_suffix(".moved"))
    try:
        row = client.get("/v1/rows").json()["rows"][0]["id"]
        answer = client.post("/v1/export", json={"rows": [row]})
    finally:
        moved.rename(served.data)
    assert answer.status_code == 400
    assert three_parts(answer)
    assert str(served.data.parent) not in answer.text


def test_a_defect_says_nothing_of_itself(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = client.app.state.service.current.get()  # type: ignore[attr-defined]
    monkeypatch.setattr(opened.rows, "page", lambda *given: 1 / 0)
    answer = client.get("/v1/rows")
    assert answer.status_code == 500
    assert "ZeroDivision" not in answer.text
    monkeypatch.setattr(opened.tracing, "generate", lambda *given: 1 / 0)
    answer = client.post("/v1/generate", json={"prompt": "a"})
    assert answer.status_code == 500
    assert "ZeroDivision" not in answer.text
