"""Failures, as they are told and told apart."""

import gc
import logging
import weakref

import pytest
import torch

from server.failure import MAX_REASON, Failure, attempt, failure_of


class Large:
    """What takes room."""


def test_it_returns_what_the_stage_does_or_what_it_failed_at(caplog: pytest.LogCaptureFixture) -> None:
    assert attempt(lambda: 7, sessions=["a"]) == 7
    assert caplog.text == ""
    assert attempt(lambda: 1 // 0, sessions=["a", "b"]) == Failure(
        "ZeroDivisionError: integer division or modulo by zero"
    )
    [record] = caplog.records
    assert record.message == "the model failed at 2 sessions" and record.session == "a b"


def test_nothing_of_the_stage_is_kept(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "server.failure")  # pytest keeps what is logged
    found = []

    def fail() -> None:
        large = Large()
        found.append(weakref.ref(large))
        raise MemoryError

    gc.disable()
    try:
        assert attempt(fail, sessions=[]) == Failure("MemoryError", is_out_of_memory=True)
        assert found[0]() is None
    finally:
        gc.enable()


def test_memory_that_ran_out_is_known_wherever_it_was() -> None:
    assert failure_of(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB\nmore")) == Failure(
        "OutOfMemoryError: CUDA out of memory. Tried to allocate 20 GiB", is_out_of_memory=True
    )
    with pytest.raises(RuntimeError) as refused:
        torch.empty(2**55, dtype=torch.uint8)
    assert failure_of(refused.value).is_out_of_memory
    assert not failure_of(RuntimeError("expected a CUDA device")).is_out_of_memory
    assert len(failure_of(ValueError("x" * 1000)).reason) <= len("ValueError: ") + MAX_REASON
