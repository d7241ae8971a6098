"""The structs of the METHODS tables and the messages of the .proto files say the same."""

from __future__ import annotations

import types
import typing

import msgspec
import pytest

from raybook.base.facts import Fact
from raybook.base.specs import ActorSpec, Endpoint
from raybook.io.rpc import SERVICES, Converter, message_class
from raybook.protocol.messages import gcs, node


def all_structs() -> dict[str, type]:
    """Every struct that a method mentions, at any depth."""
    found: dict[str, type] = {}

    def visit(kind: object) -> None:
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            if kind.__name__ not in found:
                found[kind.__name__] = kind
                for field in msgspec.structs.fields(kind):
                    visit(field.type)
        for argument in typing.get_args(kind):
            visit(argument)

    for methods, _ in SERVICES.values():
        for pair in methods.values():
            for kind in pair:
                visit(kind)
    return found


STRUCTS = all_structs()


def sample(kind: object, salt: int) -> object:
    """A value of a type in which no field is at its protobuf zero."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is int:
        return -salt - 1
    if kind is str:
        return f"text é {salt}"
    if kind is bytes:
        return bytes([salt % 256, 0, 255])
    if kind is bool:
        return True
    if kind is float:
        return salt + 0.5
    if origin in (types.UnionType, typing.Union):
        return sample(next(a for a in arguments if a is not types.NoneType), salt)
    if origin is dict:
        if arguments[1] is typing.Any:
            return {"n": salt, "nested": [1, {"x": None}], "f": 0.5}
        return {"a": sample(arguments[1], salt), "b": sample(arguments[1], salt + 1)}
    if origin is list:
        return [sample(arguments[0], salt), sample(arguments[0], salt + 1)]
    if origin is tuple:
        return tuple(sample(argument, salt + n) for n, argument in enumerate(arguments))
    assert isinstance(kind, type) and issubclass(kind, msgspec.Struct), kind
    return kind(**{f.name: sample(f.type, salt + n) for n, f in enumerate(msgspec.structs.fields(kind))})


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_proto_service_has_exactly_the_methods_of_the_table(name):
    methods, module = SERVICES[name]
    described = module.DESCRIPTOR.services_by_name[name].methods
    in_proto = {method.name: (method.input_type.name, method.output_type.name) for method in described}
    assert in_proto == {method: (a.__name__, b.__name__) for method, (a, b) in methods.items()}


@pytest.mark.parametrize("name", sorted(STRUCTS))
def test_message_has_exactly_the_fields_of_its_struct(name):
    in_proto = [field.name for field in message_class(name).DESCRIPTOR.fields]
    assert in_proto == [field.name for field in msgspec.structs.fields(STRUCTS[name])]


@pytest.mark.parametrize("name", sorted(STRUCTS))
def test_full_struct_survives_the_wire(name):
    struct = sample(STRUCTS[name], 7)
    converter = Converter()
    body = converter.fill(message_class(name)(), struct).SerializeToString()
    assert converter.read(message_class(name).FromString(body), STRUCTS[name]) == struct


@pytest.mark.parametrize(
    "struct",
    [
        Fact("task", "k", None),
        Fact("task", "k", {}),
        gcs.KvReply(value=None),
        gcs.KvReply(value=b""),
        gcs.ActorCreated(),
        gcs.NodeInfo(b"n", alive=False),
        gcs.ActorReply(ActorSpec(b"a", b"j", "C", Endpoint(b"", b"", ""), {}, {}, b"")),
        gcs.ReportNode(b"n", demand=[gcs.ShapeCount({}, 0), gcs.ShapeCount({"CPU": 1}, 2)]),
        node.SetObserved(False),
    ],
    ids=lambda struct: type(struct).__name__,
)
def test_absent_and_empty_values_stay_apart(struct):
    converter = Converter()
    cls = message_class(type(struct).__name__)
    body = converter.fill(cls(), struct).SerializeToString()
    assert converter.read(cls.FromString(body), type(struct)) == struct
