"""`gateway price` and `gateway prices`: set and compare the prices of models."""

from datetime import UTC, datetime
from pathlib import Path

import click
import msgspec

from api.native.prices import NewPriceBody, per_1k, price_set
from cli.admin_session import DATA_DIR, AdminSession, run_in_session
from cli.processes import fail
from cli.terminal import show
from domain.decoding import invalid
from domain.pricing import Price
from infra.price_book import PriceBook
from projections.prices import price_overrides


@click.group()
def price() -> None:
    """Set the price of a model."""


@price.command("set")
@click.argument("model", metavar="MODEL")
@click.option("--input", "input_per_1k", required=True, help="US dollars per 1,000 input tokens.")
@click.option("--output", "output_per_1k", required=True, help="US dollars per 1,000 output tokens.")
@click.option(
    "--cached-input",
    "cached_input_per_1k",
    help="US dollars per 1,000 input tokens that the provider read from its cache.",
)
@click.option(
    "--cache-write",
    "cache_write_per_1k",
    help="US dollars per 1,000 input tokens that the provider wrote to its cache.",
)
@click.option("--audio-input", "audio_input_per_1k", help="US dollars per 1,000 audio tokens that go in.")
@click.option("--audio-output", "audio_output_per_1k", help="US dollars per 1,000 audio tokens that come out.")
@click.option("--from", "from_", help="When the price starts: an ISO 8601 time with a time zone. [default: now]")
@DATA_DIR
def set_price(data_dir: Path | None, **given: str | None) -> None:
    """Set the price of MODEL for all projects.

    Requests that were admitted earlier keep their price.
    """
    names = dict(zip(NewPriceBody.__struct_fields__, NewPriceBody.__struct_encode_fields__, strict=True))
    try:
        values = {names[field]: value for field, value in given.items() if value is not None}
        body = msgspec.convert(values, NewPriceBody, strict=False)
    except msgspec.ValidationError as error:
        fail(invalid(error, NewPriceBody).message)

    async def run(session: AdminSession) -> None:
        event = await price_set(session.pool, body)
        async with session.price_admin() as setting:
            await setting.set_price(event)
        show(f"{event.provider}/{event.model} has this price from {event.effective_from.isoformat()} on")

    run_in_session(data_dir, run)


@click.command()
@click.option("--model", help="Only models whose name contains this text.")
@click.option("--differing", is_flag=True, help="Only models whose sources have different prices.")
@DATA_DIR
def prices(model: str | None, differing: bool, data_dir: Path | None) -> None:
    """Compare the prices of models by source.

    The sources are the operator, the specification and the price library. Prices are US dollars per 1,000 tokens,
    input / output.
    """

    async def run(session: AdminSession) -> None:
        book = PriceBook()
        book.set_overrides(await price_overrides(session.pool))
        columns = ("override", "specification", "library")
        show(f"{'model':<44} {'used':<14} " + " ".join(f"{name:<24}" for name in columns))
        for one in book.compared(datetime.now(UTC)):
            if (model is None or model in one.name) and (one.differs or not differing):
                prices_by_source = " ".join(f"{_shown(getattr(one, name)):<24}" for name in columns)
                used = one.used.source.split()[0] if one.used is not None else ""
                show(
                    f"{one.provider + '/' + one.name:<44} {used:<14} {prices_by_source}"
                    + ("  DIFFERS" if one.differs else "")
                )

    run_in_session(data_dir, run)


def _shown(one: Price | None) -> str:
    return (
        "" if one is None else f"{per_1k(one.prices.input).normalize():f} / {per_1k(one.prices.output).normalize():f}"
    )
