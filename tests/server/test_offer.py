"""Offers are bounded and lose their candidates, and nothing else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.offer import MAX_OFFER_BYTES, OfferError, clean_offer
from tests.server.rtc_client import RtcClient

HEAD = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=ice-ufrag:abcd\r\na=ice-pwd:" + "p" * 22 + "\r\n"
FINGERPRINT = "a=fingerprint:sha-256 AA:BB\r\n"
VIDEO = "m=video 9 UDP/TLS/RTP/SAVPF 97\r\na=mid:0\r\n"
DATA = "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\na=mid:1\r\n"
CANDIDATE = "a=candidate:1 1 udp 1 10.0.0.1 53 typ host\r\n"


async def test_a_real_offer_loses_its_candidates_and_nothing_else() -> None:
    async with RtcClient() as client:
        offer = await client.offer()
    kept = clean_offer(offer.encode())
    assert "candidate" in offer
    assert [line for line in offer.splitlines() if "candidate" not in line] == kept.splitlines()


@given(st.lists(st.sampled_from([CANDIDATE, "a=end-of-candidates\r\n", "a=x\r\n"])))
def test_no_candidate_stays_wherever_it_stands(lines: list[str]) -> None:
    kept = clean_offer((HEAD + FINGERPRINT + VIDEO + "".join(lines) + DATA).encode())
    assert "candidate" not in kept
    assert kept.count("a=x") == lines.count("a=x\r\n")


@pytest.mark.parametrize(
    "sdp",
    [
        "",
        HEAD + FINGERPRINT,
        HEAD + FINGERPRINT + DATA,
        HEAD + VIDEO + DATA,
        HEAD.replace("a=ice-pwd", "a=other") + FINGERPRINT + VIDEO,
        HEAD + FINGERPRINT + VIDEO + VIDEO,
        HEAD + FINGERPRINT + VIDEO + DATA + DATA,
        HEAD + FINGERPRINT + VIDEO + "m=image 9 UDP 1\r\n",
        HEAD + FINGERPRINT + VIDEO + "a=x\r\n" * 2000,
        HEAD + FINGERPRINT + VIDEO + "a=" + "x" * 3000,
        HEAD + FINGERPRINT + VIDEO + "x" * MAX_OFFER_BYTES,
    ],
)
def test_what_is_not_an_offer_of_ours_is_refused_by_name(sdp: str) -> None:
    with pytest.raises(OfferError, match="expected"):
        clean_offer(sdp.encode())


@given(st.binary(max_size=300))
def test_any_bytes_are_refused_by_name(body: bytes) -> None:
    with pytest.raises(OfferError):
        clean_offer(body)
