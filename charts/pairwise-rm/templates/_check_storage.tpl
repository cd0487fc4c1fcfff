{{/* Checks of the volumes' access modes. */}}

{{/* Fails when a volume of one node and the head cannot be on the same node. Input: the root context. */}}
{{- define "pairwise-rm.checkStorage" -}}
  {{- range $volume := list "data" "runs" "cache" -}}
    {{- $given := get $.Values.storage $volume -}}
    {{- if and (not $given.existingClaim) (eq $given.accessMode "ReadWriteOnce") (ne $.Values.head.gpuNodes "allow") (not $.Values.head.affinity) -}}
      {{- fail (printf "storage.%s.accessMode: ReadWriteOnce holds all pods on one node, and head.gpuNodes=%s sends the head to another; set ReadWriteMany, or head.gpuNodes=allow where there is one node" $volume $.Values.head.gpuNodes) -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
