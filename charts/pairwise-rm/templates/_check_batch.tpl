{{/* Checks of `batch` against `mode` and `autoscaling`. */}}

{{/*
Fails when the shared cluster is to do what only a RayJob with a cluster of its own can. Input: the root context.
*/}}
{{- define "pairwise-rm.checkMode" -}}
  {{- $batch := .Values.batch -}}
  {{- if eq .Values.mode "shared" -}}
    {{- $reason := "goes with mode=ephemeral, since a RayJob on the shared cluster cannot do it" -}}
    {{- if $batch.backoffLimit -}}{{- fail (printf "batch.backoffLimit: %v %s" $batch.backoffLimit $reason) -}}{{- end -}}
    {{- if $batch.preRunningDeadlineSeconds -}}{{- fail (printf "batch.preRunningDeadlineSeconds: %v %s" $batch.preRunningDeadlineSeconds $reason) -}}{{- end -}}
    {{- if $batch.suspend -}}{{- fail (printf "batch.suspend: true %s" $reason) -}}{{- end -}}
    {{- if $batch.deletionRules -}}{{- fail (printf "batch.deletionRules: %s" $reason) -}}{{- end -}}
    {{- if $batch.ttlSecondsAfterFinished -}}{{- fail (printf "batch.ttlSecondsAfterFinished: %v %s" $batch.ttlSecondsAfterFinished $reason) -}}{{- end -}}
    {{- if $batch.kueue.queueName -}}{{- fail (printf "batch.kueue.queueName: %s %s" $batch.kueue.queueName $reason) -}}{{- end -}}
    {{- if $batch.volcano.queueName -}}{{- fail (printf "batch.volcano.queueName: %s %s" $batch.volcano.queueName $reason) -}}{{- end -}}
  {{- end -}}
{{- end -}}

{{/* Fails when what becomes of an ended RayJob contradicts itself. Input: the root context. */}}
{{- define "pairwise-rm.checkEnding" -}}
  {{- $batch := .Values.batch -}}
  {{- if and $batch.deletionRules $batch.shutdownAfterJobFinishes -}}
    {{- fail "batch.deletionRules: excludes batch.shutdownAfterJobFinishes; set that to false" -}}
  {{- end -}}
  {{- if and $batch.ttlSecondsAfterFinished (not $batch.shutdownAfterJobFinishes) -}}
    {{- fail (printf "batch.ttlSecondsAfterFinished: %v needs batch.shutdownAfterJobFinishes=true; deletionRules have ttlSeconds of their own" $batch.ttlSecondsAfterFinished) -}}
  {{- end -}}
  {{- if and $batch.suspend (not $batch.shutdownAfterJobFinishes) -}}
    {{- fail "batch.suspend: true needs batch.shutdownAfterJobFinishes=true" -}}
  {{- end -}}
{{- end -}}

{{/* Fails when `batch.deletionRules` are not what KubeRay takes. Input: the root context. */}}
{{- define "pairwise-rm.checkDeletionRules" -}}
  {{- $batch := .Values.batch -}}
  {{- $seen := dict -}}
  {{- range $index, $rule := $batch.deletionRules -}}
    {{- if and $.Values.autoscaling.enabled (eq $rule.policy "DeleteWorkers") -}}
      {{- fail (printf "batch.deletionRules[%d].policy: DeleteWorkers needs autoscaling.enabled=false; with autoscaling idle workers go by themselves" $index) -}}
    {{- end -}}
    {{- if eq (empty $rule.condition.jobStatus) (empty $rule.condition.jobDeploymentStatus) -}}
      {{- fail (printf "batch.deletionRules[%d].condition: expected jobStatus or jobDeploymentStatus, one of them" $index) -}}
    {{- end -}}
    {{- $on := $rule.condition.jobStatus | default $rule.condition.jobDeploymentStatus -}}
    {{- $key := printf "%s on %s" $rule.policy $on -}}
    {{- if hasKey $seen $key -}}
      {{- fail (printf "batch.deletionRules[%d]: %s is there twice" $index $key) -}}
    {{- end -}}
    {{- $_ := set $seen $key ($rule.condition.ttlSeconds | default 0 | int64) -}}
  {{- end -}}
  {{- range $on := list "SUCCEEDED" "FAILED" "Failed" -}}
    {{- $before := "" -}}
    {{- range $policy := list "DeleteWorkers" "DeleteCluster" "DeleteSelf" -}}
      {{- $key := printf "%s on %s" $policy $on -}}
      {{- if hasKey $seen $key -}}
        {{- if and $before (lt (get $seen $key) (get $seen $before)) -}}
          {{- fail (printf "batch.deletionRules: ttlSeconds of %s must not be less than that of %s" $key $before) -}}
        {{- end -}}
        {{- $before = $key -}}
      {{- end -}}
    {{- end -}}
  {{- end -}}
{{- end -}}

{{/* Fails when Kueue would refuse the RayJobs, or hold them for ever. Input: the root context. */}}
{{- define "pairwise-rm.checkKueue" -}}
  {{- $batch := .Values.batch -}}
  {{- if and $batch.kueue.priorityClass (not $batch.kueue.queueName) -}}
    {{- fail (printf "batch.kueue.priorityClass: %s goes with batch.kueue.queueName; the pods' own class is priorityClass.name" $batch.kueue.priorityClass) -}}
  {{- end -}}
  {{- if $batch.kueue.queueName -}}
    {{- if $batch.suspend -}}
      {{- fail "batch.suspend: true excludes batch.kueue.queueName, since Kueue itself suspends and starts the RayJobs; set one of them" -}}
    {{- end -}}
    {{- if not $batch.shutdownAfterJobFinishes -}}
      {{- fail "batch.kueue.queueName: Kueue needs batch.shutdownAfterJobFinishes=true" -}}
    {{- end -}}
    {{- /* Kueue knows the pods of a RayJob by at most 8 names, of which the head and the submitter take one each. */ -}}
    {{- $pools := include "pairwise-rm.pools" . | fromJson -}}
    {{- $own := ternary (list "head" "submitter") (list "head") (eq .Values.submission.mode "K8sJobMode") -}}
    {{- if gt (len $pools) (sub 8 (len $own) | int) -}}
      {{- fail (printf "pools: Kueue allows %d beside the %s, got %d" (sub 8 (len $own)) (join " and the " $own) (len $pools)) -}}
    {{- end -}}
    {{- range $own -}}
      {{- if hasKey $pools . -}}
        {{- fail (printf "pools.%s: Kueue calls the %s's own pod so; give the pool another name" . .) -}}
      {{- end -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
