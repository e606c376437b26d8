# Broker and ingestion in one image; docs/image.md says how to build and run it.
#
#   docker build . -t iot-ingestion-mqtt

# The digest is that of the index of all platforms; a tag may be moved, a digest not.
ARG BROKER_IMAGE=eclipse-mosquitto:2.1.2-alpine@sha256:38c0da4f2ef84284d47b3b3eeea1cb3bdeabe81ee10caf0cd5c5ff61ee3ea408


# The system part of the finished image.
FROM ${BROKER_IMAGE} AS system

# The Alpine release of the broker's image decides which versions exist, and keeps only the newest of
# each. The entry point and the example are removed because they let everybody connect.
# hadolint ignore=DL3018
RUN apk add --no-cache python3 tini \
    && rm -rf /docker-entrypoint.sh /mosquitto /mosquitto-no-auth.conf \
    && install -d -o 1883 -g 1883 -m 0700 /data \
    && install -d /usr/share/echo-ingest \
    && apk info -v >/usr/share/echo-ingest/packages


# The locked libraries, in a virtual environment.
FROM system AS libraries

# hadolint ignore=DL3018
RUN apk add --no-cache gcc musl-dev python3-dev

WORKDIR /build
COPY deploy/image/build.lock requirements.lock ./

# All as wheels with locked hashes; pymongo has no wheel for musl and is compiled.
ARG PYMONGO_C_EXT_MUST_BUILD=1
RUN python3 -m venv /tools \
    && /tools/bin/pip install --no-cache-dir --require-hashes -r build.lock \
    && /tools/bin/pip wheel --no-cache-dir --no-deps --no-build-isolation --require-hashes \
        --only-binary :all: --no-binary pymongo --wheel-dir wheels -r requirements.lock

# Without packages that only build (setuptools) or generate test data (the other two).
RUN python3 -m venv --without-pip /opt/echo-ingest \
    && rm wheels/setuptools-* wheels/faker-* wheels/polyfactory-* \
    && /tools/bin/pip --python /opt/echo-ingest/bin/python install --no-index --no-deps wheels/* \
    && find /opt/echo-ingest -type d -name tests -prune -exec rm -r {} +


# The console's scripts and styles; Node.js does not get into the image.
FROM system AS console

# hadolint ignore=DL3018
RUN apk add --no-cache nodejs npm

WORKDIR /build
COPY console/package.json console/package-lock.json console/.npmrc ./
RUN npm ci --omit=dev --ignore-scripts
COPY console ./
RUN node build.mjs static


# Our own code, in a separate folder: an update of the image is then a small layer.
FROM libraries AS code

COPY pyproject.toml README.md LICENSE ./
COPY src src
COPY --from=console /build/static src/echo_ingest/web/console/static
RUN /tools/bin/pip wheel --no-index --no-deps --no-build-isolation --wheel-dir code . \
    && /tools/bin/pip --python /opt/echo-ingest/bin/python install --no-index --no-deps \
        --root /code code/*


# The list of all that is in the image.
FROM libraries AS contents

COPY --from=code /code/ /
COPY deploy/image/sbom.py console/package-lock.json ./
RUN install -d /contents/usr/share/echo-ingest \
    && /opt/echo-ingest/bin/python sbom.py /usr/share/echo-ingest/packages package-lock.json \
        >/contents/usr/share/echo-ingest/sbom.cdx.json


# The passwords that can be set at the build. Only their hashes are copied from this stage: neither
# the arguments nor its history are in the image.
FROM libraries AS accounts

COPY --from=code /code/ /
COPY deploy/image/accounts.py ./
ARG pubuserpass
ARG subuserpass
RUN --mount=type=secret,id=pubuserpass --mount=type=secret,id=subuserpass \
    install -d /accounts/etc/echo-ingest \
    && /opt/echo-ingest/bin/python accounts.py >/accounts/etc/echo-ingest/accounts \
    && chown 1883:1883 /accounts/etc/echo-ingest/accounts \
    && chmod 0400 /accounts/etc/echo-ingest/accounts


# The image, from scratch, so that it does not inherit the volumes of the broker's image.
FROM scratch

# hadolint ignore=DL3067
COPY --from=system / /
COPY --from=libraries /opt/echo-ingest /opt/echo-ingest
COPY --from=code /code/ /
COPY --from=contents /contents/ /
COPY --from=accounts /accounts/ /

# 0.0.0.0 means everybody who can reach the container. Load balancers check health on port 80.
ENV PATH=/opt/echo-ingest/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    PYTHONDONTWRITEBYTECODE=1 \
    IOT_DATA_DIR=/data \
    IOT_BIND=0.0.0.0 \
    IOT_HTTP_PORT=80 \
    IOT_BROKER_HTTP=true \
    IOT_ACCOUNTS_FILE=/etc/echo-ingest/accounts

ARG BROKER_IMAGE
ARG IMAGE_VERSION=0.1.0
ARG IMAGE_REVISION
ARG IMAGE_PACKAGES
LABEL org.opencontainers.image.title="iot-ingestion-mqtt" \
      org.opencontainers.image.description="Durable MQTT ingestion for acoustic sensor networks in the field" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${IMAGE_VERSION}" \
      org.opencontainers.image.revision="${IMAGE_REVISION}" \
      org.opencontainers.image.base.name="${BROKER_IMAGE}" \
      echo-ingest.packages="${IMAGE_PACKAGES}" \
      echo-ingest.sbom="/usr/share/echo-ingest/sbom.cdx.json"

VOLUME /data
WORKDIR /data
USER 1883:1883
EXPOSE 80 1883 9001

# Healthy means that a message passed through the broker and back, whichever half runs here.
HEALTHCHECK --interval=5s --timeout=5s --retries=3 --start-period=300s \
    CMD ["/bin/sh", "-c", "exec wget -q -O /dev/null http://$IOT_BIND:$IOT_HTTP_PORT/healthz"]

ENTRYPOINT ["/sbin/tini", "--", "echo-ingest"]
CMD ["up"]
