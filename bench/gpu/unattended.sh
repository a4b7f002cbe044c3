#!/usr/bin/env bash
# Runs all checks and benchmarks on a machine with an NVIDIA GPU, the most important ones first.
#
#   bench/gpu/unattended.sh WORK ENCODER SGML
#
# WORK: an empty folder for checkpoints, bundles and logs. ENCODER: folder of all-MiniLM-L6-v2, or package:NAME.
# SGML: folder of the Reuters-21578 files. RESULTS (variable): results file, default bench/results/gpu.json.
# A step that fails or hangs has its log in WORK/logs, and the next step starts. Takes about ten minutes on an H200 with
# 16 cores. Exports run one after the other: an export keeps all cores busy, and three in parallel took more than twice
# as long.
set -u
work=$1 encoder=$2 sgml=$3
results=${RESULTS:-bench/results/gpu.json}
python=${PYTHON:-python}
mkdir -p "$work/logs"

step() { # step TIMEOUT_S NAME COMMAND...: runs the command and prints the last lines of its log
  local timeout_s=$1 name=$2 started=$SECONDS
  shift 2
  timeout "$timeout_s" "$@" >"$work/logs/$name.log" 2>&1
  echo "== $name: exit $?, $((SECONDS - started)) s, at $SECONDS s"
  tail -n 2 "$work/logs/$name.log" | cut -c1-300
}
gpu() { step "$1" "$2" $python -m bench.gpu "${@:3}" --work "$work/bench" --results "$results"; }
train_reuters() { # train_reuters SEED
  step 150 "train-$1" $python -c 'from trainer.cli import main; main()' configs/reuters.toml --output "$work/checkpoint-$1" \
    --set encoder.source="$encoder" --set tasks.topics.data.0.path="$sgml" --set seed="$1"
}
export_bundle() { # export_bundle SEED
  step 120 "export-$1" $python -c 'from exporter.cli import main; main()' "$work/checkpoint-$1" \
    --output "$work/bundle-$1" --precision fp32,fp16
}

bundle=$work/bundle-21578
step 60 doctor $python -m batch doctor
step 120 pytest $python -m pytest -m gpu -q
train_reuters 21578
export_bundle 21578
gpu 120 checks checks --bundle "$bundle"
gpu 240 speed speed --bundle "$bundle" --rounds 2
gpu 60 whole whole --bundle "$bundle" --rows 150000
gpu 120 kernels kernels --bundle "$bundle"
gpu 60 launches launches --bundle "$bundle"
step 60 larger $python -m bench.gpu larger --bundle "$bundle" --output "$work/larger"
gpu 180 speed-larger speed --name base --no-fp32 --bundle "$work/larger/bundle" --peer-model "$work/larger/peer" --rounds 1
gpu 60 kernels-larger kernels --name base --no-sweep --bundle "$work/larger/bundle"
gpu 60 whole-shards whole --bundle "$bundle" --rows 150000 --processes 3
for seed in 21579 21580; do
  train_reuters $seed
  export_bundle $seed
done
$python -m bench.gpu page --results "$results"
