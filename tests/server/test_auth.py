"""Tokens, roles and origins: what is let in and what is refused, by code."""

import time

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.auth import (
    AUDIENCE,
    AuthConfig,
    ExposedError,
    Grant,
    Refused,
    check_exposure,
    check_origin,
    grant,
    sign,
)

SECRET = "s" * 32
BOTH = AuthConfig(token="open sesame", jwt_secret=SECRET)


def test_signed_tokens_are_told_apart_and_the_static_one_is_everybodys() -> None:
    config = AuthConfig(token="sesame", jwt_secret="s" * 32)
    one, other = (sign("s" * 32, Grant("viewer"), minutes=minutes) for minutes in (1, 2))
    assert grant(one, config).bearer == grant(one, config).bearer != grant(other, config).bearer
    assert grant("sesame", config).bearer == grant("", AuthConfig()).bearer == ""


def claims(**changed: object) -> str:
    now = int(time.time())
    values = {"aud": AUDIENCE, "iat": now, "exp": now + 60, "role": "player", **changed}
    return jwt.encode({k: v for k, v in values.items() if v is not None}, SECRET, algorithm="HS256")


def test_without_secrets_everyone_may_play_but_on_loopback_only() -> None:
    assert grant("whatever", AuthConfig()) == Grant("player", "")
    for host in ("127.0.0.1", "::1", "localhost", "127.9.9.9"):
        check_exposure(host, AuthConfig())
    for host in ("0.0.0.0", "::", "192.0.2.1", "example.org", ""):
        with pytest.raises(ExposedError, match="token"):
            check_exposure(host, AuthConfig())
        check_exposure(host, BOTH)


def test_the_static_token_allows_all_and_others_nothing() -> None:
    assert grant("open sesame", BOTH) == Grant("player", "")
    for token in ("", "open sesam", "open sesame ", "öffne dich", "a.b.c"):
        with pytest.raises(Refused) as refused:
            grant(token, BOTH)
        assert (refused.value.code, refused.value.status) == ("auth.token", 401)


@given(st.sampled_from(["player", "viewer"]), st.text(max_size=20))
def test_a_signed_token_allows_what_was_signed(role: str, session: str) -> None:
    allowed = Grant(role, session)  # type: ignore[arg-type]
    assert grant(sign(SECRET, allowed, minutes=1), BOTH) == allowed


@pytest.mark.parametrize(
    "changed",
    [
        {"exp": 1},
        {"exp": int(time.time()) + 10**7},
        {"exp": None},
        {"iat": None},
        {"aud": "another"},
        {"aud": None},
        {"role": "owner"},
        {"role": ["player"]},
        {"session": 7},
    ],
)
def test_other_claims_are_refused(changed: dict[str, object]) -> None:
    assert grant(claims(), BOTH).role == "player"
    with pytest.raises(Refused) as refused:
        grant(claims(**changed), BOTH)
    assert refused.value.status == 401


def test_another_secret_or_no_algorithm_is_refused() -> None:
    for token in (sign("x" * 32, Grant(), minutes=1), jwt.encode({"aud": AUDIENCE}, "", algorithm="none")):
        with pytest.raises(Refused):
            grant(token, BOTH)


def test_a_short_secret_is_refused() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        AuthConfig(jwt_secret="short")


ALLOWED = AuthConfig(token="t", origins=("https://games.example",))


@pytest.mark.parametrize(
    ("origin", "host", "config"),
    [
        (None, "127.0.0.1:8000", AuthConfig()),
        ("http://127.0.0.1:8000", "127.0.0.1:8000", AuthConfig()),
        ("http://localhost:8000", "localhost:8000", AuthConfig()),
        ("http://[::1]:8000", "[::1]:8000", AuthConfig()),
        ("https://play.example", "play.example", ALLOWED),
        ("https://games.example", "play.example", ALLOWED),
        (None, "play.example", ALLOWED),
    ],
)
def test_our_pages_and_programs_may_connect(origin: str | None, host: str, config: AuthConfig) -> None:
    check_origin(origin, host=host, config=config)


@pytest.mark.parametrize(
    ("origin", "host", "config"),
    [
        ("http://evil.example", "127.0.0.1:8000", AuthConfig()),
        ("http://evil.example:8000", "evil.example:8000", AuthConfig()),  # a name that resolves to 127.0.0.1
        (None, "evil.example:8000", AuthConfig()),
        ("http://127.0.0.1:9000", "127.0.0.1:8000", AuthConfig()),
        ("null", "127.0.0.1:8000", AuthConfig()),
        ("null", "", ALLOWED),
        ("http://", "", ALLOWED),
        ("https://games.example.evil.example", "play.example", ALLOWED),
        ("http://[", "play.example", ALLOWED),
    ],
)
def test_foreign_pages_may_not(origin: str | None, host: str, config: AuthConfig) -> None:
    with pytest.raises(Refused) as refused:
        check_origin(origin, host=host, config=config)
    assert refused.value.status == 403


@pytest.mark.parametrize("minutes", [0, -1, 24 * 60 + 1, float("nan")])
def test_no_token_is_signed_that_a_server_would_refuse(minutes: float) -> None:
    with pytest.raises(ValueError, match="minutes"):
        sign(SECRET, Grant(), minutes=minutes)
    with pytest.raises(ValueError, match="32 bytes"):
        sign("short", Grant(), minutes=1)
    assert grant(sign(SECRET, Grant(), minutes=24 * 60), BOTH) == Grant()
