"""Who may come in: tokens, roles and origins."""

import hmac
import ipaddress
import time
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Literal

import jwt

Role = Literal["player", "viewer"]
AUDIENCE = "rewander"
LEAST_SECRET = 32  # bytes: RFC 7518 section 3.2 for HS256
LONGEST_LIFE = 24 * 3600.0  # seconds that a signed token may be valid: it cannot be revoked


@dataclass(frozen=True, slots=True)
class AuthConfig:
    """Secrets. With neither secret everyone may come in, which only loopback may be."""

    token: str = ""  # a static bearer token: any role, any session
    jwt_secret: str = ""  # for HS256 tokens with a role and a session of their own
    origins: tuple[str, ...] = ()  # of pages elsewhere that may connect, as `https://host:port`

    def __post_init__(self) -> None:
        if self.jwt_secret:
            _check_secret(self.jwt_secret)

    @property
    def is_open(self) -> bool:
        return not (self.token or self.jwt_secret)


@dataclass(frozen=True, slots=True)
class Grant:
    """What a token allows: at most this role, only in this session (any, if empty)."""

    role: Role = "player"
    session: str = ""
    bearer: str = field(default="", compare=False)  # tells signed tokens apart; the static one is everybody's


class Refused(Exception):
    """Someone may not come in: `status` for HTTP, `code` for the protocol, and when it may help to try again.

    Who waits in a queue has a `place` in it, from 1, for as long as it comes back with the ticket `waiting`.
    """

    def __init__(
        self, code: str, message: str, *, status: int, retry_after: float = 0.0, place: int = 0, waiting: str = ""
    ) -> None:
        super().__init__(message)
        self.code, self.status = code, status
        self.retry_after, self.place, self.waiting = retry_after, place, waiting


class ExposedError(ValueError):
    """A server that anyone on the network could enter."""


def check_exposure(host: str, config: AuthConfig) -> None:
    """Raise ExposedError if `host` is not loopback and there is no secret."""
    if config.is_open and not is_loopback(host):
        raise ExposedError(f"expected a token or a jwt secret to listen on {host}, got neither: anyone could come in")


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def grant(token: str, config: AuthConfig) -> Grant:
    """What `token` allows; raises Refused with 401. Comparisons take the same time wherever they fail."""
    if config.is_open:
        return Grant()
    if config.token and hmac.compare_digest(token.encode(), config.token.encode()):
        return Grant()
    if config.jwt_secret and token.count(".") == 2:
        return _signed_grant(token, config.jwt_secret)
    raise Refused("auth.token", "expected a valid token, got " + ("another" if token else "none"), status=401)


def _signed_grant(token: str, secret: str) -> Grant:
    try:
        claims = jwt.decode(token, secret, ["HS256"], audience=AUDIENCE, options={"require": ["exp", "iat", "aud"]})
    except jwt.InvalidTokenError as error:
        raise Refused("auth.token", f"expected a valid token: {error}", status=401) from error
    role, session = claims.get("role", "viewer"), claims.get("session", "")
    if claims["exp"] - claims["iat"] > LONGEST_LIFE:
        raise Refused("auth.token", f"expected a token of at most {LONGEST_LIFE:.0f} s, got a longer one", status=401)
    if role not in ("player", "viewer") or not isinstance(session, str):
        raise Refused("auth.token", "expected a role of player or viewer and a session's name", status=401)
    return Grant(role, session, sha256(token.encode()).hexdigest())


def sign(secret: str, allowed: Grant, *, minutes: float) -> str:
    """A token that allows `allowed` for so long; raises ValueError for what a server would refuse."""
    _check_secret(secret)
    if not 0 < 60 * minutes <= LONGEST_LIFE:
        raise ValueError(f"expected more than 0 and at most {LONGEST_LIFE / 60:.0f} minutes, got {minutes}")
    now = int(time.time())
    claims = {"aud": AUDIENCE, "iat": now, "exp": now + int(60 * minutes), "role": allowed.role}
    if allowed.session:
        claims["session"] = allowed.session
    return jwt.encode(claims, secret, algorithm="HS256")


def _check_secret(secret: str) -> None:
    if len(secret.encode()) < LEAST_SECRET:
        raise ValueError(f"expected a jwt_secret of at least {LEAST_SECRET} bytes, got {len(secret.encode())}")


def check_origin(origin: str | None, *, host: str, config: AuthConfig) -> None:
    """Raise Refused if a browser sent `origin` from a page that is neither ours (`host` header) nor allowed.

    Programs send no Origin; they need the token, if there is one, like everyone. On an open server the
    Host must be loopback's, so that no foreign name that points here (DNS rebinding) passes as ours.
    """
    if config.is_open and not is_loopback(_name_of(host)):
        raise Refused("auth.host", f"expected a loopback host, got {host[:80]}", status=403)
    if origin is None or origin in config.origins or (host and origin in (f"http://{host}", f"https://{host}")):
        return
    raise Refused("auth.origin", f"expected a page of this server, got {origin[:80]}", status=403)


def _name_of(host: str) -> str:
    """The name in a Host header, without its port and the brackets of IPv6."""
    return host.partition("]")[0][1:] if host.startswith("[") else host.partition(":")[0]
