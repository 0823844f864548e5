"""The words by which a prompt says what its own request meets at the test provider.

Who cannot choose the prompt says them in the name of the user on whose behalf is asked.

    [[delay=50]]          answer after 50 ms
    [[status=429]]        refuse with this status, streams too: before their first byte
    [[after=7]]           the refusal's Retry-After, in seconds
    [[once=500]]          refuse the first time that this very prompt is asked, then answer
    [[reset]]             charge, then break the connection
    [[garbage]]           charge, then answer 200 with no JSON
    [[tokens=10/5]]       count so many tokens in and out
    [[cached=8]]          of which so many in were read from the provider's cache
    [[cachewrite=9]]      of which so many in were written to it; [[cachewrite=9/4]]: 9 for 5 minutes, 4 for an hour
    [[reasoning=7]]       of which so many out were reasoning; without `tokens` they come on top of what is counted
    [[usage=wrong]]       report ten output tokens more than are charged
    [[usage=huge]]        report 2⁶² output tokens
    [[id=text]]           give the answer this id (URL-encoded, UTF-8)
    [[big=100000]]        answer with so many characters more
    [[say=text]]          answer exactly this text (URL-encoded, UTF-8)
    [[tool=name]]         ask for this tool to be called
    [[calls=2]]           ask for so many calls at once, of the tool that is named, or of those that the request brings
    [[arguments={"a":1}]] call it with these arguments (URL-encoded, UTF-8)
    [[finish=length]]     end for this reason, in the vendor's own word; of a response `failed` too

And what only streams meet. A delta is a piece of text, of a tool call's arguments or of thinking:

    [[chunks=200]]        send the text in so many deltas (not more than it has characters)
    [[pace=20]]           wait so many ms before each delta but the first
    [[cut=5]]             break the connection after 5 deltas
    [[stall=5]]           send nothing more after 5 deltas, but keep the connection
    [[streamerror=3]]     after 3 deltas the vendor's error inside the stream, then its end
    [[message=text]]      the message of `streamerror` (URL-encoded, UTF-8)
    [[nousage]]           no usage at the end, although it was asked for
    [[lateusage]]         usage on the finish chunk instead of one of its own (chat completions)
    [[nolast]]            end without the vendor's last event, as some of its kind do
    [[split=utf8]]        every write ends inside a multi-byte character, where there is one

And both:

    [[refuse]]            say the text as a refusal
    [[tomorrow]]          with members, events and comments that no SDK knows, see `tomorrow.py`
"""

import re
from urllib.parse import unquote

from msgspec import UNSET, Struct, UnsetType, convert

DEFAULT_DELTAS = 12

_WORD = re.compile(r"\[\[(\w+)(?:=([^\]]*))?\]\]")


class Steering(Struct, frozen=True, kw_only=True, rename=lambda name: name.removesuffix("_ms")):
    """What a prompt asks for. The fields are the words of the module's page; unset where they alone can tell."""

    delay_ms: int = 0
    status: int = 0
    after: str = "0.05"
    once: int = 0
    reset: bool = False
    garbage: bool = False
    tokens: str | UnsetType = UNSET
    cached: int = 0
    cachewrite: str = "0"
    reasoning: int = 0
    usage: str | UnsetType = UNSET
    id: str = ""
    big: int = 0
    say: str | UnsetType = UNSET
    tool: str | UnsetType = UNSET
    calls: int | UnsetType = UNSET
    arguments: str | UnsetType = UNSET
    finish: str | UnsetType = UNSET
    chunks: int = DEFAULT_DELTAS
    pace_ms: int = 0
    cut: int | UnsetType = UNSET
    stall: int | UnsetType = UNSET
    streamerror: int | UnsetType = UNSET
    message: str = ""
    nousage: bool = False
    nolast: bool = False
    lateusage: bool = False
    split: str | UnsetType = UNSET
    refuse: bool = False
    tomorrow: bool = False

    @property
    def text(self) -> str | None:
        """The text that is to be said; None where the prompt leaves it to the provider."""
        return None if self.say is UNSET else unquote(self.say)

    @property
    def stops_after(self) -> int | None:
        """How many deltas are sent before the stream is cut, stalls or fails; None: all of them."""
        told = [count for count in (self.cut, self.stall, self.streamerror) if count is not UNSET]
        return min(told, default=None)


def steering(prompt: str) -> Steering:
    """The words that a prompt steers its own request with; of a word that stands twice the last counts."""
    found = {word[1]: "true" if word[2] is None else word[2] for word in _WORD.finditer(prompt)}
    return convert(found, Steering, strict=False)
