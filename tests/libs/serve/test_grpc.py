"""gRPC ingress, with a service whose messages are protobuf's own."""

from __future__ import annotations

import sys
from pathlib import Path

import grpc
import pytest
from google.protobuf.wrappers_pb2 import StringValue

import raybook
from raybook import serve
from tests.libs.serve.ports import free_port

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

GENERATED = """
import grpc
from google.protobuf.wrappers_pb2 import StringValue


def add_EchoServicer_to_server(servicer, server):
    handlers = {
        "Say": grpc.unary_unary_rpc_method_handler(
            servicer.Say, request_deserializer=StringValue.FromString, response_serializer=StringValue.SerializeToString
        ),
        "Spell": grpc.unary_stream_rpc_method_handler(
            servicer.Spell, request_deserializer=StringValue.FromString, response_serializer=StringValue.SerializeToString
        ),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Echo", handlers),))
    server.add_registered_method_handlers("test.Echo", handlers)
"""


@pytest.fixture
def channel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A channel to a Serve of its own."""
    (tmp_path / "echo_grpc_of_test.py").write_text(GENERATED)
    monkeypatch.syspath_prepend(str(tmp_path))
    raybook.init(num_cpus=4)
    port = free_port()
    serve.start(
        http_options={"port": free_port()},
        grpc_options={"port": port, "grpc_servicer_functions": ["echo_grpc_of_test.add_EchoServicer_to_server"]},
    )
    with grpc.insecure_channel(f"127.0.0.1:{port}") as found:
        yield found
    serve.shutdown()
    raybook.shutdown()
    sys.modules.pop("echo_grpc_of_test", None)


def test_calls_of_both_kinds_find_their_application(channel):
    @serve.deployment
    class Echo:
        def Say(self, request, grpc_context):
            if request.value == "teapot":
                grpc_context.set_code(grpc.StatusCode.FAILED_PRECONDITION)
                grpc_context.set_details("short and stout")
                raise ValueError("teapot")
            if request.value == "boom":
                raise ValueError("boom")
            grpc_context.set_trailing_metadata([("x-mine", "1")])
            return StringValue(value=f"{request.value}!")

        def Spell(self, request):
            for letter in request.value:
                yield StringValue(value=letter)

    serve.run(Echo.bind(), name="echo", route_prefix=None)
    say = channel.unary_unary(
        "/test.Echo/Say", request_serializer=StringValue.SerializeToString, response_deserializer=StringValue.FromString
    )
    spell = channel.unary_stream(
        "/test.Echo/Spell",
        request_serializer=StringValue.SerializeToString,
        response_deserializer=StringValue.FromString,
    )
    metadata = (("application", "echo"), ("request_id", "r-7"))
    answer, call = say.with_call(StringValue(value="hi"), metadata=metadata, timeout=60)
    assert answer.value == "hi!"
    assert ("x-mine", "1") in [tuple(pair) for pair in call.trailing_metadata()]
    assert [item.value for item in spell(StringValue(value="abc"), metadata=metadata, timeout=60)] == ["a", "b", "c"]
    for word, code in (("teapot", "FAILED_PRECONDITION"), ("boom", "INTERNAL")):
        with pytest.raises(grpc.RpcError) as caught:
            say(StringValue(value=word), metadata=metadata, timeout=60)
        assert caught.value.code().name == code
    with pytest.raises(grpc.RpcError) as caught:
        say(StringValue(value="x"), metadata=(("application", "gone"),), timeout=60)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert "Application 'gone' not found" in caught.value.details()
    own = "/ray.serve.RayServeAPIService/"
    assert b"success" in channel.unary_unary(f"{own}Healthz")(b"", timeout=60)
    assert b"echo" in channel.unary_unary(f"{own}ListApplications")(b"", timeout=60)
