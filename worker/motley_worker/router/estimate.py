"""How many tokens a request will be, learned per model from what engines reported for earlier ones.

Input: bytes of text per token. Output: the running mean per input length, as in Mélange's load balancer.
"""

from motley_worker.router.request import Ask

BYTES_PER_TOKEN = 4.0
"""English text with a usual vocabulary; replaced by what is learned."""
OUTPUT_TOKENS = 256
"""Expected output before any was seen."""
MEMORY = 0.99
"""What one more request leaves of the old bytes and tokens: about the last hundred requests count."""
RUN = 1000
"""A running mean forgets as if it had seen at most this many."""


class Estimates:
    """Of one model."""

    def __init__(self) -> None:
        # Sums rather than a mean of ratios: a chat template's fixed tokens make short prompts poor witnesses.
        self._bytes = BYTES_PER_TOKEN
        self._tokens = 1.0
        self._outputs: dict[int, tuple[int, float]] = {}

    def input_tokens(self, ask: Ask) -> int:
        return round(ask.text_bytes * self._tokens / self._bytes) + ask.token_ids

    def output_tokens(self, input_tokens: int, limit: int | None) -> int:
        _, mean = self._outputs.get(_bucket(input_tokens), (0, float(OUTPUT_TOKENS)))
        return round(mean) if limit is None else min(round(mean), limit)

    def learn(self, ask: Ask, input_tokens: int, output_tokens: int) -> None:
        """From one finished request and its `usage`."""
        if ask.only_text and not ask.token_ids and ask.text_bytes > 0 and input_tokens > 0:
            self._bytes = MEMORY * self._bytes + ask.text_bytes
            self._tokens = MEMORY * self._tokens + input_tokens
        seen, mean = self._outputs.get(_bucket(input_tokens), (0, 0.0))
        seen = min(seen + 1, RUN)
        self._outputs[_bucket(input_tokens)] = (seen, mean + (output_tokens - mean) / seen)


def _bucket(input_tokens: int) -> int:
    """Doubling widths: 1, 2–3, 4–7, 8–15, … tokens."""
    return input_tokens.bit_length()
