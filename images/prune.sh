#!/bin/sh
# prune.sh SITE_PACKAGES: deletes what no run opens. Called in the layer that installs it, or the bytes stay in the image.
#   - packages' own tests; static archives (but for the two that nvcc links)
#   - CUDA libraries that nothing in the image links or opens by name (readelf, grep): cusolverMg, nvrtc's second build
#   - FlashInfer's compiled kernels, 1.8 GB: all are for Blackwell (sm_100, sm_103). BLACKWELL=1 keeps them
set -eu
cd "$1"
find . -type d -name tests -prune -exec rm -rf {} +
find . -name '*.a' ! -name libcudadevrt.a ! -name libcudart_static.a -delete
find . '(' -name 'libcusolverMg.so*' -o -name 'libnvrtc*.alt.so*' ')' -delete
if [ -z "${BLACKWELL:-}" ] && [ -d flashinfer_cubin/cubins ]; then
  others=$(find flashinfer_cubin/cubins -name '*.cubin' ! -iname '*sm10[03]*' ! -name 'kernel.*' | wc -l)
  [ "$others" -eq 0 ] || { echo "prune.sh: $others kernels in flashinfer-cubin are not for Blackwell alone: look again" >&2; exit 1; }
  find flashinfer_cubin/cubins -name '*.cubin' -delete
fi
