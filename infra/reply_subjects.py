"""Subjects of core NATS on which API processes and workers exchange messages about one request, and their payloads."""

YES, NO = b"yes", b"no"
WORKER_ID = "wrk"
"""The prefix of a worker's id. A claim of an earlier release has a name instead, and its worker listens elsewhere."""
CALLER, FOLLOWER = b"caller", b"follower"
"""The payloads of a cancellation: which kind of waiter has disconnected."""


def done_subject(request_id: str) -> str:
    """Subject on which followers of a request are told that it has ended."""
    return f"done.{request_id}"


def cancel_subject(request_id: str) -> str:
    """Subject on which workers are told that a waiter of a request has disconnected."""
    return f"cancel.{request_id}"


def resend_subject(request_id: str) -> str:
    """Subject on which a worker is asked to send a request's frames again, to the message's reply subject."""
    return f"resend.{request_id}"


def holding_subject(request_id: str) -> str:
    """Subject of requests to the worker that makes a request's attempts; the payload may name the delivery."""
    return f"holding.{request_id}"


def claims_subject(worker_id: str) -> str:
    """Subject of requests to one worker, about a claim of its own; the payload names the request and the delivery.

    Nothing responds there once the worker's process is gone.
    """
    return f"claims.{worker_id}"


def followers_subject(request_id: str) -> str:
    """Subject on which followers of a request listen. A request to it succeeds only if there is a follower."""
    return f"waiting.{request_id}"
