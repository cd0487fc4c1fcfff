{{/* Names and labels. */}}

{{/* Name of everything that is made. Input: the root context. */}}
{{- define "pairwise-rm.fullname" -}}
{{- .Values.fullnameOverride | default .Release.Name -}}
{{- end -}}

{{/*
Labels of an object, never of a pod: a chart's version in a pod template would restart the cluster.
Input: the root context.
*/}}
{{- define "pairwise-rm.labels" -}}
{{- include "pairwise-rm.labelsWith" (dict "root" . "own" dict) -}}
{{- end -}}

{{/* The same with further labels, which go before commonLabels. Inputs: root; own, the labels as a map. */}}
{{- define "pairwise-rm.labelsWith" -}}
{{ include "pairwise-rm.chartLabels" .root }}
{{- with merge (deepCopy .own) .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* The chart's own labels of an object. Input: the root context. */}}
{{- define "pairwise-rm.chartLabels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/name: {{ .Values.nameOverride | default .Chart.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{ include "pairwise-rm.selectorLabels" . }}
{{- end -}}

{{/*
Labels by which policies and budgets find the release's pods, without those of the user: a selector that changes finds
no pod that is there. app.kubernetes.io/name is KubeRay's in a pod. Input: the root context.
*/}}
{{- define "pairwise-rm.selectorLabels" -}}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/part-of: pairwise-rm
{{- end -}}

{{/*
commonAnnotations as YAML, without keys that the object has already; "" where none is left.
Inputs: root; own, a list of those keys.
*/}}
{{- define "pairwise-rm.commonAnnotations" -}}
{{- $annotations := deepCopy .root.Values.commonAnnotations -}}
{{- range .own -}}{{- $_ := unset $annotations . -}}{{- end -}}
{{- with $annotations -}}{{- toYaml . -}}{{- end -}}
{{- end -}}

{{/* The image of head and workers. Input: the root context. */}}
{{- define "pairwise-rm.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Name of a claim. Inputs: root; volume, one of data, runs and cache. */}}
{{- define "pairwise-rm.claim" -}}
{{- $storage := index .root.Values.storage .volume -}}
{{- $storage.existingClaim | default (printf "%s-%s" (include "pairwise-rm.fullname" .root) .volume) -}}
{{- end -}}

{{/* Service account of all pods but the head. Input: the root context. */}}
{{- define "pairwise-rm.serviceAccount" -}}
{{- $made := ternary (include "pairwise-rm.fullname" .) "default" .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default $made -}}
{{- end -}}

{{/* Service account of the head; "" for the one that KubeRay makes. Input: the root context. */}}
{{- define "pairwise-rm.headServiceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- include "pairwise-rm.serviceAccount" . }}-head
{{- else -}}
{{- .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* Secret with Ray's token: KubeRay names the one that it makes after the RayCluster. Input: the root context. */}}
{{- define "pairwise-rm.tokenSecret" -}}
{{- .Values.auth.existingSecret | default (include "pairwise-rm.fullname" .) -}}
{{- end -}}
