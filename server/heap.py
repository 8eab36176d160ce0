"""Freed memory: kept for the next frame, and handed back so that a process of many hours does not grow."""

import ctypes

_KEPT = {-1: 2**30, -3: 2**25}  # bytes: M_TRIM_THRESHOLD, M_MMAP_THRESHOLD of glibc's malloc.h and what they are set to


class Heap:
    """Counts what is made, and hands memory back every now and then, but not with every frame.

    glibc by itself hands back whatever a frame frees at the heap's end, which the next frame takes again: some 3,000
    page faults a frame of `rooms`, and a tenth of its time.
    """

    def __init__(self, *, every: int = 500) -> None:
        """`every` so many sections: a call takes some 5 ms."""
        self._every = every
        self._made = 0
        libc = ctypes.CDLL(None)
        self._trim = getattr(libc, "malloc_trim", None)  # of glibc alone
        if self._trim is not None:
            for option, value in _KEPT.items():
                libc.mallopt(option, value)

    def note(self, made: int) -> bool:
        """Note that so many sections more were made; says whether it was time to hand memory back."""
        self._made += made
        if self._made < self._every:
            return False
        self._made = 0
        if self._trim is not None:
            self._trim(0)
        return True
