#!/usr/bin/env bash
# The guide's training script: a thin door to `pairwise-rm train`.
#
#   TRAIN_FILE=... VAL_FILE=... MODEL_PATH=... ./run_pairwise.sh [verl overrides or --dry-run]
#
# Every further argument is a verl override (trainer.total_epochs=1) or an option of `pairwise-rm train`.
set -euo pipefail

TRAIN_FILE=${TRAIN_FILE:-./examples/data/exports/preference_train.parquet}
VAL_FILE=${VAL_FILE:-./examples/data/exports/preference_test.parquet}
MODEL_PATH=${MODEL_PATH:?set MODEL_PATH to your base model, a folder or a hub name}
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
