"""The TLS context that the tests' HTTP clients share.

A client that makes its own reads all certificates first: 30 ms of CPU, for addresses that use no TLS.
"""

import httpx2

TLS = httpx2.create_ssl_context()
