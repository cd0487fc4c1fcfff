#!/usr/bin/env bash
# The RM-Gallery tutorial's training script: it runs `pairwise-rm train`.
#
#   TRAIN_FILE=... VAL_FILE=... MODEL_PATH=... ./run_pairwise.sh [verl overrides or --dry-run]
#
# Every further argument is a verl override (trainer.total_epochs=1) or an option of `pairwise-rm train`.
set -euo pipefail

TRAIN_FILE=${TRAIN_FILE:-./examples/data/exports/preference_train.parquet}
VAL_FILE=${VAL_FILE:-./examples/data/exports/preference_test.parquet}
if [[ -z ${MODEL_PATH:-} ]]; then
  echo "error: MODEL_PATH is not set; expected your base model, a folder or a hub name" >&2
  exit 2
fi
if ! command -v pairwise-rm >/dev/null; then
  echo "error: pairwise-rm is not on PATH; activate the environment that it is installed in" >&2
  exit 1
fi
# Whose hyper-parameters: a shipped recipe (pairwise-rm validate --list) or a YAML file.
RECIPE=${RECIPE:-qwen3-14b-8x80g}

arguments=()
for argument in "$@"; do
  case $argument in
    -*) arguments+=("$argument") ;;
    *) arguments+=(--verl "$argument") ;;
  esac
done

exec pairwise-rm train "$RECIPE" "model.path=$MODEL_PATH" \
  "data.files={train: '$TRAIN_FILE', test: '$VAL_FILE'}" "${arguments[@]}"
