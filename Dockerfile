# The server in all its parts: `aldis up` (by default: everything in one process, SQLite in /data), `aldis node`,
# `aldis accounts`, `aldis migrate`.

FROM python:3.13-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /src
RUN python -m venv /opt/aldis
ENV PATH=/opt/aldis/bin:$PATH
# the dependencies change seldom, so they have a layer of their own
COPY requirements-runtime.lock ./
RUN pip install --no-deps --require-hashes -r requirements-runtime.lock
COPY pyproject.toml README.md LICENSE ./
COPY broker broker
COPY plugins plugins
COPY bridge bridge
COPY accounts_api accounts_api
COPY mobile_client_demo mobile_client_demo
COPY config config
RUN pip install --no-deps . && pip check

FROM python:3.13-slim-bookworm
RUN groupadd --system --gid 10001 aldis \
    && useradd --system --uid 10001 --gid 10001 --no-create-home --home-dir /data aldis \
    && install --directory --owner=aldis --group=aldis --mode=0700 /data
COPY --from=build /opt/aldis /opt/aldis
ENV PATH=/opt/aldis/bin:$PATH PYTHONUNBUFFERED=1 ALDIS_DATA=/data
USER 10001:10001
WORKDIR /data
VOLUME /data
# MQTT, MQTT over WebSocket, HTTP: REST and pages, or the health of a node (`aldis node --http 0.0.0.0:8000`)
EXPOSE 1883 8083 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 \
    CMD ["python", "-m", "aldis.broker.health", "127.0.0.1:8000"]
ENTRYPOINT ["aldis"]
CMD ["up", "--lan"]
