{{/* Checks of names and of Ray's version. */}}

{{/* Fails when a name is too long or not allowed, or Ray is too old. Input: the root context. */}}
{{- define "pairwise-rm.checkNames" -}}
  {{- $name := include "pairwise-rm.fullname" . -}}
  {{- $value := ternary "fullnameOverride" "the release's name" (not (empty .Values.fullnameOverride)) -}}
  {{- /* A RayJob's name takes 18 more, and KubeRay allows it 47. */ -}}
  {{- if gt (len $name) 29 -}}
    {{- fail (printf "%s: %q has %d characters, at most 29 are allowed; set fullnameOverride" $value $name (len $name)) -}}
  {{- end -}}
  {{- if not (regexMatch "^[a-z]([-a-z0-9]*[a-z0-9])?$" $name) -}}
    {{- fail (printf "%s: %q must begin with a letter and hold only a-z, 0-9 and -; set fullnameOverride" $value $name) -}}
  {{- end -}}
  {{- if semverCompare "<2.53.0-0" .Values.rayVersion -}}
    {{- fail (printf "rayVersion: %s is too old; 2.53.0 or later is needed, for token authentication and the health check" .Values.rayVersion) -}}
  {{- end -}}
  {{- if and .Values.priorityClass.create (not .Values.priorityClass.name) -}}
    {{- fail "priorityClass.name: is missing; priorityClass.create makes a class of this name" -}}
  {{- end -}}
{{- end -}}

{{/*
Fails when commonLabels have a label that the chart sets itself, or KubeRay: pods and objects are found by those.
Input: the root context.
*/}}
{{- define "pairwise-rm.checkLabels" -}}
  {{- $own := include "pairwise-rm.chartLabels" . | fromYaml -}}
  {{- range $key, $_ := .Values.commonLabels -}}
    {{- if or (hasKey $own $key) (regexMatch "^(pairwise-rm\\.io|ray\\.io|kueue\\.x-k8s\\.io|volcano\\.sh)/" $key) -}}
      {{- fail (printf "commonLabels: %s is set by the chart or by an operator; take another label" $key) -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
