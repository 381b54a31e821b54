# syntax=docker/dockerfile:1
# Releases pin the base image by digest: --build-arg PYTHON_IMAGE=python:3.13-slim@sha256:...
ARG PYTHON_IMAGE=python:3.13-slim

FROM ${PYTHON_IMAGE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_ROOT_USER_ACTION=ignore
WORKDIR /srv/channel-gate
COPY requirements/build.lock requirements/production.lock requirements/
# Every package is a wheel with a known hash, so neither stage needs a compiler. The environment that is shipped has no pip.
RUN python -m venv /opt/build \
    && /opt/build/bin/python -m pip install --require-hashes --only-binary :all: --requirement requirements/build.lock \
    && python -m venv --without-pip /opt/venv \
    && python -m pip --python /opt/venv/bin/python install \
        --require-hashes --only-binary :all: --requirement requirements/production.lock
COPY pyproject.toml README.md alembic.ini ./
COPY app app
COPY migrations migrations
# The service runs from this tree, as in development: its migrations and alembic.ini lie beside the package.
RUN /opt/build/bin/python -m hatchling build --target wheel:editable --directory /tmp/dist \
    && python -m pip --python /opt/venv/bin/python install --no-deps --no-index /tmp/dist/*.whl \
    && /opt/venv/bin/python -m compileall -q app migrations

FROM ${PYTHON_IMAGE}
LABEL org.opencontainers.image.title="channel-gate" \
      org.opencontainers.image.description="Real-time pre-screening of loan applications by acquisition channel"
RUN python -m pip uninstall --yes --quiet --root-user-action=ignore pip \
    && rm -rf /usr/local/lib/python3*/ensurepip \
    && groupadd --gid 10001 gate \
    && useradd --uid 10001 --gid gate --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin gate
COPY --from=build /opt/venv /opt/venv
COPY --from=build /srv/channel-gate /srv/channel-gate
# Bytecode was compiled above: at run time nothing is written but to /tmp, so the root file system may be read-only.
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    GATE_HOST=0.0.0.0 \
    PORT=8000
WORKDIR /srv/channel-gate
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as web; web.urlopen(f\"http://127.0.0.1:{os.environ['PORT']}/livez\", timeout=2)"]
ENTRYPOINT ["channel-gate"]
CMD ["serve"]
