"""Any message of the wire protocol, drawn from the types themselves with all their bounds."""

from typing import Any

from hypothesis import strategies as st
from msgspec import inspect

from server.protocol import FromClient, FromServer, Message

UNBOUND_INT = (-(2**63), 2**63 - 1)  # what msgpack can say


def _number(kind: inspect.IntType | inspect.FloatType) -> st.SearchStrategy[Any]:
    least = kind.ge
    most = kind.le if kind.le is not None or kind.lt is None else kind.lt - 1
    if isinstance(kind, inspect.FloatType):
        return st.floats(least, most, allow_nan=False)
    return st.integers(UNBOUND_INT[0] if least is None else int(least), UNBOUND_INT[1] if most is None else int(most))


def _container(kind: Any) -> st.SearchStrategy[Any]:
    if isinstance(kind, inspect.TupleType):
        return st.tuples(*(drawn(one) for one in kind.item_types))
    longest = 4 if kind.max_length is None else min(kind.max_length, 4)
    if isinstance(kind, inspect.DictType):
        return st.dictionaries(drawn(kind.key_type), drawn(kind.value_type), max_size=longest)
    return st.lists(drawn(kind.item_type), max_size=longest)


def _plain(kind: Any) -> st.SearchStrategy[Any]:
    match kind:
        case inspect.IntType() | inspect.FloatType():
            return _number(kind)
        case inspect.StrType():
            return st.text(max_size=min(kind.max_length or 64, 64))
        case inspect.BytesType():
            return st.binary(max_size=100)
        case inspect.LiteralType():
            return st.sampled_from(kind.values)
        case inspect.BoolType() | inspect.NoneType():
            return st.booleans() if isinstance(kind, inspect.BoolType) else st.none()
    raise TypeError(f"expected a type that the protocol uses, got {kind}")


def drawn(kind: Any) -> st.SearchStrategy[Any]:
    """A strategy for one type as msgspec describes it."""
    match kind:
        case inspect.Metadata():
            return drawn(kind.type)
        case inspect.UnionType():
            return st.one_of([drawn(one) for one in kind.types])
        case inspect.ListType() | inspect.DictType() | inspect.TupleType():
            return _container(kind)
        case inspect.StructType():
            return st.builds(kind.cls, **{field.name: drawn(field.type) for field in kind.fields})
    return _plain(kind)


def messages(*kinds: type[Message]) -> st.SearchStrategy[Message]:
    """Any message of these kinds."""
    return st.one_of([drawn(inspect.type_info(kind)) for kind in kinds])


from_client = messages(*FromClient.__args__)
from_server = messages(*FromServer.__args__)
