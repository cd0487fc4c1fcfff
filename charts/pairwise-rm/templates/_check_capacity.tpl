{{/* Checks of what the recipe takes against what the pools give, which the package checks too: tests/chart/test_parity.py. */}}

{{/*
Fails when the pools cannot give what the recipe takes: verl waits for ever for Ray CPUs that never come.
Input: the root context.
*/}}
{{- define "pairwise-rm.checkCapacity" -}}
  {{- $plan := include "pairwise-rm.plan" . | fromJson -}}
  {{- $pools := include "pairwise-rm.pools" . | fromJson -}}
  {{- $most := ternary "maxReplicas" "replicas" .Values.autoscaling.enabled -}}
  {{- $stages := include "pairwise-rm.stagesThatRun" . | fromJsonArray -}}
  {{- if has "train" $stages -}}
    {{- $nodes := int $plan.train.nodes -}}
    {{- $gpus := int $plan.train.gpus_per_node -}}
    {{- $all := mul $nodes $gpus -}}
    {{- $cpus := add (mul 3 $all) (max 2 (min 8 $all)) 3 -}}
    {{- $there := 0 -}}
    {{- range $name, $pool := $pools -}}
      {{- if ge (int $pool.gpus) $gpus -}}
        {{- $there = add $there $pool.most -}}
        {{- if and $pool.most (lt (mul $nodes $pool.rayCpus) $cpus) -}}
          {{- fail (printf "pools.%s.rayCpus: %v is too few; verl takes %d Ray CPUs on %d pods for %d GPUs, so set at least %v" $name $pool.rayCpus $cpus $nodes $all (ceil (divf $cpus $nodes))) -}}
        {{- end -}}
      {{- end -}}
    {{- end -}}
    {{- if lt (int $there) $nodes -}}
      {{- fail (printf "recipe train.nodes x train.gpus_per_node: %d pods with %d GPUs wanted, the pools give %d such; raise pools.<name>.gpus or %s, or take another recipe" $nodes $gpus $there $most) -}}
    {{- end -}}
  {{- end -}}
  {{- if has "evaluate" $stages -}}
    {{- $replicas := int $plan.evaluate.replicas -}}
    {{- $gpus := int $plan.evaluate.tensor_parallel -}}
    {{- $there := 0 -}}
    {{- range $pools -}}
      {{- $there = add $there (mul .most (div .gpus $gpus)) -}}
    {{- end -}}
    {{- if lt (int $there) $replicas -}}
      {{- fail (printf "recipe evaluate.replicas x evaluate.tensor_parallel: %d engines with %d GPUs on one pod wanted, the pools have room for %d; raise pools.<name>.gpus or %s, or lower evaluate.replicas" $replicas $gpus $there $most) -}}
    {{- end -}}
  {{- end -}}
  {{- if eq $plan.device "cuda" -}}
    {{- range $name, $pool := $pools -}}
      {{- if and $pool.gpus (not $pool.gpuResource) -}}
        {{- fail (printf "pools.%s.gpuResource: is empty, so its GPUs are only counted; the recipe %s has device: cuda and needs nvidia.com/gpu" $name $plan.name) -}}
      {{- end -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
