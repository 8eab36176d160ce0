"""Freed memory: kept for the next frame, and handed back so that a process of many hours does not grow."""

import ctypes

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of glibc's malloc.h
_MOST = 2**30, 2**25  # bytes free at the heap's end that are kept, and of a block that is taken from the heap


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
            for option, most in zip((_TRIM_THRESHOLD, _MMAP_THRESHOLD), _MOST, strict=True):
                libc.mallopt(option, most)

    def note(self, made: int) -> bool:
        """Note that so many sections more were made; says whether it was time to hand memory back."""
        self._made += made
        if self._made < self._every:
            return False
        self._made = 0
        if self._trim is not None:
            self._trim(0)
        return True
