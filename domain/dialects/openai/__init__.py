"""OpenAI's dialect: chat completions, embeddings, and the Responses API."""
