"""The vendors' own surfaces: OpenAI's and Anthropic's clients work by changing one address."""
