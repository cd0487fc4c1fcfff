{{/* Checks of the nodes, and of the classes that pods name. */}}

{{/* Fails when a PriorityClass that is not made here is not there. Input: the root context. */}}
{{- define "set checks.cluster=false where you may not read priority classes" -}}
  {{- $made := ternary .Values.priorityClass.name "" .Values.priorityClass.create -}}
  {{- $wanted := dict "priorityClass.name" .Values.priorityClass.name -}}
  {{- range $name, $pool := include "pairwise-rm.pools" . | fromJson -}}
    {{- $_ := set $wanted (printf "pools.%s.priorityClassName" $name) $pool.priorityClassName -}}
  {{- end -}}
  {{- range $value, $class := $wanted -}}
    {{- if and $class (ne $class $made) (not (lookup "scheduling.k8s.io/v1" "PriorityClass" "" $class)) -}}
      {{- fail (printf "%s: this cluster has no PriorityClass %q; name one that is there, or set priorityClass.create=true to make one" $value $class) -}}
    {{- end -}}
  {{- end -}}
{{- end -}}

{{/* Fails when a RuntimeClass is not there: no pod would be made. Input: the root context. */}}
{{- define "set checks.cluster=false where you may not read runtime classes" -}}
  {{- $wanted := dict "head.runtimeClassName" .Values.head.runtimeClassName -}}
  {{- range $name, $pool := include "pairwise-rm.pools" . | fromJson -}}
    {{- $_ := set $wanted (printf "pools.%s.runtimeClassName" $name) $pool.runtimeClassName -}}
  {{- end -}}
  {{- range $value, $class := $wanted -}}
    {{- if and $class (not (lookup "node.k8s.io/v1" "RuntimeClass" "" $class)) -}}
      {{- fail (printf "%s: this cluster has no RuntimeClass %q; name one that is there, or leave it empty" $value $class) -}}
    {{- end -}}
  {{- end -}}
{{- end -}}

{{/* Fails when no node fits a pool, or none is left for the head. Input: the root context. */}}
{{- define "set checks.nodes=false where you may not read nodes" -}}
  {{- $nodes := (lookup "v1" "Node" "" "").items | default list -}}
  {{- $escape := "or checks.nodes=false where nodes come with their pods" -}}
  {{- range $name, $pool := include "pairwise-rm.pools" . | fromJson -}}
    {{- $selector := include "pairwise-rm.poolNodes" $pool | fromJson -}}
    {{- $fitting := 0 -}}
    {{- $largest := 0 -}}
    {{- range $node := $nodes -}}
      {{- $matches := true -}}
      {{- range $key, $value := $selector -}}
        {{- if ne (get ($node.metadata.labels | default dict) $key) $value -}}{{- $matches = false -}}{{- end -}}
      {{- end -}}
      {{- if $matches -}}
        {{- $fitting = add1 $fitting -}}
        {{- if $pool.gpuResource -}}
          {{- $largest = max $largest (dig "status" "allocatable" $pool.gpuResource 0 $node | int) -}}
        {{- end -}}
      {{- end -}}
    {{- end -}}
    {{- if and $pool.most (not $fitting) -}}
      {{- fail (printf "pools.%s: none of the %d nodes has the labels %s; set platform, gpuProduct and nodeSelector of the pool, %s" $name (len $nodes) (toJson $selector) $escape) -}}
    {{- end -}}
    {{- if and $pool.most $pool.gpuResource (lt (int $largest) (int $pool.gpus)) -}}
      {{- fail (printf "pools.%s.gpus: %v wanted, the largest such node has %d of %s; lower it, %s" $name $pool.gpus $largest $pool.gpuResource $escape) -}}
    {{- end -}}
  {{- end -}}
  {{- if and (eq .Values.head.gpuNodes "forbid") (not .Values.head.affinity) .Values.head.gpuNodeLabels -}}
    {{- $free := 0 -}}
    {{- range $node := $nodes -}}
      {{- $gpu := false -}}
      {{- range $label := $.Values.head.gpuNodeLabels -}}
        {{- if hasKey ($node.metadata.labels | default dict) $label -}}{{- $gpu = true -}}{{- end -}}
      {{- end -}}
      {{- if not $gpu -}}{{- $free = add1 $free -}}{{- end -}}
    {{- end -}}
    {{- if not $free -}}
      {{- fail (printf "head.gpuNodes: forbid leaves none of the %d nodes for the head; set it to avoid, %s" (len $nodes) $escape) -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
