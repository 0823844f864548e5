"""`gateway price` and `gateway prices`: what models cost, by whose word."""

from datetime import UTC, datetime
from pathlib import Path

import click
import msgspec

from api.native.prices import NewPrice, per_1k, price_set
from cli.admin_session import DATA_DIR, AdminSession, run_in_session
from cli.processes import fail
from domain.decoding import invalid
from domain.pricing import Price
from infra.price_book import PriceBook
from projections.prices import price_overrides


@click.group()
def price() -> None:
    """Set prices."""


@price.command("set")
@click.argument("model")
@click.option("--input", "input_per_1k", required=True, help="US dollars per 1,000 tokens read.")
@click.option("--output", "output_per_1k", required=True, help="US dollars per 1,000 tokens written.")
@click.option("--cached-input", "cached_input_per_1k", help="Per 1,000 tokens that the provider had cached.")
@click.option("--cache-write", "cache_write_per_1k", help="Per 1,000 tokens that the provider caches.")
@click.option("--from", "from_", help="An ISO time with a time zone; from now on, if not given.")
@DATA_DIR
def set_one(data_dir: Path | None, **given: str | None) -> None:
    """Set the price of MODEL for the whole installation. Requests admitted before keep the price they had."""
    names = dict(zip(NewPrice.__struct_fields__, NewPrice.__struct_encode_fields__, strict=True))
    try:
        values = {names[field]: value for field, value in given.items() if value is not None}
        call = msgspec.convert(values, NewPrice, strict=False)
    except msgspec.ValidationError as error:
        fail(invalid(error).message)

    async def work(session: AdminSession) -> None:
        event = await price_set(session.pool, call)
        async with session.price_admin() as setting:
            await setting.set_price(event)
        click.echo(f"{event.provider}/{event.model} costs that from {event.effective_from.isoformat()} on")

    run_in_session(data_dir, work)


@click.command()
@click.option("--model", help="Only models whose name has this in it.")
@click.option("--differing", is_flag=True, help="Only where the sources name different prices.")
@DATA_DIR
def prices(model: str | None, differing: bool, data_dir: Path | None) -> None:
    """Show what the operator, the specification and the library say, in US dollars per 1,000 tokens in / out."""

    async def work(session: AdminSession) -> None:
        book = PriceBook()
        book.set_overrides(await price_overrides(session.pool))
        columns = ("override", "specification", "library")
        click.echo(f"{'model':<44} {'used':<14} " + " ".join(f"{name:<24}" for name in columns))
        for one in book.compared(datetime.now(UTC)):
            if (model is None or model in one.name) and (one.differs or not differing):
                said = " ".join(f"{_shown(getattr(one, name)):<24}" for name in columns)
                used = one.used.source.split()[0] if one.used is not None else ""
                click.echo(
                    f"{one.provider + '/' + one.name:<44} {used:<14} {said}" + ("  DIFFERS" if one.differs else "")
                )

    run_in_session(data_dir, work)


def _shown(one: Price | None) -> str:
    return (
        "" if one is None else f"{per_1k(one.prices.input).normalize():f} / {per_1k(one.prices.output).normalize():f}"
    )
