"""What a session remembers, and how it is recalled."""

from .bank import MemoryBank, recall_batch
from .query import (
    BankConfig,
    EntryError,
    Gathered,
    ModeName,
    PinnedEntryError,
    PoseScale,
    Query,
    QueryError,
    Recall,
    Stats,
    Tuning,
    UnknownEntryError,
    Why,
)
from .score import eq3_key
from .store import StoreError

__all__ = [
    "BankConfig",
    "EntryError",
    "Gathered",
    "MemoryBank",
    "ModeName",
    "PinnedEntryError",
    "PoseScale",
    "Query",
    "QueryError",
    "Recall",
    "Stats",
    "StoreError",
    "Tuning",
    "UnknownEntryError",
    "Why",
    "eq3_key",
    "recall_batch",
]
