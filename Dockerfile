# One image for the server of clicks, one for batches, both from setup.cfg, for computers without a GPU:
#   docker build --target server -t sam-bundles-server .
#   docker build --target batch  -t sam-bundles-batch .
# How they are run: docs/batch.md.
FROM python:3.12-slim-bookworm AS base
RUN useradd --create-home --uid 1000 sam
WORKDIR /opt/sam-bundles
COPY . .
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 MPLCONFIGDIR=/tmp/matplotlib

FROM base AS server
# PyTorch's own index has wheels without CUDA; pip takes "+cpu" before the plain version of the same number.
# Versions are bounded in setup.cfg.
# hadolint ignore=DL3013
RUN pip install --no-cache-dir --extra-index-url https://download.pytorch.org/whl/cpu ".[server]"
USER 1000
EXPOSE 1527
# A container is reached by its network alone; without a value after --api-key a key is made and printed.
ENTRYPOINT ["python", "-m", "sam_bundles", "serve", "--host", "0.0.0.0"]
CMD ["--api-key"]

FROM base AS batch
# Versions are bounded in setup.cfg.
# hadolint ignore=DL3013
RUN pip install --no-cache-dir --extra-index-url https://download.pytorch.org/whl/cpu ".[batch,ray]"
USER 1000
ENTRYPOINT ["python", "-m", "sam_bundles", "batch"]
CMD ["--help"]
