# The load test: Locust's master or one of its workers, with the people and the speech that they need.
# The base is an official image or one that docker/base-image.sh made; both are Debian trixie with Python 3.13.
ARG PYTHON_BASE=python:3.13-slim-trixie

FROM ${PYTHON_BASE} AS build
COPY requirements/loadtest.txt /requirements/
# The machine's own pip settings (a mirror, a proxy) and certificates come as secrets, so that no layer keeps them.
RUN --mount=type=cache,target=/root/.cache/pip --mount=type=secret,id=pip_conf,target=/etc/pip.conf \
    --mount=type=secret,id=ca_bundle \
    python3 -m venv /venv \
 && /venv/bin/pip install --require-hashes -r /requirements/loadtest.txt \
 && /venv/bin/pip uninstall --yes pip \
 && find /venv -type d \( -name tests -o -name test \) -prune -exec rm -rf {} +

FROM ${PYTHON_BASE}
ENV PATH=/venv/bin:$PATH PYTHONPATH=/app:/app/client PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 MALLOC_ARENA_MAX=2 \
    XDG_CACHE_HOME=/runs/.cache LOADTEST_RUNS=/runs
COPY --from=build /venv /venv
COPY docker/healthcheck.sh /usr/local/bin/healthcheck
COPY client /app/client
COPY benchmarks/__init__.py benchmarks/machine.py benchmarks/search.py /app/benchmarks/
COPY tests/data/speech /app/tests/data/speech
COPY loadtest /app/loadtest
# A new volume takes over the owner of the folder it is mounted on.
RUN python3 -m compileall -q /app && useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin chorus \
 && mkdir /runs && chown 10001:10001 /runs \
 && find / -xdev -perm /6000 -type f -exec chmod a-s {} +
WORKDIR /app
USER 10001:10001
ENTRYPOINT ["locust", "-f", "/app/loadtest/locustfile.py"]
