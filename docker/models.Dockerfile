# The one-shot service that brings the models: the base's Python and its pip, nothing else.
ARG PYTHON_BASE=python:3.13-slim-trixie
FROM ${PYTHON_BASE}
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 MODELS_DIR=/models
COPY models.json /app/
COPY models /app/models
# A new volume takes over the owner of the folder it is mounted on.
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin chorus && mkdir /models && chown 10001:10001 /models \
 && find / -xdev -perm /6000 -type f -exec chmod a-s {} +
WORKDIR /app
USER 10001:10001
ENTRYPOINT ["python3", "-m", "models"]
