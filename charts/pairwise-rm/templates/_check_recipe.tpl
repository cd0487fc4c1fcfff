{{/* Checks of the recipe. Those of its single keys are in values.schema.json, those of how it is given in _plan.tpl. */}}

{{/*
Fails for what the package checks across keys, which a schema cannot: the stage would say it only after the
pairs are converted. tests/chart/test_parity.py holds both together. Input: the root context.
*/}}
{{- define "pairwise-rm.checkRecipe" -}}
  {{- $recipe := include "pairwise-rm.recipe" . | fromJson -}}
  {{- $train := $recipe.train -}}
  {{- $export := $recipe.data.export -}}
  {{- if and $export.split $export.split_ratio -}}
    {{- fail "recipe data.export: split and split_ratio exclude each other; set the other one to null" -}}
  {{- end -}}
  {{- if and $recipe.data.configs.test_path (or $export.split_ratio (eq ($export.split | default "") "test")) -}}
    {{- fail "recipe data.configs.test_path: only `split: official` reads it; name all files in configs.path" -}}
  {{- end -}}
  {{- with $export.split_ratio -}}
    {{- if ne (round (addf (.train | default 0) (.test | default 0)) 6) 1.0 -}}
      {{- fail (printf "recipe data.export.split_ratio: train + test must be 1, got %v + %v" (.train | default 0) (.test | default 0)) -}}
    {{- end -}}
  {{- end -}}
  {{- if and (has "wandb" $train.loggers) (not .Values.secrets.wandb.existingSecret) -}}
    {{- $names := list -}}
    {{- range concat .Values.extraEnv .Values.head.env -}}
      {{- if or (ne .name "WANDB_MODE") (not .value) (has .value (list "offline" "disabled")) -}}
        {{- $names = append $names .name -}}
      {{- end -}}
    {{- end -}}
    {{- if not (or (has "WANDB_API_KEY" $names) (has "WANDB_MODE" $names)) -}}
      {{- fail "secrets.wandb.existingSecret: is empty, and the recipe logs to W&B (train.loggers); name a secret, or set WANDB_MODE=offline in extraEnv" -}}
    {{- end -}}
  {{- end -}}
  {{- if and (eq $recipe.device "cpu") (eq $recipe.model.attention "flash_attention_2") -}}
    {{- fail "recipe model.attention: flash_attention_2 needs a GPU; use sdpa with device: cpu" -}}
  {{- end -}}
  {{- if and (eq $recipe.device "cpu") (gt (int $train.tensor_parallel) 1) -}}
    {{- fail "recipe train.tensor_parallel: must be 1 with device: cpu" -}}
  {{- end -}}
  {{- $gpus := mul $train.nodes $train.gpus_per_node | int -}}
  {{- if mod $gpus (int $train.tensor_parallel) -}}
    {{- fail (printf "recipe train.tensor_parallel: %v must divide the %d GPUs (nodes x gpus_per_node)" $train.tensor_parallel $gpus) -}}
  {{- end -}}
  {{- if mod (int $train.batch_size) (int $train.mini_batch_size) -}}
    {{- fail (printf "recipe train.batch_size: must be a multiple of train.mini_batch_size %v, got %v" $train.mini_batch_size $train.batch_size) -}}
  {{- end -}}
  {{- range $key := list "batch_size" "mini_batch_size" -}}
    {{- if mod (mul (get $train $key) $train.rollouts) $gpus -}}
      {{- fail (printf "recipe train.%s: %v x %v rollouts must be a multiple of %d GPUs" $key (get $train $key) $train.rollouts $gpus) -}}
    {{- end -}}
  {{- end -}}
  {{- $samples := div (mul $train.mini_batch_size $train.rollouts) $gpus -}}
  {{- if mod $samples (int $train.micro_batch_size_per_gpu) -}}
    {{- fail (printf "recipe train.micro_batch_size_per_gpu: must divide the %d samples that a GPU has of a mini-batch, got %v" $samples $train.micro_batch_size_per_gpu) -}}
  {{- end -}}
  {{- $samples = div (mul $train.batch_size $train.rollouts) $gpus -}}
  {{- $logProb := $train.log_prob_micro_batch_size_per_gpu | default $train.micro_batch_size_per_gpu -}}
  {{- if mod $samples (int $logProb) -}}
    {{- fail (printf "recipe train.log_prob_micro_batch_size_per_gpu: must divide the %d samples of a GPU, got %v" $samples $logProb) -}}
  {{- end -}}
{{- end -}}
