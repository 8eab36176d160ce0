"""Which STUN and TURN servers clients are told of, with TURN credentials that expire (coturn's `use-auth-secret`)."""

import base64
import hmac
import re
from dataclasses import dataclass
from hashlib import sha1

LONGEST_LIFE = 3600.0  # seconds: whoever has a credential may relay with it, and it cannot be revoked

_STUN = re.compile(r"stuns?:[A-Za-z0-9.\-\[\]:]+")  # RFC 7064
_TURN = re.compile(r"turns?:[A-Za-z0-9.\-\[\]:]+(\?transport=(udp|tcp))?")  # RFC 7065


@dataclass(frozen=True, slots=True)
class IceConfig:
    """Servers by URI. None by default: a public server needs no help, and no third party is asked unbidden."""

    stun: tuple[str, ...] = ()  # `stun:host:port`; the server too asks the first for its own address
    turn: tuple[str, ...] = ()  # `turn:host:port?transport=udp`
    turn_secret: str = ""  # shared with the TURN servers
    turn_seconds: float = LONGEST_LIFE  # that credentials are valid; relays that began with them last longer

    def __post_init__(self) -> None:
        for pattern, uris in ((_STUN, self.stun), (_TURN, self.turn)):
            if wrong := [uri for uri in uris if not pattern.fullmatch(uri)]:
                raise ValueError(f"expected URIs such as stun:host:port or turn:host:port, got {wrong[0]!r}")
        if bool(self.turn) != bool(self.turn_secret):
            raise ValueError("expected TURN servers and their secret, got one of the two")
        if not 0 < self.turn_seconds <= LONGEST_LIFE:
            raise ValueError(f"expected TURN credentials for at most {LONGEST_LIFE:.0f} s, got {self.turn_seconds}")


@dataclass(frozen=True, slots=True)
class Credential:
    """A user name that says when it expires, and the password that proves who made it."""

    username: str
    password: str


def turn_credential(secret: str, *, now: float, seconds: float) -> Credential:
    """What a TURN server with the same secret lets in until `seconds` after `now` (seconds since 1970).

    draft-uberti-behave-turn-rest: the name is the time of expiry, the password its HMAC-SHA1 in base64.
    """
    username = str(int(now + seconds))
    digest = hmac.digest(secret.encode(), username.encode(), sha1)
    return Credential(username, base64.b64encode(digest).decode())


def ice_links(config: IceConfig, *, now: float) -> list[str]:
    """Values of Link headers that tell a client of the servers (draft-ietf-wish-whep, RFC 9725 section 4.6)."""
    links = [f'<{uri}>; rel="ice-server"' for uri in config.stun]
    if config.turn:
        made = turn_credential(config.turn_secret, now=now, seconds=config.turn_seconds)
        proof = f'username="{made.username}"; credential="{made.password}"; credential-type="password"'
        links += [f'<{uri}>; rel="ice-server"; {proof}' for uri in config.turn]
    return links
