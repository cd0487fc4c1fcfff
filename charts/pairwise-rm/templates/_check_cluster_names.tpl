{{/* Checks of the names that are taken. */}}

{{/* Fails when two releases of one namespace have one fullnameOverride. Input: the root context. */}}
{{- define "pairwise-rm.checkOwner" -}}
  {{- $name := include "pairwise-rm.fullname" . -}}
  {{- $cluster := lookup "ray.io/v1" "RayCluster" .Release.Namespace $name | default dict -}}
  {{- $owner := dig "metadata" "annotations" "meta.helm.sh/release-name" "" $cluster -}}
  {{- if and $cluster (ne $owner .Release.Name) -}}
    {{- fail (printf "fullnameOverride: a RayCluster %s is there already%s; set another name" $name (ternary (printf " and belongs to release %s" $owner) "" (ne $owner ""))) -}}
  {{- end -}}
{{- end -}}
