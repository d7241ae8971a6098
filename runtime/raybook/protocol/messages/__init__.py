"""Messages of the framed sockets and of the GCS, one module per conversation.

raylet   driver or worker  ⇄ its raylet
worker   owner ⇄ worker, owner ⇄ borrower (process to process)
store    about extents of the arena, on the raylet conversation
gcs      raylet ⇄ GCS (as structs; over gRPC they travel as the messages of proto/gcs.proto with the same fields)
"""
