{{/* Worker pools: `pools` over `poolDefaults`, with the presets of platform and GPU. */}}

{{/* {<name>: pool} as JSON; `most` in it is the number of its pods at most. Input: the root context. */}}
{{- define "pairwise-rm.pools" -}}
{{- $pools := dict -}}
{{- range $name, $over := .Values.pools -}}
{{- if not (kindIs "invalid" $over) -}}
{{- $pool := deepCopy $.Values.poolDefaults -}}
{{- include "pairwise-rm.merge" (dict "base" $pool "over" $over) -}}
{{- if kindIs "invalid" $pool.rayCpus -}}
{{- $_ := set $pool "rayCpus" (add 8 (mul 4 $pool.gpus)) -}}
{{- end -}}
{{- $_ := set $pool "most" (ternary $pool.maxReplicas $pool.replicas $.Values.autoscaling.enabled) -}}
{{- $_ := set $pools $name $pool -}}
{{- end -}}
{{- end -}}
{{- toJson $pools -}}
{{- end -}}

{{/* Labels of the nodes of a pool, as JSON. Input: the pool. */}}
{{- define "pairwise-rm.poolNodes" -}}
{{- $products := dict
      "gpu-operator" (dict "label" "nvidia.com/gpu.product" "a100-40gb" "NVIDIA-A100-SXM4-40GB" "a100-80gb" "NVIDIA-A100-SXM4-80GB")
      "gke" (dict "label" "cloud.google.com/gke-accelerator" "a100-40gb" "nvidia-tesla-a100" "a100-80gb" "nvidia-a100-80gb")
      "eks" (dict "label" "node.kubernetes.io/instance-type" "a100-40gb" "p4d.24xlarge" "a100-80gb" "p4de.24xlarge")
      "aks" (dict "label" "node.kubernetes.io/instance-type" "a100-40gb" "Standard_ND96asr_v4" "a100-80gb" "Standard_ND96amsr_A100_v4") -}}
{{- $selector := dict -}}
{{- with get $products .platform -}}
{{- if ne $.gpuProduct "none" -}}
{{- $_ := set $selector .label (get . $.gpuProduct) -}}
{{- end -}}
{{- end -}}
{{- toJson (merge (deepCopy .nodeSelector) $selector) -}}
{{- end -}}

{{/* Tolerations of the pods of a pool, as JSON. Input: the pool. */}}
{{- define "pairwise-rm.poolTolerations" -}}
{{- $tolerations := list -}}
{{- if ne .platform "none" -}}
{{- $tolerations = append $tolerations (dict "key" "nvidia.com/gpu" "operator" "Exists" "effect" "NoSchedule") -}}
{{- end -}}
{{- if eq .platform "aks" -}}
{{- $tolerations = append $tolerations (dict "key" "sku" "operator" "Equal" "value" "gpu" "effect" "NoSchedule") -}}
{{- end -}}
{{- toJson (concat $tolerations .tolerations) -}}
{{- end -}}

{{/*
Seconds that a worker's preStop hook has, before the end of Ray's processes begins. Input: the pool.
*/}}
{{- define "pairwise-rm.preemptionGrace" -}}
{{- $whole := .terminationGracePeriodSeconds | default 30 | int64 -}}
{{- sub $whole (.preemption.marginSeconds | int64) -}}
{{- end -}}
