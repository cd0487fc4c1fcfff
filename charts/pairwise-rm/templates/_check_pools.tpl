{{/* Checks of the worker pools. */}}

{{/* Fails when there is no pool, or a pool contradicts itself. Input: the root context. */}}
{{- define "pairwise-rm.checkPools" -}}
  {{- $pools := include "pairwise-rm.pools" . | fromJson -}}
  {{- if not $pools -}}
    {{- fail "pools: there is none; the stages need Ray workers, so name at least one" -}}
  {{- end -}}
  {{- range $name, $pool := $pools -}}
    {{- if and $.Values.autoscaling.enabled (gt $pool.minReplicas $pool.maxReplicas) -}}
      {{- fail (printf "pools.%s.minReplicas: %v is more than maxReplicas, %v" $name $pool.minReplicas $pool.maxReplicas) -}}
    {{- end -}}
    {{- if and $pool.preemption.enabled (lt (include "pairwise-rm.preemptionGrace" $pool | atoi) 1) -}}
      {{- fail (printf "pools.%s.preemption.marginSeconds: %v leaves nothing of terminationGracePeriodSeconds, %v" $name $pool.preemption.marginSeconds ($pool.terminationGracePeriodSeconds | default 30)) -}}
    {{- end -}}
    {{- if and (eq $pool.platform "none") (ne $pool.gpuProduct "none") -}}
      {{- fail (printf "pools.%s.gpuProduct: %s needs a platform to know the label; set platform, or nodeSelector with gpuProduct=none" $name $pool.gpuProduct) -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
