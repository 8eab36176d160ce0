"""What may be in a WebRTC offer before anything of it is believed (OWASP ASVS 5.0, 17.3)."""

from collections import Counter

MAX_OFFER_BYTES = 65_536
MAX_LINES = 1_500
MAX_LINE = 2_048
ALLOWED_MEDIA = {"video": 1, "audio": 1, "application": 1}  # most sections of each kind
REQUIRED = ("a=ice-ufrag:", "a=ice-pwd:", "a=fingerprint:")


class OfferError(ValueError):
    """An offer that is none of ours; the message says what was expected and what came."""


def clean_offer(body: bytes) -> str:
    """The SDP of an offer without its candidates, which would let it aim our checks at hosts of its choice.

    The server learns the client's address from the client's own checks (RFC 8445, peer-reflexive). The
    end-of-candidates goes too: with it and without candidates ICE fails at once.
    """
    if len(body) > MAX_OFFER_BYTES:
        raise OfferError(f"expected at most {MAX_OFFER_BYTES} bytes, got {len(body)}")
    try:
        lines = body.decode().splitlines()
    except UnicodeDecodeError as error:
        raise OfferError("expected UTF-8 text") from error
    if len(lines) > MAX_LINES or max(map(len, lines), default=0) > MAX_LINE:
        raise OfferError(f"expected at most {MAX_LINES} lines of {MAX_LINE} characters, got {len(lines)}")
    _check_sections(lines)
    kept = [line for line in lines if not line.startswith(("a=candidate:", "a=end-of-candidates"))]
    return "\r\n".join(kept) + "\r\n"


def _check_sections(lines: list[str]) -> None:
    sections = Counter(line[2:].split(" ", 1)[0] for line in lines if line.startswith("m="))
    too_many = {kind for kind, count in sections.items() if count > ALLOWED_MEDIA.get(kind, 0)}
    if too_many or not sections["video"]:
        raise OfferError(f"expected one video section and at most one of each other kind, got {dict(sections)}")
    for attribute in REQUIRED:
        if not any(line.startswith(attribute) and len(line) > len(attribute) for line in lines):
            raise OfferError(f"expected a line {attribute}..., got none")
