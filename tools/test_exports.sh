#!/bin/sh
# Loads exports of a run with the tools' own code:  tools/test_exports.sh [RUN] [tool ...]
#
# RUN is a finished run in the laboratory (`lidr run quickstart` makes runs/quickstart). Every tool gets an environment of
# its own below $ENVIRONMENTS (default .venv-exports; about 1.5 GB each), made once and used again. Tools: trl (in .venv),
# llamafactory, axolotl, openrlhf. They are installed without what their readers of data do not need (GPU kernels,
# servers). NeMo RL is not among them: its package on PyPI is empty.
set -eu
cd "$(dirname "$0")/.."
run=${1:-runs/quickstart}
[ $# -gt 0 ] && shift
[ $# -gt 0 ] || set -- trl llamafactory axolotl openrlhf
environments=${ENVIRONMENTS:-.venv-exports}
model=src/lidr/lab/model
export AXOLOTL_DO_NOT_TRACK=1 HF_HUB_OFFLINE=1 PIP_DISABLE_PIP_VERSION_CHECK=1

# make TOOL VERSION PACKAGE ...: an environment with the tool itself and these packages. torch by its exact version, as
# in the Makefile; pip then says which of the tool's requirements are missing, which is meant.
make() {
    tool=$1
    version=$2
    shift 2
    folder="$environments/$tool"
    [ -e "$folder/.installed" ] && return
    rm -rf "$folder"
    "${PYTHON:-python3}" -m venv "$folder"
    "$folder/bin/python" -m pip install --quiet --no-deps "$tool==$version"
    "$folder/bin/python" -m pip install --quiet torch==2.13.0 "$@"
    touch "$folder/.installed"
}

for tool in "$@"; do
    case $tool in
    trl)
        python=.venv/bin/python
        ;;
    llamafactory)
        make llamafactory 0.9.5 transformers==5.6.0 datasets==4.0.0 peft==0.18.1 accelerate==1.11.0 trl==0.24.0 \
            omegaconf pillow jinja2 scipy
        python="$environments/llamafactory/bin/python"
        # It imports torchaudio, whose wheel wants CUDA. There is no sound in our data: an empty module will do.
        "$python" -c "import pathlib, sysconfig; pathlib.Path(sysconfig.get_path('purelib'), 'torchaudio.py').touch()"
        ;;
    axolotl)
        make axolotl 0.19.0 transformers==5.16.1 datasets==4.8.4 peft==0.20.0 accelerate==1.13.0 trl==1.9.0 addict \
            pydantic==2.12.5 requests pyyaml jinja2 colorama posthog numba pillow
        python="$environments/axolotl/bin/python"
        ;;
    openrlhf)
        make openrlhf 0.11.2 transformers==5.15.0 datasets sympy pylatexenc jinja2
        python="$environments/openrlhf/bin/python"
        ;;
    *)
        echo "no such tool: $tool" >&2
        exit 2
        ;;
    esac
    for form in conversational plain; do
        folder=$(mktemp -d)
        .venv/bin/lidr export "$run" --format "$tool" "--$form" --iteration all --out "$folder" >/dev/null
        "$python" tools/check_exports.py "$tool" "$folder" "$model" 2>"$folder.log" || { cat "$folder.log" >&2; exit 1; }
        rm -rf "$folder" "$folder.log"
    done
done
