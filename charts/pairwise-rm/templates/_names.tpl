{{/* Name of everything that is made. */}}
{{- define "pairwise-rm.fullname" -}}
{{- .Values.fullnameOverride | default .Release.Name -}}
{{- end -}}

{{/* Labels of an object, never of a pod: a chart's version in a pod template would restart the cluster. */}}
{{- define "pairwise-rm.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/name: pairwise-rm
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{ include "pairwise-rm.selectorLabels" . }}
{{- end -}}

{{/* Labels by which policies and budgets find the release's pods. app.kubernetes.io/name is KubeRay's there. */}}
{{- define "pairwise-rm.selectorLabels" -}}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/part-of: pairwise-rm
{{- end -}}

{{- define "pairwise-rm.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "pairwise-rm.claim" -}}
{{- $storage := index .root.Values.storage .volume -}}
{{- $storage.existingClaim | default (printf "%s-%s" (include "pairwise-rm.fullname" .root) .volume) -}}
{{- end -}}

{{/* Service account of all pods but the head. */}}
{{- define "pairwise-rm.serviceAccount" -}}
{{- ternary (include "pairwise-rm.fullname" .) "default" .Values.serviceAccount.create -}}
{{- end -}}

{{/* Secret with Ray's token: KubeRay names the one that it makes after the RayCluster. */}}
{{- define "pairwise-rm.tokenSecret" -}}
{{- .Values.auth.existingSecret | default (include "pairwise-rm.fullname" .) -}}
{{- end -}}
