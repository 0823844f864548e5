"""The native API's codecs. Only clients speak this dialect: no provider has its side of it."""

from domain.dialects.codec import Codec, RenderOptions, StreamWriter
from domain.dialects.native.stream import NativeWriter
from domain.tokens import TokenUsage


class NativeChat(Codec):
    """`POST /completions/chat`. The canonical request is read at its surface, with what it says of its delivery."""

    dialect = "native"
    operation = "chat"

    def render_response(self, body: bytes, usage: TokenUsage, options: RenderOptions) -> bytes:
        """See `Codec`: the canonical response itself."""
        return body

    def stream_writer(self, options: RenderOptions) -> StreamWriter:
        """See `Codec`."""
        return NativeWriter()


class NativeEmbeddings(Codec):
    """`POST /completions/embeddings`."""

    dialect = "native"
    operation = "embeddings"
    has_streams = False

    def render_response(self, body: bytes, usage: TokenUsage, options: RenderOptions) -> bytes:
        """See `Codec`: the canonical response itself."""
        return body
