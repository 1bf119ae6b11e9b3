"""Avro: records to bytes that name their own schema, and back.

``codec`` is the port; ``schemas`` finds and fingerprints the ``.avsc`` files; ``mapping`` turns records into what Avro
writes; ``compatibility`` decides whether a schema may follow another. The one doorway of fastavro.
"""

from workers.wire.avro.codec import AvroCodec

__all__ = ["AvroCodec"]
