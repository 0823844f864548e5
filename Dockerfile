# The gateway's image. PYTHON_IMAGE is the base image with its digest: `make images` looks it up and writes images.env.
# Everything else that is installed is pinned by version and hash, in requirements.txt and requirements-build.txt.
ARG PYTHON_IMAGE
FROM ${PYTHON_IMAGE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_NO_INPUT=1
WORKDIR /src
COPY requirements.txt requirements-build.txt ./
RUN python -m venv /opt/gateway
RUN /opt/gateway/bin/pip install --require-hashes --no-deps --only-binary :all: -r requirements.txt
RUN python -m venv /opt/build
RUN /opt/build/bin/pip install --require-hashes --no-deps --only-binary :all: -r requirements-build.txt
COPY pyproject.toml README.md LICENSE ./
COPY domain domain
COPY infra infra
COPY projections projections
COPY workers workers
COPY api api
COPY cli cli
COPY migrations migrations
RUN /opt/build/bin/python -m hatchling build --target wheel --directory /dist
RUN /opt/gateway/bin/pip install --no-index --no-deps /dist/ai_gateway-0.1.0-py3-none-any.whl
RUN /opt/gateway/bin/pip check
RUN /opt/gateway/bin/pip uninstall --yes pip

FROM ${PYTHON_IMAGE}
RUN useradd --no-create-home --shell /usr/sbin/nologin --uid 10001 gateway
COPY --from=build /opt/gateway /opt/gateway
ENV PATH="/opt/gateway/bin:$PATH" PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 GATEWAY_LOG_FORMAT=json
WORKDIR /opt/gateway
USER 10001:10001
EXPOSE 3007
ENTRYPOINT ["gateway"]
CMD ["api"]
