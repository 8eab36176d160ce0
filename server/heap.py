"""Memory that has been freed and the C library keeps: handed back, so that a process of many hours does not grow."""

import ctypes


class Heap:
    """Counts what is made, and hands memory back every now and then."""

    def __init__(self, *, every: int = 500) -> None:
        """`every` so many sections: a call takes some 5 ms."""
        self._every = every
        self._made = 0
        self._trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # of glibc alone

    def note(self, made: int) -> bool:
        """Note that so many sections more were made; says whether it was time to hand memory back."""
        self._made += made
        if self._made < self._every:
            return False
        self._made = 0
        if self._trim is not None:
            self._trim(0)
        return True
