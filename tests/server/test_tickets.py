"""Tickets let in where they were issued for, and nowhere else."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.auth import Refused
from server.tickets import Ticket, Tickets, ticket_key

ids = st.text("abcXYZ019-_", min_size=1, max_size=16)


@given(ids, ids, st.integers(0, 10**9))
def test_a_ticket_is_for_its_session_and_its_server(session: str, other: str, handovers: int) -> None:
    tickets = Tickets(b"k" * 32)
    said = Ticket(session, handovers)
    ticket = tickets.issue(said)
    assert tickets.read(ticket) == said
    assert len(ticket) <= 64  # what the protocol takes
    signature = ticket.rpartition(".")[2]
    forged = [
        f"{session}x.{signature}",
        f"{session}~{handovers + 1}.{signature}",
        Tickets(b"x" * 32).issue(said),
        session,
        "",
        ".",
        "ö.ö",
    ]
    if other != session:
        forged.append(f"{other}.{signature}")
    for ticket in forged:
        with pytest.raises(Refused) as refused:
            tickets.read(ticket)
        assert refused.value.code == "session.ticket"


def test_the_key_outlives_the_server_where_worlds_do(tmp_path: Path) -> None:
    folder = tmp_path / "worlds"
    assert ticket_key(folder) == ticket_key(folder)
    assert (folder / "tickets.key").stat().st_mode & 0o077 == 0
    assert ticket_key(None) != ticket_key(None)
    (folder / "tickets.key").write_bytes(b"short")
    with pytest.raises(ValueError, match="expected 32 bytes"):
        ticket_key(folder)
