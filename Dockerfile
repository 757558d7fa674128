# crome_jax with everything pinned, for TPU unless told otherwise: docker build --build-arg EXTRA=gpu -t crome_jax .
# For workers of Beam: docker build --target beam --build-arg EXTRA=beam -t crome_jax_beam .
FROM python:3.11.14-slim-bookworm AS crome
ARG EXTRA=tpu
WORKDIR /crome_jax
COPY pyproject.toml requirements.txt requirements-beam.txt LICENSE README.md ./
COPY launch/setup.sh launch/
COPY crome_jax crome_jax
COPY gin gin
RUN launch/setup.sh "$EXTRA" && rm -rf /root/.cache
# Not root: what it writes to a mounted folder belongs to this user, whom launch/jobset.yaml names by number.
RUN useradd --uid 1000 --create-home crome
USER 1000

FROM crome AS beam
# What Beam starts on a worker; the version is that of requirements-beam.txt.
COPY --from=apache/beam_python3.11_sdk:2.77.0 /opt/apache/beam /opt/apache/beam
# The Python that boot starts is the one that all is installed for; else it makes an environment that sees none of it.
ENV PATH="/crome_jax/.venv/bin:$PATH" RUN_PYTHON_SDK_IN_DEFAULT_ENVIRONMENT=1
# Dataflow mounts the folder that boot puts a job's files in, and it belongs to root.
USER root
ENTRYPOINT ["/opt/apache/beam/boot"]

FROM crome
# A process of its own, not a shell's child: SIGTERM reaches it, and the run saves.
ENTRYPOINT [".venv/bin/python", "-m", "crome_jax"]
CMD ["--help"]
