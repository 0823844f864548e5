"""One delivery of a job by JetStream, and its acknowledgement. Does not read the job."""

from nats.aio.msg import Msg

from infra.broker import Broker
from infra.jobs import MAX_DELIVERIES, Job, encode_job, message_id_of

IN_PROGRESS = b"+WPI"
_NANO = 1_000_000_000


class Delivery:
    """One delivery of a job. `number` counts the deliveries of the same job from 1."""

    def __init__(self, broker: Broker, message: Msg) -> None:
        self._client = broker.client
        self.ack_subject: str | None = message.reply
        """None: the job did not come from the queue, so there is nothing to acknowledge."""
        self.data = message.data
        self.number = delivery_number(message.reply)
        self.message_id = (message.headers or {}).get("Nats-Msg-Id") or message.reply
        """The id of the request, without decoding the job."""
        self.project_id, self.key_id = tenant_of(message.subject)
        """The tenant of the job, without decoding it; empty for an alert."""

    @property
    def is_last(self) -> bool:
        """True if the queue delivers the job no more after this delivery."""
        return self.number >= MAX_DELIVERIES

    def renew(self, later: "Delivery") -> None:
        """Acknowledge a later delivery of the same job instead, if it wants that."""
        if later.ack_subject is not None:
            self.ack_subject, self.number = later.ack_subject, later.number

    async def ack(self) -> None:
        """Remove the job from the queue."""
        await self._acknowledge(b"+ACK")

    async def nak(self, delay_s: float) -> None:
        """Deliver the job again, after a while."""
        await self._acknowledge(b'-NAK {"delay": %d}' % int(delay_s * _NANO))

    async def term(self) -> None:
        """Never deliver the job again."""
        await self._acknowledge(b"+TERM")

    async def in_progress(self) -> None:
        """Postpone the acknowledgement: the job waits here or is being worked on."""
        await self._acknowledge(IN_PROGRESS)

    async def _acknowledge(self, payload: bytes) -> None:
        if self.ack_subject is not None:
            await self._client.publish(self.ack_subject, payload)


class DirectDelivery(Delivery):
    """A job that a worker was given directly, not by the queue. It is delivered once."""

    def __init__(self, broker: Broker, job: Job) -> None:
        self._client = broker.client
        self.ack_subject = None
        self.data = encode_job(job)
        self.number = 1
        self.message_id = message_id_of(job)
        self.project_id, self.key_id = job.identity.project_id, job.identity.key_id


def delivery_number(ack_subject: str) -> int:
    """Read the delivery's number from `$JS.ACK.…`, which has two more tokens if the server names domain and account.

    https://docs.nats.io/reference/reference-protocols/nats_api_reference, "$JS.ACK".
    """
    tokens = ack_subject.split(".")
    return int(tokens[4] if len(tokens) < 11 else tokens[6])


def tenant_of(subject: str) -> tuple[str, str]:
    """Read the project and the API key from a job's subject, see `JobQueue.publish`."""
    tokens = subject.split(".")
    return (tokens[3], tokens[4]) if len(tokens) == 5 else ("", "")
