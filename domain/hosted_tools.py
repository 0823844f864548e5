"""Tools that the provider runs itself: how often a request may have them called, and what that costs at most.

Each call costs a fee, and has the model read its whole context once more. The calls are limited by the caller's own
field, or else by the one that is set here.
"""

from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from domain.money import ZERO, NanoUsd, divide_up
from domain.pricing import TEXT_CLASSES, TOKENS_PER_PRICE, Fee, OtherModel, Price

DEFAULT_CALLS = 5
"""Calls in a request that sets no limit, of a key or project that has a budget."""
MAX_SERVER_TURNS = 10
"""After so many turns of its own, Anthropic returns the answer as it is (`pause_turn`):
https://platform.claude.com/docs/en/build-with-claude/handling-stop-reasons
"""


class HostedTool(Struct, frozen=True, kw_only=True):
    """A tool of a request that its provider runs."""

    field: str
    """Where it stands in the request, for a refusal."""
    use: str | None = None
    """What the answer counts (`Extras.uses`, `Extras.others`); None: it has no fee."""
    model: str | None = None
    """The other model that each call asks; None: none. There is no fee beside its tokens."""
    most_tokens: dict[str, int] = {}
    """Those of the other model for one call, at most, by class."""
    rows: tuple[str, ...] = ()
    """The rows of the price book that may price a use, the first that it has; empty: the one named like the use."""
    is_session: bool = False
    """The fee is for a session that all calls of the request share, not for each call."""
    is_of_each_request: bool = False
    """It is used once, whatever the answer says."""
    is_waived: bool = False
    """Another tool of the request makes it free."""
    limited_by: Literal["request", "tool", "nothing"]
    """One field limits the calls of all tools together, or the tool's own does."""
    max_calls: int | None = None
    """The tool's own limit, or the number of calls that nothing limits."""


class HostedTools(Struct, frozen=True, kw_only=True):
    """All of a request's, and the limit that the caller sets for them together."""

    tools: tuple[HostedTool, ...] = ()
    max_calls: int | None = None
    """Of those `limited_by` the request; None: the caller sets none."""

    @property
    def most_calls(self) -> int:
        """The limit to begin with: 0 if no limit can be lowered."""
        if not self.tools:
            return 0
        limits = [tool.max_calls or DEFAULT_CALLS for tool in self.tools if tool.limited_by == "tool"]
        if any(tool.limited_by == "request" for tool in self.tools):
            limits.append(DEFAULT_CALLS if self.max_calls is None else self.max_calls)
        return max(limits, default=0)

    def readings(self, calls: int) -> int:
        """How often the model reads its context again, if no limit is above `calls`."""
        if not self.tools:
            return 0
        own = sum(_calls(tool, calls) for tool in self.tools if tool.limited_by != "request")
        if all(tool.limited_by != "request" for tool in self.tools):
            return min(own, MAX_SERVER_TURNS)
        return own + self._shared(calls)

    def fees(self, calls: int, price: Price) -> NanoUsd:
        """The most that the uses cost at a price that is `priced`, if no limit is above `calls`."""
        if not self.tools:
            return ZERO
        shared, total = 0, 0
        fees = {fee.tool: _most(fee) for fee in price.fees}
        others = {other.use: other for other in price.others}
        for tool in self.tools:
            each = fees.get(tool.use or "", 0) if tool.model is None else _most_of(tool, others.get(tool.use or ""))
            if tool.is_session:
                total += each
            elif tool.limited_by == "request":
                shared = max(shared, each)
            else:
                total += each * _calls(tool, calls)
        return NanoUsd(total + shared * self._shared(calls))

    def unpriced(self, price: Price) -> str | None:
        """The first tool whose fee a price that is `priced` does not have."""
        if not self.tools:
            return None
        known = {fee.tool for fee in price.fees} | {other.use for other in price.others}
        return next((tool.field for tool in self.tools if tool.use is not None and tool.use not in known), None)

    def priced(self, price: Price) -> Price:
        """The price with the fees of this request's uses: a use may have several rows in the price book.

        Of the fees that its tools have no use for those stay that an answer may have all the same.
        """
        own: dict[str, Fee] = {}
        for tool in self.tools:
            fee = _fee(tool, price)
            if tool.use is None or tool.model is not None or fee is None:
                continue
            if tool.is_waived:
                fee = replace(fee, nano_usd=ZERO, most_nano_usd=None)
            fee = replace(fee, tool=tool.use, is_of_each_request=fee.is_of_each_request or tool.is_of_each_request)
            other = own.get(tool.use)
            own[tool.use] = fee if other is None or _most(other) <= _most(fee) else other
        if not price.fees:
            return price
        others = [fee for fee in price.fees if fee.tool in _USES and fee.tool not in own]
        return replace(price, fees=(*others, *own.values()))

    def _shared(self, calls: int) -> int:
        return min(calls, self.most_calls)


NO_TOOLS = HostedTools()
_USES = frozenset({"web_search", "file_search", "code_execution"})
"""What an answer may count that its request does not show: a stored prompt has tools of its own."""


def _calls(tool: HostedTool, calls: int) -> int:
    if tool.limited_by == "nothing":
        return tool.max_calls or 0
    return min(calls, tool.max_calls or calls)


def _fee(tool: HostedTool, price: Price) -> Fee | None:
    fees = {fee.tool: fee for fee in price.fees}
    return next((fees[row] for row in tool.rows or (tool.use or "",) if row in fees), None)


def _most_of(tool: HostedTool, other: OtherModel | None) -> int:
    """The most that one call of another model costs; 0 if it has no price: `unpriced` names it."""
    prices = other.prices if other is not None else {}
    dearest_text = max((prices.get(name, 0) for name in TEXT_CLASSES), default=0)
    exact = sum(
        tokens * (dearest_text if name in TEXT_CLASSES else prices.get(name, 0))
        for name, tokens in tool.most_tokens.items()
    )
    return divide_up(exact, TOKENS_PER_PRICE)


def _most(fee: Fee) -> int:
    return fee.most_nano_usd if fee.most_nano_usd is not None else fee.nano_usd
