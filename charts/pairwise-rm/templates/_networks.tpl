{{/* Networks that the policies name. */}}

{{/*
Networks that can be left out of another, as JSON: a network that is not everything is meant as it is.
Inputs: cidr, the network; networks, those that are not meant.
*/}}
{{- define "pairwise-rm.leftOut" -}}
  {{- $out := list -}}
  {{- range .networks -}}
    {{- if or (and (eq $.cidr "0.0.0.0/0") (not (contains ":" .))) (and (eq $.cidr "::/0") (contains ":" .)) -}}
      {{- $out = append $out . -}}
    {{- end -}}
  {{- end -}}
  {{- toJson $out -}}
{{- end -}}

{{/* Where the Kubernetes API is, as JSON: [{networks, ports}]. Input: the root context. */}}
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

{{/*
The same, as the cluster has it: the address of the API's service, and those behind it, since an enforcer judges before
the one is translated into the others or after. An entry without addresses is left out: a rule of a policy whose `to` is
empty allows any destination. Input: the root context.
*/}}
{{- define "set checks.cluster=false where you may not read the addresses of the Kubernetes API" -}}
  {{- $service := lookup "v1" "Service" "default" "kubernetes" -}}
  {{- $found := list (dict "networks" ($service.spec.clusterIPs | default list) "ports" (first $service.spec.ports).port) -}}
  {{- range (lookup "discovery.k8s.io/v1" "EndpointSlice" "default" "").items -}}
    {{- if and (eq (dig "metadata" "labels" "kubernetes.io/service-name" "" .) "kubernetes") .ports -}}
      {{- $addresses := list -}}
      {{- range .endpoints -}}{{- $addresses = concat $addresses (.addresses | default list) -}}{{- end -}}
      {{- $found = append $found (dict "networks" (sortAlpha $addresses) "ports" (first .ports).port) -}}
    {{- end -}}
  {{- end -}}
  {{- $places := list -}}
  {{- range $found -}}
    {{- $networks := list -}}
    {{- range .networks -}}{{- $networks = append $networks (include "pairwise-rm.host" .) -}}{{- end -}}
    {{- if $networks -}}
      {{- $places = append $places (dict "networks" $networks "ports" (list .ports)) -}}
    {{- end -}}
  {{- end -}}
  {{- toJson $places -}}
{{- end -}}

{{/* The network of one address. Input: the address. */}}
{{- define "pairwise-rm.host" -}}
{{ . }}/{{ ternary 128 32 (contains ":" .) }}
{{- end -}}

{{/*
Whether a policy of Cilium lets the autoscaler through to the Kubernetes API: "true" or "". Cilium knows the API servers
by identity and matches none of its own nodes by address. Input: the root context.
*/}}
{{- define "pairwise-rm.apiByIdentity" -}}
  {{- $known := .Capabilities.APIVersions.Has "cilium.io/v2/CiliumNetworkPolicy" -}}
  {{- if and .Values.autoscaling.enabled (or $known .Values.networkPolicy.egress.cilium) -}}true{{- end -}}
{{- end -}}
