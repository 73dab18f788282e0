# Everything of Penstock in one image; what a container does is its command's business.
#
#   docker build -t penstock .                               the CPU build of torch
#   docker build -t penstock:cuda --build-arg TORCH_INDEX= .   PyPI's build, which is for CUDA
#   docker build -t penstock --secret id=pip,src=pip.conf \
#       --build-arg TORCH_INDEX=https://mirror/torch-cpu .   from mirrors of PyPI and of torch's
#
# pip.conf names the mirror of PyPI, and stays outside. TORCH_INDEX outranks it for torch, and is
# kept in the image's history: no password belongs there. Where it is empty, torch is pip.conf's too.
#
# Layers from what changes rarely to what changes often: a compiler, torch, what we depend on, us.

ARG PYTHON=3.12.12-slim-bookworm

FROM python:${PYTHON} AS wheel
WORKDIR /source
COPY . .
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:${PYTHON}
# The CPU kernels and Triton's launchers are compiled at first use, for the machine they run on;
# without a compiler the engine is slow, not wrong.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ \
    && rm -rf /var/lib/apt/lists/*
# torch first and alone, so that its index is asked for nothing else. That index instead of PyPI, not
# beside it: where it cannot be reached, pip would take PyPI's build, some gigabytes, and say nothing.
ARG TORCH=2.13.0
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    pip install --no-cache-dir --no-deps "torch==${TORCH}" \
    ${TORCH_INDEX:+--index-url="${TORCH_INDEX}"}
# An empty package with our metadata brings all that we depend on, whatever changes in our code. A
# torch without CUDA has no use for Triton, which is as large as itself.
WORKDIR /skeleton
COPY pyproject.toml ./
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    python -c "import pathlib, tomllib; \
        project = tomllib.loads(pathlib.Path('pyproject.toml').read_text()); \
        folders = [name.split('.')[1:] for name in project['tool']['setuptools']['packages']]; \
        [pathlib.Path(*each).mkdir(parents=True, exist_ok=True) for each in folders]; \
        pathlib.Path('__init__.py').write_text('__version__ = \"0\"')" \
    && touch README.md LICENSE py.typed \
    && pip install --no-cache-dir '.[all]' \
    && pip uninstall --yes penstock \
    && if [ "$(python -c 'import torch; print(torch.version.cuda)')" = None ]; \
        then pip uninstall --yes triton; fi \
    && rm -rf ./*
RUN --mount=type=bind,from=wheel,source=/wheels,target=/wheels \
    pip install --no-cache-dir --no-deps /wheels/*.whl
# Where volumes go must be the user's before they are mounted. The number is what Kubernetes asks
# for, where names mean nothing.
RUN useradd --uid 10001 --create-home penstock \
    && install --directory --owner=penstock --group=penstock /data /home/penstock/.cache
# All that is written beside the data: models, compiled kernels, Triton's own.
ENV XDG_CACHE_HOME=/home/penstock/.cache \
    TRITON_CACHE_DIR=/home/penstock/.cache/triton \
    PENSTOCK_DATA=/data \
    PYTHONDONTWRITEBYTECODE=1 \
    HEALTH_URL=http://127.0.0.1:8100/healthz
USER 10001:10001
WORKDIR /data
# A container that is no API says in HEALTH_URL whom to ask.
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s --retries=4 \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen(os.environ['HEALTH_URL'], timeout=4)"]
CMD ["penstock", "--help"]
