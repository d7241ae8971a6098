"""The .proto files of gRPC and what protoc makes of them (``python -m raybook.protocol.proto.generate`` remakes it)."""
