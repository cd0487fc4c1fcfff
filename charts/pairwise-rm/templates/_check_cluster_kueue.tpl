{{/* Checks of Kueue's objects. */}}

{{/* Fails when the namespace has no such LocalQueue. Input: the root context. */}}
{{- define "set checks.cluster=false where you may not read LocalQueues" -}}
  {{- $name := .Values.batch.kueue.queueName -}}
  {{- $there := list -}}
  {{- range (lookup (printf "kueue.x-k8s.io/%s" (include "pairwise-rm.kueueVersion" .)) "LocalQueue" .Release.Namespace "").items -}}
    {{- $there = append $there .metadata.name -}}
  {{- end -}}
  {{- if not (has $name $there) -}}
    {{- fail (printf "batch.kueue.queueName: namespace %s has no LocalQueue %q; %s" .Release.Namespace $name (ternary "it has none, see manifests/kueue" (printf "it has: %s" (join ", " $there)) (empty $there))) -}}
  {{- end -}}
{{- end -}}

{{/*
Fails when there is no such class: Kueue would leave the RayJob suspended and say so in its own log alone.
Input: the root context.
*/}}
{{- define "set checks.cluster=false where you may not read WorkloadPriorityClasses" -}}
  {{- $name := .Values.batch.kueue.priorityClass -}}
  {{- $there := list -}}
  {{- range (lookup (printf "kueue.x-k8s.io/%s" (include "pairwise-rm.kueueVersion" .)) "WorkloadPriorityClass" "" "").items -}}
    {{- $there = append $there .metadata.name -}}
  {{- end -}}
  {{- if not (has $name $there) -}}
    {{- fail (printf "batch.kueue.priorityClass: this cluster has no WorkloadPriorityClass %q; %s" $name (ternary "there is none, see manifests/kueue" (printf "there are: %s" (join ", " $there)) (empty $there))) -}}
  {{- end -}}
{{- end -}}
