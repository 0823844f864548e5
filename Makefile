.DEFAULT_GOAL := help
RUN := uv run --quiet
MINUTES ?= 30

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

setup: ## make the environment
	uv sync

up: ## run the whole gateway on this machine
	uv run gateway up

lint: ## format, lint, types, import contracts
	$(RUN) ruff format --check .
	$(RUN) ruff check .
	$(RUN) mypy
	$(RUN) lint-imports

check: lint ## lint and the unit tests: the quick part
	$(RUN) pytest tests/unit -n 2

test: ## every test, on real servers, three files at a time
	uv run pytest -n 3 --dist loadfile --no-loadscope-reorder # the slow folders come first, the quick ones last

agents: ## install every agent and framework, and run them through the gateway
	uv run pytest tests/conformance/agents -m ""

crash-matrix: ## let a process die at every step, and every link between processes and servers fail
	uv run pytest tests/acceptance/test_crash_matrix.py tests/acceptance/test_network_faults.py -m ""

golden: ## write the frozen streams anew; read their difference before it is committed
	WRITE_GOLDEN=1 uv run pytest tests/conformance/test_golden_translations.py

bench: ## measure what a request costs, beside a bare handler; more with BENCH="--compare FILE --beside CHECKOUT"
	$(RUN) python -m bench.run $(BENCH)

bench-peers: ## install LiteLLM's proxy and Portkey's gateway below .bench, and measure them in the same run
	$(RUN) python -m bench.peers
	$(RUN) python -m bench.run --peers $(BENCH)

bench-overshoot: ## do to budgets what should not get past them: bursts, kill -9, streams whose callers leave
	$(RUN) python -m bench.peers
	$(RUN) python -m bench.overshoot

bench-scale: ## measure what must stay flat as work grows, and draw it in docs/images (half an hour)
	$(RUN) python -m bench.scale

soak: ## half an hour of load while workers and the projector are killed; MINUTES=n for another time
	$(RUN) python -m bench.soak --minutes $(MINUTES)

rebuild: ## rebuild every projection of the running gateway
	for name in budgets usage rollups attributes refusals requests cache idempotency alerts jobs keys prices providers; do $(RUN) gateway projections rebuild $$name; done

requirements: ## write the versions and hashes that the image installs, after a change of pyproject.toml
	uv lock --quiet
	uv export --quiet --frozen --no-dev --no-emit-project --no-header --no-annotate --format requirements.txt -o requirements.txt >/dev/null
	$(RUN) python -m deploy.requirements | uv pip compile --quiet --generate-hashes --no-header --no-annotate --python-version 3.11 -o requirements-build.txt - >/dev/null

sbom: ## write what the gateway consists of to sbom.json, as CycloneDX
	$(RUN) python -m deploy.sbom sbom.json

secrets: ## write keys, passwords and certificates for compose.yaml, those that are missing
	$(RUN) python -m deploy.make_secrets

images: ## look up the digests of the images for compose.yaml (needs Docker), and write images.env
	$(RUN) python -m deploy.images images.env

docs: ## write the generated reference pages
	$(RUN) python -m docs.generate

.PHONY: help setup up lint check test agents crash-matrix golden bench bench-peers bench-overshoot bench-scale soak rebuild requirements sbom secrets images docs
