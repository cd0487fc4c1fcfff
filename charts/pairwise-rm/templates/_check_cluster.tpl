{{/*
Checks against the cluster: which of them run. The kinds of a cluster are told by its API versions, which Argo CD hands
over too. All else is looked up, and `lookup` finds nothing in `helm template`, which Argo CD renders with: what is not
said then is said by the first stage and by `pairwise-rm status`. Claims and secrets of the namespace may be read by
whoever may install into it, storage classes and nodes not always, hence `checks.*`. A template that looks up what may
be forbidden is named by the remedy, since Helm prints the template's name.
*/}}

{{/* Fails when the cluster lacks what the release needs. Input: the root context. */}}
{{- define "pairwise-rm.checkCluster" -}}
  {{- include "pairwise-rm.checkApis" . -}}
  {{- if and (.Capabilities.APIVersions.Has "v1/Pod") (include "pairwise-rm.live" .) -}}
    {{- include "pairwise-rm.checkOwner" . -}}
    {{- include "pairwise-rm.checkRetried" . -}}
    {{- include "pairwise-rm.checkSecrets" . -}}
    {{- include "pairwise-rm.checkClaims" . -}}
    {{- include "pairwise-rm.checkServiceAccount" . -}}
    {{- if .Values.checks.cluster -}}
      {{- include "set checks.cluster=false where you may not read storage classes" . -}}
      {{- include "set checks.cluster=false where you may not read priority classes" . -}}
      {{- include "set checks.cluster=false where you may not read runtime classes" . -}}
      {{- if .Values.checks.nodes -}}
        {{- include "set checks.nodes=false where you may not read nodes" . -}}
      {{- end -}}
      {{- if and .Values.checks.operator .Values.networkPolicy.enabled -}}
        {{- include "set checks.operator=false where you may not read Deployments of other namespaces" . -}}
      {{- end -}}
      {{- with .Values.batch.kueue.queueName -}}
        {{- include "set checks.cluster=false where you may not read LocalQueues" $ -}}
      {{- end -}}
      {{- with .Values.batch.kueue.priorityClass -}}
        {{- include "set checks.cluster=false where you may not read WorkloadPriorityClasses" $ -}}
      {{- end -}}
    {{- end -}}
  {{- end -}}
{{- end -}}

{{/*
"yes" where there is a cluster to look at, else "": every namespace has this ConfigMap. Input: the root context.
*/}}
{{- define "pairwise-rm.live" -}}
  {{- if lookup "v1" "ConfigMap" .Release.Namespace "kube-root-ca.crt" -}}
    yes
  {{- else if .Values.checks.cluster -}}
    {{- include "make the namespace first, or set checks.cluster=false, where you may not read namespace default" . -}}
  {{- end -}}
{{- end -}}

{{/*
"yes" where namespace default can be read: `helm install --create-namespace` makes the release's after it has
rendered. Input: the root context.
*/}}
{{- define "make the namespace first, or set checks.cluster=false, where you may not read namespace default" -}}
  {{- if lookup "v1" "ConfigMap" "default" "kube-root-ca.crt" -}}yes{{- end -}}
{{- end -}}
