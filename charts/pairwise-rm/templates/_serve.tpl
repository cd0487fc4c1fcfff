{{/*
Serving: how the RayService's cluster differs from the one that trains. A pod holds one replica and its GPUs, reads
the runs without writing to them, and has no secret of training's.
*/}}

{{- define "pairwise-rm.serveName" -}}
{{ include "pairwise-rm.fullname" . }}-judge
{{- end -}}

{{/* GPUs of a replica. */}}
{{- define "pairwise-rm.serveWidth" -}}
{{- $plan := include "pairwise-rm.plan" . | fromJson -}}
{{- .Values.serve.tensorParallel | default $plan.evaluate.tensor_parallel | int -}}
{{- end -}}

{{/* Arguments of pairwise_rm.serve.app:build. With the digest a judge that is exported anew is served anew. */}}
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

{{/* The one pool, by its name. With autoscaling a pod is there only while Serve wants its replica. */}}
{{- define "pairwise-rm.serve.pools" -}}
{{- $serve := .Values.serve -}}
{{- $pool := get (include "pairwise-rm.pools" . | fromJson) $serve.pool -}}
{{- $most := $serve.autoscaling.maxReplicas -}}
{{- $own := dict "gpus" (include "pairwise-rm.serveWidth" . | int) "rayCpus" 1 "resources" $serve.resources
      "minReplicas" 0 "maxReplicas" $most "replicas" $most "sharedMemory" nil "rdma" (dict "enabled" false) -}}
{{- include "pairwise-rm.merge" (dict "base" $pool "over" $own) -}}
{{- toJson (dict $serve.pool $pool) -}}
{{- end -}}

{{/* A worker is ready when Serve's proxy on it answers, which it does where a replica is. */}}
{{- define "pairwise-rm.serve.probes" -}}
{{- $probes := include "pairwise-rm.probes" . | fromYaml -}}
{{- $_ := set $probes.readinessProbe "httpGet" (dict "path" "/-/healthz" "port" 8000) -}}
{{- toYaml $probes -}}
{{- end -}}

{{- define "pairwise-rm.serve.env" -}}
{{ include "pairwise-rm.baseEnv" . }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "pairwise-rm.serve.mounts" -}}
{{ include "pairwise-rm.scratchMounts" . }}
- {name: runs, mountPath: /mnt/runs, readOnly: true}
- {name: cache, mountPath: /mnt/cache}
{{- end -}}

{{- define "pairwise-rm.serve.volumes" -}}
{{ include "pairwise-rm.scratchVolumes" .root }}
{{- range $volume := list "runs" "cache" }}
- name: {{ $volume }}
  persistentVolumeClaim:
    claimName: {{ include "pairwise-rm.claim" (dict "root" $.root "volume" $volume) }}
{{- end }}
{{- end -}}

{{- define "pairwise-rm.validateServe" -}}
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
