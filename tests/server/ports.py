"""Ports for servers that are told theirs, or come back to it."""

import socket
from contextlib import suppress
from random import SystemRandom

NUMBERS = range(20_000, 32_000)  # below those that the kernel gives to others meanwhile


def free_port() -> int:
    """One of 127.0.0.1 that nobody has, for UDP and TCP."""
    while True:
        port = SystemRandom().choice(NUMBERS)
        with (
            suppress(OSError),
            socket.create_server(("127.0.0.1", port)),
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams,
        ):
            datagrams.bind(("127.0.0.1", port))
            return port
