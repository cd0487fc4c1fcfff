{{/* Checks of the kinds that the cluster knows, by its API versions. */}}

{{/* Fails when KubeRay or an operator that is asked for is not there. Input: the root context. */}}
{{- define "pairwise-rm.checkApis" -}}
  {{- $known := .Capabilities.APIVersions.Has "v1/Pod" -}}
  {{- if and $known (not (.Capabilities.APIVersions.Has "ray.io/v1/RayJob")) -}}
    {{- fail "KubeRay: this cluster has no ray.io/v1 RayJob; install the KubeRay operator 1.6 or later with its CRDs" -}}
  {{- end -}}
  {{- if and $known (not (.Capabilities.APIVersions.Has "ray.io/v1/RayCronJob")) -}}
    {{- fail "KubeRay: this cluster's CRDs are older than 1.6; upgrade the operator and, as Helm does not, its CRDs" -}}
  {{- end -}}
  {{- if and $known .Values.podMonitor.enabled (not (.Capabilities.APIVersions.Has "monitoring.coreos.com/v1/PodMonitor")) -}}
    {{- fail "podMonitor.enabled: this cluster has no monitoring.coreos.com/v1 PodMonitor; install the Prometheus operator or set it to false" -}}
  {{- end -}}
  {{- if and $known .Values.batch.kueue.queueName (not (include "pairwise-rm.kueueVersion" .)) -}}
    {{- fail "batch.kueue.queueName: this cluster has no LocalQueue of kueue.x-k8s.io; install Kueue, or leave it empty" -}}
  {{- end -}}
  {{- if and $known .Values.networkPolicy.enabled .Values.networkPolicy.egress.hosts (not (.Capabilities.APIVersions.Has "cilium.io/v2/CiliumNetworkPolicy")) -}}
    {{- fail "networkPolicy.egress.hosts: this cluster has no Cilium, which policies by host need; set networkPolicy.egress.cidrs instead" -}}
  {{- end -}}
  {{- if and $known .Values.networkPolicy.enabled .Values.networkPolicy.egress.cilium (not (.Capabilities.APIVersions.Has "cilium.io/v2/CiliumNetworkPolicy")) -}}
    {{- fail "networkPolicy.egress.cilium: this cluster has no cilium.io/v2 CiliumNetworkPolicy; set it to false" -}}
  {{- end -}}
{{- end -}}

{{/* The newest version of Kueue's API that the cluster has, or "". Input: the root context. */}}
{{- define "pairwise-rm.kueueVersion" -}}
  {{- $newest := "" -}}
  {{- range $version := list "v1beta1" "v1beta2" "v1" -}}
    {{- if $.Capabilities.APIVersions.Has (printf "kueue.x-k8s.io/%s/LocalQueue" $version) -}}{{- $newest = $version -}}{{- end -}}
  {{- end -}}
  {{- $newest -}}
{{- end -}}
