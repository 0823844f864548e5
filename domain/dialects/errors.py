"""Errors of a provider's response that came with status 200."""


class UnreadableResponse(Exception):
    """A provider answered with status 200 and a body that is no response, or whose cost cannot be determined."""


class StreamFailed(Exception):
    """The provider reported a failure inside its stream.

    `kind` is the vendor's own word for it (`overloaded_error`, `server_error`, `rate_limit_exceeded` …).
    """

    def __init__(self, message: str, kind: str) -> None:
        super().__init__(message)
        self.message = message
        self.kind = kind
