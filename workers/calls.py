"""From a job to a provider's answer: the body, the credential, the adapter. One attempt; retrying is the caller's."""

from collections.abc import Mapping

import msgspec

from domain.chat import ChatRequest
from domain.dialects.answered import Answered
from domain.embeddings import EmbeddingsRequest
from domain.errors import ProviderUnavailable
from infra.blobs import Blobs
from infra.jobs import Job
from infra.provider_keys import ProviderKeys
from workers.providers.provider import Credential, Provider, ProviderCall

_decode_chat = msgspec.json.Decoder(ChatRequest).decode
_decode_embeddings = msgspec.json.Decoder(EmbeddingsRequest).decode


class ProviderCalls:
    """Calls providers with the keys of the projects that ask."""

    def __init__(
        self, *, providers: Mapping[str, Provider], keys: ProviderKeys, base_urls: Mapping[str, str], blobs: Blobs
    ) -> None:
        """`base_urls` has the addresses of providers that are not at their vendor's."""
        self._providers = providers
        self._keys = keys
        self._base_urls = base_urls
        self._blobs = blobs

    async def body(self, job: Job) -> bytes:
        """The canonical request of a job, fetched where the job only names it.

        Raises:
            ProviderUnavailable: the blob is gone (its deadline has passed).
        """
        if job.body is not None:
            return job.body
        assert job.body_blob_id is not None, "a job has a body or names one"
        body = await self._blobs.read(job.project_id, job.body_blob_id)
        if body is None:
            raise ProviderUnavailable("the request's body is no longer kept", provider=job.provider)
        return body

    async def call(self, job: Job, body: bytes, timeout_s: float) -> Answered:
        """Ask the job's provider once.

        Raises:
            ProviderError: as the class says.
        """
        key = await self._keys.key_for(job.project_id, job.provider)
        return await self._providers[job.provider].ask(
            _decode_chat(body) if job.operation == "chat" else _decode_embeddings(body),
            ProviderCall(
                operation=job.operation,
                upstream_model=job.upstream_model,
                credential=Credential(key, self._base_urls.get(job.provider)) if key is not None else None,
                timeout_s=timeout_s,
            ),
        )

    async def close(self) -> None:
        """Close the providers' connections."""
        for provider in self._providers.values():
            await provider.close()
