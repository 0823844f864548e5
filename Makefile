.DEFAULT_GOAL := help
RUN := uv run --quiet

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

setup: ## make the environment
	uv sync

up: ## run the whole gateway on this machine
	uv run gateway up

check: ## lint, types, import contracts, unit tests
	$(RUN) ruff format --check .
	$(RUN) ruff check .
	$(RUN) mypy
	$(RUN) lint-imports
	$(RUN) pytest tests/unit

test: ## every test, on real servers
	uv run pytest

agents: ## install every agent and framework, and run them through the gateway
	uv run pytest tests/conformance/agents -m ""

golden: ## write the frozen streams anew; read their difference before it is committed
	WRITE_GOLDEN=1 uv run pytest tests/conformance/test_golden_translations.py

bench: ## measure the whole path
	$(RUN) python -m bench.whole_path
	$(RUN) python -m bench.whole_streams

rebuild: ## rebuild every projection of the running gateway
	for name in budgets usage requests cache alerts keys prices providers; do $(RUN) gateway projections rebuild $$name; done

docs: ## write the generated reference pages
	$(RUN) python -m docs.generate

.PHONY: help setup up check test agents golden bench rebuild docs
