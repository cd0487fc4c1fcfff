{{/*
Serving: the RayService's own helpers. Its cluster is that of _raycluster.tpl with `serve`: a pod holds one replica and
its GPUs, reads the runs without writing to them, and has no secret of training's.
*/}}

{{/* Name of the RayService. Input: the root context. */}}
{{- define "pairwise-rm.serveName" -}}
{{ include "pairwise-rm.fullname" . }}-judge
{{- end -}}

{{/* GPUs of a replica. Input: the root context. */}}
{{- define "pairwise-rm.serveWidth" -}}
{{- $plan := include "pairwise-rm.plan" . | fromJson -}}
{{- .Values.serve.tensorParallel | default $plan.evaluate.tensor_parallel | int -}}
{{- end -}}

{{/*
Arguments of pairwise_rm.serve.app:build, as YAML. With the digest a judge that is exported anew is served anew.
Input: the root context.
*/}}
{{- define "pairwise-rm.serveArguments" -}}
{{- $plan := include "pairwise-rm.plan" . | fromJson -}}
{{- $arguments := dict "model" (.Values.serve.model | default (printf "%s/export" $plan.runFolder)) -}}
{{- $_ := set $arguments "tensor_parallel" (include "pairwise-rm.serveWidth" . | int) -}}
{{- if not .Values.serve.model -}}
{{- $_ := set $arguments "export" $plan.stages.export.digest -}}
{{- end -}}
{{- with .Values.serve.vllm -}}
{{- $_ := set $arguments "vllm" . -}}
{{- end -}}
{{- toYaml $arguments -}}
{{- end -}}

{{/*
The pools of the RayService, {<name>: pool} as JSON: serve.pool alone. With autoscaling a pod is there only while Serve
wants its replica. Input: the root context.
*/}}
{{- define "pairwise-rm.servePools" -}}
{{- $serve := .Values.serve -}}
{{- $pool := get (include "pairwise-rm.pools" . | fromJson) $serve.pool -}}
{{- $most := $serve.autoscaling.maxReplicas -}}
{{- $own := dict "gpus" (include "pairwise-rm.serveWidth" . | int) "rayCpus" 1 "resources" $serve.resources
      "minReplicas" 0 "maxReplicas" $most "replicas" $most "sharedMemory" nil "rdma" (dict "enabled" false) -}}
{{- include "pairwise-rm.merge" (dict "base" $pool "over" $own) -}}
{{- toJson (dict $serve.pool $pool) -}}
{{- end -}}
