{{/* Networks that the policies name. */}}

{{/* Of `networks`, those that can be left out of `cidr`, as JSON: a network that is not everything is meant as it is. */}}
{{- define "pairwise-rm.leftOut" -}}
{{- $out := list -}}
{{- range .networks -}}
{{- if or (and (eq $.cidr "0.0.0.0/0") (not (contains ":" .))) (and (eq $.cidr "::/0") (contains ":" .)) -}}
{{- $out = append $out . -}}
{{- end -}}
{{- end -}}
{{- toJson $out -}}
{{- end -}}

{{/*
Where the Kubernetes API is, as JSON: [{networks, ports}]. An enforcer judges before the address of its service is
translated or after, so the service's address counts as well as those behind it.
*/}}
{{- define "pairwise-rm.kubernetesApi" -}}
{{- $given := .Values.networkPolicy.egress.kubernetesApi -}}
{{- if $given -}}
{{- toJson (list (dict "networks" $given "ports" (list 443 6443))) -}}
{{- else if and .Values.checks.cluster (include "pairwise-rm.live" .) -}}
{{- include "set checks.cluster=false where you may not read the addresses of the Kubernetes API" . -}}
{{- else -}}
{{- toJson (list (dict "networks" (list "0.0.0.0/0" "::/0") "ports" (list 443 6443))) -}}
{{- end -}}
{{- end -}}

{{- define "set checks.cluster=false where you may not read the addresses of the Kubernetes API" -}}
{{- $service := lookup "v1" "Service" "default" "kubernetes" -}}
{{- $places := list -}}
{{- $networks := list -}}
{{- range $service.spec.clusterIPs -}}{{- $networks = append $networks (include "pairwise-rm.host" .) -}}{{- end -}}
{{- $places = append $places (dict "networks" $networks "ports" (list (first $service.spec.ports).port)) -}}
{{- range (lookup "discovery.k8s.io/v1" "EndpointSlice" "default" "").items -}}
{{- if eq (dig "metadata" "labels" "kubernetes.io/service-name" "" .) "kubernetes" -}}
{{- $networks := list -}}
{{- range .endpoints -}}
{{- range .addresses -}}{{- $networks = append $networks (include "pairwise-rm.host" .) -}}{{- end -}}
{{- end -}}
{{- $places = append $places (dict "networks" (sortAlpha $networks) "ports" (list (first .ports).port)) -}}
{{- end -}}
{{- end -}}
{{- toJson $places -}}
{{- end -}}

{{/* The network of one address. */}}
{{- define "pairwise-rm.host" -}}
{{ . }}/{{ ternary 128 32 (contains ":" .) }}
{{- end -}}
