"""Bounds the tokens of audio that stands in a request: by how long its bytes can last, whatever was said in them.

Vendors count audio by its duration. OpenAI: 10 tokens a second for what it reads
(https://platform.openai.com/docs/guides/realtime-costs); Gemini: 32 (https://ai.google.dev/gemini-api/docs/tokens).
"""

TOKENS_PER_S = 32
MIN_BYTES_PER_S: dict[str, int] = {
    "mp3": 1_000,  # MPEG-2.5 layer III at 8 kbit/s, the lowest rate that it has
    "wav": 1_000,  # below 8-bit PCM (8,000), ADPCM (4,000) and GSM (1,625), all at 8 kHz
    "pcm16": 16_000,  # 8 kHz; OpenAI's is 24
}
"""The least bytes that a second of each format has. Formats that may hold any silence in a few bytes have no such rate.
"""


def audio_tokens(format_: object, base64_chars: int) -> int | None:
    """The most tokens that audio in base64 is counted as; None: its bytes do not bound it."""
    if not isinstance(format_, str) or format_ not in MIN_BYTES_PER_S:
        return None
    size_bytes = -(-base64_chars * 3 // 4)
    return TOKENS_PER_S * (size_bytes // MIN_BYTES_PER_S[format_] + 1)
