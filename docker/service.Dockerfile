# One replica's image; SERVICE is asr or tts, ACCELERATOR cpu or gpu.
# The base is an official image or one that docker/base-image.sh made; both are Debian trixie with Python 3.13.
ARG PYTHON_BASE=python:3.13-slim-trixie

FROM ${PYTHON_BASE} AS build
ARG SERVICE ACCELERATOR
COPY requirements/${SERVICE}-${ACCELERATOR}*.txt /requirements/
# The machine's own pip settings (a mirror, a proxy) and certificates come as secrets, so that no layer keeps them.
# Packages named in *-no-deps.txt would bring others that are not wanted here; the file says why.
RUN --mount=type=cache,target=/root/.cache/pip --mount=type=secret,id=pip_conf,target=/etc/pip.conf \
    --mount=type=secret,id=ca_bundle \
    python3 -m venv /venv \
 && /venv/bin/pip install --require-hashes -r /requirements/${SERVICE}-${ACCELERATOR}.txt \
 && for extra in /requirements/*-no-deps.txt; do \
      if [ -e "$extra" ]; then /venv/bin/pip install --require-hashes --no-deps -r "$extra" || exit 1; fi; \
    done \
 && /venv/bin/pip uninstall --yes pip \
 && find /venv -type d \( -name tests -o -name test \) -prune -exec rm -rf {} +

FROM ${PYTHON_BASE}
ARG SERVICE
# ONNX Runtime's wheels report to their maker unless told not to: nothing leaves the machine that runs this.
# With the default number of malloc arenas (8 a core) a replica takes 100 MB more, and is no faster.
# oneDNN keeps the primitives of up to 1024 shapes, and every utterance's length is one: 300 MB after 400, and no faster.
# CUDA's libraries are wheels (12 for CTranslate2 and torch, 13 for ONNX Runtime); the driver is the host's.
ENV PATH=/venv/bin:$PATH PYTHONPATH=/app:/app/client PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 ORT_DISABLE_TELEMETRY=1 MALLOC_ARENA_MAX=2 ONEDNN_PRIMITIVE_CACHE_CAPACITY=0 \
    LD_LIBRARY_PATH=/venv/lib/python3.13/site-packages/nvidia/cublas/lib:/venv/lib/python3.13/site-packages/nvidia/cudnn/lib:/venv/lib/python3.13/site-packages/nvidia/cu13/lib \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility SERVICE=${SERVICE}
COPY --from=build /venv /venv
COPY docker/healthcheck.sh /usr/local/bin/healthcheck
COPY client /app/client
COPY serving /app/serving
COPY ${SERVICE} /app/${SERVICE}
RUN python3 -m compileall -q /app && useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin chorus \
 && find / -xdev -perm /6000 -type f -exec chmod a-s {} +
WORKDIR /app
USER 10001:10001
# exec: the service itself gets SIGTERM, and drains.
CMD ["sh", "-c", "exec python3 -m \"$SERVICE\""]
