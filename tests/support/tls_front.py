"""TLS in front of the tests' PostgreSQL, whose wheel is built without it: a server that ends TLS, as a proxy does.

It speaks the first step of PostgreSQL's protocol (SSLRequest) and then TLS, with a real handshake and real checks of
certificates. What comes after is the real server's.
"""

import contextlib
import selectors
import socket
import ssl
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

HOST = "127.0.0.1"
SSL_REQUEST = struct.pack("!ii", 8, 80_877_103)
CHUNK_BYTES = 65_536


@contextlib.contextmanager
def tls_front(database_url: str, context: ssl.SSLContext | None) -> Iterator[int]:
    """Serve the server of a database on a port of its own. None: as a server without TLS. Yield the port."""
    with socket.create_server((HOST, 0)) as listener:
        accepting = threading.Thread(target=_accept, args=(listener, database_url, context), daemon=True)
        accepting.start()
        yield int(listener.getsockname()[1])


def _accept(listener: socket.socket, database_url: str, context: ssl.SSLContext | None) -> None:
    with contextlib.suppress(OSError):
        while True:
            client, _ = listener.accept()
            threading.Thread(target=_serve, args=(client, database_url, context), daemon=True).start()


def _serve(client: socket.socket, database_url: str, context: ssl.SSLContext | None) -> None:
    with contextlib.suppress(OSError), client:
        first = client.recv(len(SSL_REQUEST), socket.MSG_WAITALL)
        if context is None:
            if first == SSL_REQUEST:
                client.sendall(b"N")
                first = b""
            _relay(client, _server_of(database_url), first)
        elif first == SSL_REQUEST:
            client.sendall(b"S")
            with context.wrap_socket(client, server_side=True) as secured:
                _relay(secured, _server_of(database_url), b"")


def _server_of(database_url: str) -> socket.socket:
    parts = urlsplit(database_url)
    directory = parse_qs(parts.query).get("host")
    if directory is None:
        return socket.create_connection((parts.hostname or HOST, parts.port or 5_432))
    server = socket.socket(socket.AF_UNIX)
    server.connect(str(Path(directory[0]) / ".s.PGSQL.5432"))
    return server


def _relay(client: socket.socket, server: socket.socket, first: bytes) -> None:
    """Pass bytes on in both directions until one side closes."""
    with server, selectors.DefaultSelector() as ready:
        server.sendall(first)
        ready.register(client, selectors.EVENT_READ, server)
        ready.register(server, selectors.EVENT_READ, client)
        while True:
            for key, _ in ready.select():
                source, target = key.fileobj, key.data
                assert isinstance(source, socket.socket)
                content = source.recv(CHUNK_BYTES)
                while isinstance(source, ssl.SSLSocket) and source.pending():
                    content += source.recv(CHUNK_BYTES)
                if not content:
                    return
                target.sendall(content)
