"""Subjects of core NATS on which API processes and workers exchange messages about one request, and their payloads."""

YES, NO = b"yes", b"no"
CALLER, FOLLOWER = b"caller", b"follower"
"""Who has left a stream."""


def reply_subject(api_id: str, request_id: str) -> str:
    """Where the frames of a request go."""
    return f"reply.{api_id}.{request_id}"


def done_subject(request_id: str) -> str:
    """Where it is said that a request which others wait for has ended."""
    return f"done.{request_id}"


def cancel_subject(request_id: str) -> str:
    """Where it is said that somebody who waited for a stream has left."""
    return f"cancel.{request_id}"


def resend_subject(request_id: str) -> str:
    """Subject on which a worker is asked to send a request's frames again, to the message's reply subject."""
    return f"resend.{request_id}"


def holding_subject(request_id: str) -> str:
    """Subject of requests to the worker that makes a request's attempts; the payload may name the delivery."""
    return f"holding.{request_id}"


def followers_subject(request_id: str) -> str:
    """Where those listen who wait for a request that is not theirs: whoever asks here learns whether there are any."""
    return f"waiting.{request_id}"
