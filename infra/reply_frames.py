"""The frames that carry an answer from a worker to the API process that waits for it. One message of core NATS each."""

from typing import Literal

import msgspec
from msgspec import Struct

from domain.job_result import JobFailure, Receipt

FRAME_BYTES = 512 * 1024

FrameKind = Literal["body", "part", "commit", "failed", "begun?", "room?", "waits?"]


class Frame(Struct, frozen=True, array_like=True):
    """One message. Body and part frames carry a piece of the answer, commit and failed JSON: a receipt, or a failure.

    `begun?` asks the API if the caller was given any part. The API replies `YES` or `NO`; after a `NO` it takes no more
    frames of the attempts so far.

    `room?` asks the API to take more of a stream. It replies `YES` once the caller has taken most of what was sent, and
    `NO` if nothing waits for the stream any more.

    `waits?` asks the API if the request's caller still waits for the answer. It replies `YES` or `NO`.
    """

    kind: FrameKind
    attempt: int
    payload: bytes = b""
    digest: bytes = b""
    """Of a commit: SHA-256 of the whole body."""
    number: int = 0
    """Of a body or part frame: 1, 2, 3 …; of a stream's commit: how many parts there were, 0 if it is not known. Of
    `room?`: how many parts were sent.
    """
    target: int = 0
    """Of a part: the number of the target that answers, in the request's plan."""


class Resend(Struct, frozen=True, array_like=True):
    """A request to the worker that answered: send the frames of this attempt again, from this number on."""

    attempt: int
    number: int


decode_receipt = msgspec.json.Decoder(Receipt).decode
decode_failure = msgspec.json.Decoder(JobFailure).decode
encode_frame = msgspec.msgpack.Encoder().encode
decode_frame = msgspec.msgpack.Decoder(Frame).decode
decode_resend = msgspec.msgpack.Decoder(Resend).decode
