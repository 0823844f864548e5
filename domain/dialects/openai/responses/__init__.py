"""OpenAI's Responses API in front of models that have chat alone: its requests and answers in the canonical form.

https://platform.openai.com/docs/api-reference/responses. It is stateless here: the whole conversation comes with each
request, and nothing is kept of the answer. `responses_api.py` beside this package reads what is passed through.
"""
