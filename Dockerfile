FROM python:3.11-slim

RUN useradd --create-home --uid 10001 gateway
WORKDIR /app
RUN pip install --no-cache-dir uv
COPY pyproject.toml README.md LICENSE ./
COPY domain domain
COPY infra infra
COPY projections projections
COPY workers workers
COPY api api
COPY cli cli
COPY migrations migrations
RUN uv sync --no-dev --no-editable
ENV PATH="/app/.venv/bin:$PATH" GATEWAY_LOG_FORMAT=json
USER gateway
EXPOSE 3007
ENTRYPOINT ["gateway"]
CMD ["api"]
