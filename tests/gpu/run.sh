#!/usr/bin/env bash
# Builds rev on a machine that has a CUDA device and perhaps no network, runs the tests that need the device (their names
# end in _CUDA) and the benchmarks, and writes what it saw to a folder.
#
#   tests/gpu/run.sh pack    where there is a network: puts the headers and libraries that the other machine may lack
#                            into build/packed, to be taken along with the working tree
#   tests/gpu/run.sh [OUT]   on the other machine: OUT/result.md, and the logs beside it; OUT is build/gpu/result unless given
#
# The other machine has a C++20 compiler, CMake, Ninja, nvcc, and a python3 with torch 2.11 or later.
set -uo pipefail
cd "$(dirname "$0")/../.."
packed=$PWD/build/packed

if [[ ${1:-} == pack ]]; then
  set -e
  rm -rf "$packed" && mkdir -p "$packed/archives"
  (cd "$packed/archives" && apt-get -q download nlohmann-json3-dev libcli11-dev libgtest-dev)
  for archive in "$packed"/archives/*.deb; do dpkg-deb -x "$archive" "$packed"; done
  rm -r "$packed/archives"
  du -sh "$packed"
  exit
fi

out=${1:-build/gpu/result}
mkdir -p "$out"
out=$(cd "$out" && pwd)
result=$out/result.md
failed=0

# step NAME COMMAND...: runs it with its output in OUT/NAME.log, and notes whether it went well and how long it took.
step() {
  local name=$1 began=$SECONDS
  shift
  if "$@" >"$out/$name.log" 2>&1; then
    echo "- $name: passed in $((SECONDS - began)) s" >>"$result"
  else
    echo "- $name: **failed** ($?) after $((SECONDS - began)) s, see $name.log" >>"$result"
    failed=1
  fi
  tail -n 3 "$out/$name.log"
}

{
  echo "# rev on a GPU"
  echo
  echo "- commit: $(git rev-parse --short HEAD 2>/dev/null || echo unknown)"
  echo "- date: $(date -u +%F)"
  echo "- device: $(nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader)"
  echo "- nvcc: $(nvcc --version | tail -n 1); torch: $(python3 -c 'import torch; print(torch.__version__)')"
  echo
} >"$result"

step configure cmake -S . -B build/gpu -G Ninja -DCMAKE_BUILD_TYPE=Release -DREV_TESTS=ON \
  "-DCMAKE_PREFIX_PATH=$packed/usr"
step build cmake --build build/gpu
step tests ctest --test-dir build/gpu --output-on-failure -R '_CUDA$' --no-tests=error
if command -v compute-sanitizer >/dev/null; then
  step memcheck compute-sanitizer --error-exitcode 1 build/gpu/bin/test_cuda_device
  step racecheck compute-sanitizer --tool racecheck --error-exitcode 1 build/gpu/bin/test_cuda_device
fi
for scheme in midpoint midpoint-a leapfrog hamiltonian revffn; do
  for memory in invert store; do
    step "train_${scheme}_$memory" build/gpu/bin/rev-gpt2 train --device cuda --dtype bfloat16 --scheme "$scheme" \
      --memory "$memory" --steps 20 --eval-every 0 --save-every 0 --out "$out/runs/$scheme-$memory"
  done
  step "same_bits_$scheme" cmp "$out/runs/$scheme-invert/model.safetensors" "$out/runs/$scheme-store/model.safetensors"
done
rm -rf "$out/runs"
step bench_kernels build/gpu/bin/rev-bench kernels --device cuda --tsv "$out/kernels.tsv"
step bench_step build/gpu/bin/rev-bench step --device cuda --bfloat16 --rounds 11 --tsv "$out/step.tsv"
step bench_memory build/gpu/bin/rev-bench memory --device cuda --tsv "$out/memory.tsv"

cat "$result"
exit $failed
