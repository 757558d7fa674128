# crome_jax with everything pinned, for TPU unless told otherwise: docker build --build-arg EXTRA=gpu -t crome_jax .
FROM python:3.11-slim
ARG EXTRA=tpu
WORKDIR /crome_jax
COPY pyproject.toml requirements.txt LICENSE README.md ./
COPY launch/setup.sh launch/
COPY crome_jax crome_jax
COPY gin gin
RUN launch/setup.sh "$EXTRA" && rm -rf /root/.cache
# Not root: what it writes to a mounted folder belongs to this user.
RUN useradd --create-home crome
USER crome
# A process of its own, not a shell's child: SIGTERM reaches it, and the run saves.
ENTRYPOINT [".venv/bin/python", "-m", "crome_jax"]
CMD ["--help"]
