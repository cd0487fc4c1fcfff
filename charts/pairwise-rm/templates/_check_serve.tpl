{{/* Checks of `serve`. */}}

{{/* Fails when the pool has no room for a replica, or there is no judge to serve. Input: the root context. */}}
{{- define "pairwise-rm.checkServe" -}}
  {{- $serve := .Values.serve -}}
  {{- $pools := include "pairwise-rm.pools" . | fromJson -}}
  {{- if not (hasKey $pools $serve.pool) -}}
    {{- fail (printf "serve.pool: expected one of %s, got %q" (keys $pools | sortAlpha | join ", ") $serve.pool) -}}
  {{- end -}}
  {{- $pool := get $pools $serve.pool -}}
  {{- $width := include "pairwise-rm.serveWidth" . | int -}}
  {{- if gt $width (int $pool.gpus) -}}
    {{- fail (printf "serve.tensorParallel: %d GPUs on one pod wanted, pools.%s.gpus is %v; lower it, or take another serve.pool" $width $serve.pool $pool.gpus) -}}
  {{- end -}}
  {{- if gt (int $serve.autoscaling.minReplicas) (int $serve.autoscaling.maxReplicas) -}}
    {{- fail (printf "serve.autoscaling.minReplicas: %v is more than maxReplicas, %v" $serve.autoscaling.minReplicas $serve.autoscaling.maxReplicas) -}}
  {{- end -}}
  {{- if and $serve.model (not (hasPrefix "/mnt/runs/" $serve.model)) -}}
    {{- fail (printf "serve.model: %q; give a folder below /mnt/runs, the claim of storage.runs" $serve.model) -}}
  {{- end -}}
  {{- if and (not $serve.model) (not (has "export" (include "pairwise-rm.stagesThatRun" . | fromJsonArray))) -}}
    {{- fail "serve.model: is missing; stages.export is off, so this release exports no judge that could be served" -}}
  {{- end -}}
{{- end -}}
