"""The vendors' surfaces: OpenAI's and Anthropic's own addresses, shapes and errors."""
