"""Words in a prompt that tell the test provider how to answer that request.

A test that cannot choose its prompt puts the words into the name of the end user.

    [[on=claude]]         the other words count only for models with this in their names
    [[delay=50]]          answer after 50 ms
    [[status=429]]        refuse with this status, streams too: before their first byte
    [[after=7]]           the refusal's Retry-After, in seconds
    [[code=text]]         the refusal's code
    [[once=500]]          refuse this prompt the first time, then answer it
    [[message=text]]      the message of a refusal or of `streamerror` (URL-encoded, UTF-8)
    [[reset]]             charge, then break the connection
    [[garbage]]           charge, then answer 200 with a body that is not JSON
    [[exactly=text]]      charge, then answer 200 with exactly this body (URL-encoded), stream or not
    [[tokens=10/5]]       count 10 input and 5 output tokens
    [[count=4]]           count everything that the model is shown, four bytes a token; [[count=1]]: the worst case
    [[cached=8]]          8 of the input tokens were read from the provider's cache
    [[cachewrite=9]]      9 of the input tokens were written to it; [[cachewrite=9/4]]: 9 for 5 minutes, 4 for an hour
    [[reasoning=7]]       7 of the output tokens were reasoning; without `tokens` they are added to the count
    [[searches=2]]        two web searches were made; [[preview]]: at the price of the preview
    [[files=1]]           one file search was made
    [[containers=1]]      code ran in one container
    [[tier=priority]]     this service tier served it; [[speed=fast]] and [[geo=us]] likewise
    [[cost=0.01]]         the usage states this cost, as some sellers' does
    [[usage=wrong]]       report ten output tokens more than are charged
    [[usage=huge]]        report 2⁶² output tokens
    [[id=text]]           give the response this id (URL-encoded, UTF-8)
    [[big=100000]]        add 100,000 characters to the text
    [[say=text]]          answer with exactly this text (URL-encoded, UTF-8)
    [[tool=name]]         call this tool
    [[calls=2]]           make two tool calls at once, of the named tool or of the request's tools
    [[arguments={"a":1}]] call it with these arguments (URL-encoded, UTF-8)
    [[steps=[…]]]         play a script over several turns, see `script.py` (URL-encoded JSON)
    [[finish=length]]     end with this finish reason, in the vendor's spelling; for a response also `failed`

Only for streams. A delta is a piece of text, of a tool call's arguments, or of thinking:

    [[chunks=200]]        send the text in 200 deltas (at most one for each character)
    [[pace=20]]           wait 20 ms before each delta but the first
    [[cut=5]]             break the connection after 5 deltas
    [[cutonce=5/name]]    break the first stream of this name after 5 deltas: an agent's next prompt is another one
    [[stall=5]]           send nothing more after 5 deltas, but keep the connection
    [[streamerror=3]]     after 3 deltas send the vendor's error inside the stream, and end it
    [[nousage]]           send no usage at the end, even if it was requested
    [[lateusage]]         send the usage in the finish chunk instead of its own chunk (chat completions)
    [[nolast]]            leave out the vendor's last event, as some compatible servers do
    [[split=utf8]]        end each write inside a multi-byte character, if there is one

For both:

    [[refuse]]            send the text as a refusal
    [[tomorrow]]          add members, events and comments that no SDK knows, see `future_fields.py`
"""

import re
from urllib.parse import unquote

from msgspec import UNSET, Struct, UnsetType, convert

DEFAULT_DELTAS = 12

_WORD = re.compile(r"\[\[(\w+)(?:=([^\]]*))?\]\]")


class Steering(Struct, frozen=True, kw_only=True, rename=lambda name: name.removesuffix("_ms")):
    """The steering words of a prompt. The module describes them; a field is UNSET if its word is missing."""

    delay_ms: int = 0
    status: int = 0
    after: str = "0.05"
    once: int = 0
    reset: bool = False
    garbage: bool = False
    exactly: str | UnsetType = UNSET
    tokens: str | UnsetType = UNSET
    count: int = 0
    cached: int = 0
    cachewrite: str = "0"
    reasoning: int = 0
    searches: int = 0
    preview: bool = False
    files: int = 0
    containers: int = 0
    tier: str = ""
    speed: str = ""
    geo: str = ""
    cost: float | None = None
    usage: str | UnsetType = UNSET
    id: str = ""
    big: int = 0
    say: str | UnsetType = UNSET
    tool: str | UnsetType = UNSET
    calls: int | UnsetType = UNSET
    arguments: str | UnsetType = UNSET
    finish: str | UnsetType = UNSET
    steps: str | UnsetType = UNSET
    chunks: int = DEFAULT_DELTAS
    pace_ms: int = 0
    cut: int | UnsetType = UNSET
    cutonce: str | UnsetType = UNSET
    stall: int | UnsetType = UNSET
    streamerror: int | UnsetType = UNSET
    message: str = ""
    code: str = ""
    nousage: bool = False
    nolast: bool = False
    lateusage: bool = False
    split: str | UnsetType = UNSET
    refuse: bool = False
    tomorrow: bool = False

    @property
    def text(self) -> str | None:
        """Return the text to answer with; None if the prompt does not set it."""
        return None if self.say is UNSET else unquote(self.say)

    @property
    def body(self) -> str | None:
        """Return the body to answer with; None if the prompt does not set it."""
        if self.garbage:
            return "<html>oops</html>"
        return None if self.exactly is UNSET else unquote(self.exactly)

    @property
    def stops_after(self) -> int | None:
        """Return the number of deltas before the stream is cut, stalls or fails; None if it sends all of them."""
        stops = [count for count in (self.cut, self.stall, self.streamerror) if count is not UNSET]
        return min(stops, default=None)


def steering(prompt: str, model: str) -> Steering:
    """Return the steering words of a prompt for a model. If a word occurs twice, the last one counts."""
    words = {match[1]: "true" if match[2] is None else match[2] for match in _WORD.finditer(prompt)}
    if words.pop("on", "") not in model:
        return Steering()
    return convert(words, Steering, strict=False)
