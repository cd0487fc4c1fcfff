{{/* Checks of the names that are taken, and of RayJobs that Helm does not know. */}}

{{/* Fails when two releases of one namespace have one fullnameOverride. Input: the root context. */}}
{{- define "pairwise-rm.checkOwner" -}}
  {{- $name := include "pairwise-rm.fullname" . -}}
  {{- $cluster := lookup "ray.io/v1" "RayCluster" .Release.Namespace $name | default dict -}}
  {{- $owner := dig "metadata" "annotations" "meta.helm.sh/release-name" "" $cluster -}}
  {{- if and $cluster (ne $owner .Release.Name) -}}
    {{- fail (printf "fullnameOverride: a RayCluster %s is there already%s; set another name" $name (ternary (printf " and belongs to release %s" $owner) "" (ne $owner ""))) -}}
  {{- end -}}
{{- end -}}

{{/*
Fails while a RayJob of `pairwise-rm retry` is at work that the upgrade would not take over: Helm does not know it, so two
RayJobs would write into one run folder. Input: the root context.
*/}}
{{- define "pairwise-rm.checkRetried" -}}
  {{- $plan := include "pairwise-rm.plan" . | fromJson -}}
  {{- range $stage := include "pairwise-rm.stages" . | fromJsonArray -}}
    {{- $name := "" -}}
    {{- if (index $.Values.stages $stage).enabled -}}
      {{- $name = include "pairwise-rm.rayJobName" (dict "root" $ "plan" $plan "stage" $stage) -}}
    {{- end -}}
    {{- range include "pairwise-rm.rayJobsThere" (dict "root" $ "stage" $stage) | fromJsonArray -}}
      {{- if and (include "pairwise-rm.retriedAndOn" .) (ne .metadata.name $name) (not .metadata.deletionTimestamp) -}}
        {{- fail (printf "stages.%s: RayJob %s, of `pairwise-rm retry`, is not done, and these values make another one beside it; wait for it, or delete it: kubectl delete rayjob -n %s %s" $stage .metadata.name $.Release.Namespace .metadata.name) -}}
      {{- end -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
