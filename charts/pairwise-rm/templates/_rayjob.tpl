{{/* RayJobs: what each stage runs, and the name that says so. */}}

{{/*
The command of one stage. Inputs: root, plan, stage; after, what it waits for, as pairwise-rm.after gives it, or "";
attempt, as pairwise-rm.rayJob gives it, or nothing.
*/}}
{{- define "pairwise-rm.stageCommand" -}}
{{- $stage := .stage -}}
{{- $values := index .root.Values.stages $stage -}}
pairwise-rm stage {{ $stage }} --recipe /etc/pairwise-rm/{{ $stage }}.yaml
{{- /* A head that runs already sees a changed ConfigMap late; a RayJob's own cluster mounts one that never changes. */ -}}
{{- if eq .root.Values.mode "shared" }} --digest {{ (index .plan.stages $stage).digest }}{{ end }}
{{- with .attempt }} --attempt {{ . }}{{ end }}
{{- with .after }}{{ range splitList " " . }} --after {{ . }}{{ end }} --input-timeout {{ $values.inputTimeout | int64 }}{{ end }}
{{- /* KubeRay makes a new cluster when it tries the earlier stage again, perhaps on a node that is yet to come. */ -}}
{{- if and .after (ne (include "pairwise-rm.backoffLimit" .root) "0") }} --retry-timeout 900{{ end }}
{{- if and (has $stage (list "train" "evaluate")) }} --gpu-timeout {{ $values.gpuTimeout | int64 }}{{ end }}
{{- if and .root.Values.storage.upload (has $stage (list "evaluate" "export")) }} --upload {{ .root.Values.storage.upload | squote }}{{ end }}
{{- end -}}

{{/* The stages that a RayJob runs, in order, as JSON. Inputs: root; stage, its last. */}}
{{- define "pairwise-rm.stagesOf" -}}
{{- $first := (index .root.Values.stages .stage).first | default list -}}
{{- $stages := list -}}
{{- range include "pairwise-rm.stages" . | fromJsonArray -}}
{{- if has . $first -}}{{- $stages = append $stages . -}}{{- end -}}
{{- end -}}
{{- toJson (append $stages .stage) -}}
{{- end -}}

{{/* All stages that run, in whichever RayJob, as JSON. Input: the root context. */}}
{{- define "pairwise-rm.stagesThatRun" -}}
{{- $stages := list -}}
{{- range $stage := include "pairwise-rm.stages" $ | fromJsonArray -}}
{{- if (index $.Values.stages $stage).enabled -}}
{{- $stages = concat $stages (include "pairwise-rm.stagesOf" (dict "root" $ "stage" $stage) | fromJsonArray) -}}
{{- end -}}
{{- end -}}
{{- toJson (uniq $stages) -}}
{{- end -}}

{{/*
The stages that a RayJob waits for, as `STAGE=DIGEST` with a space between two. Train wants the pairs of its recipe,
evaluate and export its judge. Behind evaluate export only keeps the order, so a changed evaluation does not start it
again.
Inputs: root, plan; stage, the last of the RayJob.
*/}}
{{- define "pairwise-rm.after" -}}
{{- $first := include "pairwise-rm.stagesOf" . | fromJsonArray | first -}}
{{- $run := include "pairwise-rm.stagesThatRun" .root | fromJsonArray -}}
{{- if eq $first "train" -}}
{{- if has "convert" $run -}}convert={{ .plan.stages.convert.digest }}{{- end -}}
{{- else if has $first (list "evaluate" "export") -}}
{{- $after := list -}}
{{- if has "train" $run -}}{{- $after = append $after (printf "train=%s" .plan.stages.train.digest) -}}{{- end -}}
{{- if and (eq $first "export") (has "evaluate" $run) -}}{{- $after = append $after "evaluate" -}}{{- end -}}
{{- join " " $after -}}
{{- end -}}
{{- end -}}

{{/* What a RayJob runs: its stages one after another. Inputs: root, plan; stage, the last; attempt. */}}
{{- define "pairwise-rm.entrypoint" -}}
{{- $stages := include "pairwise-rm.stagesOf" . | fromJsonArray -}}
{{- $after := include "pairwise-rm.after" . -}}
{{- $commands := list -}}
{{- range $stage := $stages -}}
{{- $commands = append $commands (include "pairwise-rm.stageCommand" (merge (dict "stage" $stage "after" $after) $)) -}}
{{- $after = "" -}}
{{- end -}}
{{- if gt (len $commands) 1 -}}
bash -c {{ join " && " $commands | quote }}
{{- else -}}
{{- first $commands -}}
{{- end -}}
{{- end -}}

{{/* spec of a RayJob. Inputs: root, plan, stage, attempt; recipe, name of the ConfigMap for a cluster of its own. */}}
{{- define "pairwise-rm.rayJobSpec" -}}
{{- $values := .root.Values -}}
{{- $batch := $values.batch -}}
{{- $shared := eq $values.mode "shared" -}}
entrypoint: {{ include "pairwise-rm.entrypoint" . | quote }}
submissionMode: {{ $values.submission.mode }}
{{- with (index $values.stages .stage).activeDeadlineSeconds }}
activeDeadlineSeconds: {{ . | int64 }}
{{- end }}
{{- if $shared }}
backoffLimit: 0
ttlSecondsAfterFinished: 0
clusterSelector:
  ray.io/cluster: {{ include "pairwise-rm.fullname" .root }}
{{- else }}
backoffLimit: {{ include "pairwise-rm.backoffLimit" .root }}
{{- with $batch.preRunningDeadlineSeconds }}
preRunningDeadlineSeconds: {{ . | int64 }}
{{- end }}
{{- if $batch.suspend }}
suspend: true
{{- end }}
{{- if $batch.deletionRules }}
ttlSecondsAfterFinished: 0
deletionStrategy:
  deletionRules:
    {{- range $batch.deletionRules }}
    - policy: {{ .policy }}
      condition:
        {{- toYaml (merge (deepCopy .condition) (dict "ttlSeconds" 0)) | nindent 8 }}
    {{- end }}
{{- else }}
{{- if $batch.shutdownAfterJobFinishes }}
shutdownAfterJobFinishes: true
{{- end }}
ttlSecondsAfterFinished: {{ $batch.ttlSecondsAfterFinished | int64 }}
{{- end }}
rayClusterSpec:
  {{- /* Converting needs no worker, so a cluster that only converts has none. */}}
  {{- $idle := eq (include "pairwise-rm.stagesOf" .) (toJson (list "convert")) }}
  {{- include "pairwise-rm.rayClusterSpec" (dict "root" .root "recipe" .recipe "workerless" $idle) | nindent 2 }}
{{- end }}
{{- if eq $values.submission.mode "K8sJobMode" }}
submitterConfig:
  backoffLimit: {{ $values.submission.backoffLimit }}
submitterPodTemplate:
  {{- include "pairwise-rm.podMeta" (dict "root" .root "stage" .stage) | trim | nindent 2 }}
  spec:
    {{- include "pairwise-rm.podSecurity" .root | nindent 4 }}
    restartPolicy: Never
    serviceAccountName: {{ include "pairwise-rm.serviceAccount" .root }}
    automountServiceAccountToken: false
    {{- with $values.priorityClass.name }}
    priorityClassName: {{ . }}
    {{- end }}
    {{- with $values.head.runtimeClassName }}
    runtimeClassName: {{ . }}
    {{- end }}
    {{- with $values.head.nodeSelector }}
    nodeSelector:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    {{- with $values.head.tolerations }}
    tolerations:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    {{- with include "pairwise-rm.headAffinity" .root }}
    affinity:
      {{- . | nindent 6 }}
    {{- end }}
    containers:
      - name: ray-job-submitter
        image: {{ $values.submission.image | default (include "pairwise-rm.image" .root) }}
        imagePullPolicy: {{ $values.image.pullPolicy }}
        securityContext:
          {{- include "pairwise-rm.containerSecurity" .root | nindent 10 }}
        resources:
          {{- toYaml $values.submission.resources | nindent 10 }}
        env:
          - {name: HOME, value: /home/ray}
        volumeMounts:
          {{- include "pairwise-rm.scratchMounts" .root | nindent 10 }}
    volumes:
      {{- include "pairwise-rm.scratchVolumes" .root | nindent 6 }}
{{- end }}
{{- end -}}

{{/* How often KubeRay tries a stage again: 0 on the shared cluster, which it refuses to do. Input: the root context. */}}
{{- define "pairwise-rm.backoffLimit" -}}
{{- if eq .Values.mode "shared" -}}
0
{{- else if kindIs "invalid" .Values.batch.backoffLimit -}}
2
{{- else -}}
{{- .Values.batch.backoffLimit | int64 -}}
{{- end -}}
{{- end -}}

{{/*
Kueue writes the node labels and tolerations of a flavor into the pods of a RayJob that it admits. An upgrade that took
them out again would be refused as a conflict (Helm 4), or would start the run anew (Helm 3). A RayJob of this name was
made with this very spec, so its pods are rendered as they are there. Inputs: as of pairwise-rm.rayJobSpec.
*/}}
{{- define "pairwise-rm.rayJobSpecAsKueueHasIt" -}}
{{- $spec := include "pairwise-rm.rayJobSpec" . -}}
{{- if .root.Values.batch.kueue.queueName -}}
{{- with lookup "ray.io/v1" "RayJob" .root.Release.Namespace .recipe -}}
{{- $spec = toYaml (merge (pick .spec "rayClusterSpec" "submitterPodTemplate") (omit (fromYaml $spec) "rayClusterSpec" "submitterPodTemplate")) -}}
{{- end -}}
{{- end -}}
{{- $spec -}}
{{- end -}}

{{/*
{name, content, attempt, given, retry} of a RayJob as JSON.
content: eight digits over all that it runs with. The shared cluster counts: KubeRay starts it anew when its spec
  changes, but for what the loop below takes out, which ends what runs there, and the RayJob that takes over needs a
  name of its own.
attempt: eight digits of `attempt`, or of a retry by `pairwise-rm retry`; "" for neither. It is no part of the recipe.
name: <fullname>-<stage>-<eight digits of both>, or that of a RayJob that is there and stands for it.
given, retry: `attempt` as text, and what `pairwise-rm retry` has written, or ""; of the one that is there, if one is.
Inputs: root, plan, stage.
*/}}
{{- define "pairwise-rm.rayJob" -}}
{{- $all := list (include "pairwise-rm.rayJobSpec" (merge (dict "recipe" "") .)) -}}
{{- range include "pairwise-rm.stagesOf" . | fromJsonArray -}}
{{- $all = append $all (index $.plan.stages .).digest -}}
{{- end -}}
{{- if eq .root.Values.mode "shared" -}}
{{- $cluster := include "pairwise-rm.rayClusterSpec" (dict "root" .root "recipe" "") | fromYaml -}}
{{- $_ := unset $cluster.headGroupSpec.template.spec "tolerations" -}}
{{- range $cluster.workerGroupSpecs -}}
{{- $group := . -}}
{{- range list "replicas" "minReplicas" "maxReplicas" -}}{{- $_ := unset $group . -}}{{- end -}}
{{- $_ := unset .template.spec "tolerations" -}}
{{- end -}}
{{- $all = append $all $cluster -}}
{{- end -}}
{{- $content := include "pairwise-rm.hash" $all -}}
{{- $attempt := include "pairwise-rm.attempt" .root -}}
{{- $digits := "" -}}
{{- $hash := $content -}}
{{- if $attempt -}}
{{- $digits = sha256sum $attempt | trunc 8 -}}
{{- $hash = include "pairwise-rm.hash" (list $content $digits) -}}
{{- end -}}
{{- $prefix := printf "%s-%s" (include "pairwise-rm.fullname" .root) .stage -}}
{{- $job := dict "name" (printf "%s-%s" $prefix $hash) "content" $content "attempt" $digits "given" $attempt "retry" "" -}}
{{- $same := dict "root" .root "stage" .stage "content" $content "first" (printf "%s-%s" $prefix $content) "attempt" $attempt -}}
{{- with include "pairwise-rm.rayJobThatStands" $same | fromJson -}}
{{- $retry := dig "metadata" "annotations" "pairwise-rm.io/retry" "" . -}}
{{- $given := dig "metadata" "annotations" "pairwise-rm.io/attempt" "" . -}}
{{- $was := $retry -}}
{{- if and $given (not $retry) -}}{{- $was = sha256sum $given | trunc 8 -}}{{- end -}}
{{- $job = dict "name" .metadata.name "content" $content "attempt" $was "retry" $retry "given" $given -}}
{{- end -}}
{{- toJson $job -}}
{{- end -}}

{{/* `attempt` as text: a number is one with and without quotes. Input: the root context. */}}
{{- define "pairwise-rm.attempt" -}}
{{- $attempt := .Values.attempt -}}
{{- if kindIs "string" $attempt -}}{{- $attempt -}}{{- else if not (kindIs "invalid" $attempt) -}}{{- toJson $attempt -}}{{- end -}}
{{- end -}}

{{/*
The RayJob in the cluster that stands for one of the same content, as JSON; {} for none. It keeps its name and is left
alone. The newest that has succeeded, whatever its attempt: what is done is not done again. Else the newest of the same
attempt, or one that `pairwise-rm retry` has made and that has not ended.
Inputs: root, stage, content, attempt; first, the name that a RayJob without attempt has.
*/}}
{{- define "pairwise-rm.rayJobThatStands" -}}
{{- $done := dict -}}
{{- $same := dict -}}
{{- range include "pairwise-rm.rayJobsThere" . | fromJsonArray -}}
{{- $annotations := .metadata.annotations | default dict -}}
{{- $content := get $annotations "pairwise-rm.io/content" | default (ternary $.content "" (eq .metadata.name $.first)) -}}
{{- if and (eq $content $.content) (not .metadata.deletionTimestamp) -}}
{{- $state := .status | default dict -}}
{{- $newer := dict "than" .metadata.creationTimestamp -}}
{{- if eq (get $state "jobStatus") "SUCCEEDED" -}}
{{- if le (dig "metadata" "creationTimestamp" "" $done) $newer.than -}}{{- $done = . -}}{{- end -}}
{{- else if or (eq (get $annotations "pairwise-rm.io/attempt" | default "") $.attempt) (include "pairwise-rm.retriedAndOn" .) -}}
{{- if le (dig "metadata" "creationTimestamp" "" $same) $newer.than -}}{{- $same = . -}}{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- toJson (ternary $done $same (not (empty $done))) -}}
{{- end -}}

{{/* "yes" for a RayJob of `pairwise-rm retry` that has not ended. Input: the RayJob. */}}
{{- define "pairwise-rm.retriedAndOn" -}}
{{- if and (dig "metadata" "annotations" "pairwise-rm.io/retry" "" .) (not (has (dig "status" "jobDeploymentStatus" "" .) (list "Complete" "Failed" "ValidationFailed"))) -}}yes{{- end -}}
{{- end -}}

{{/*
The release's RayJobs of a stage that the cluster has, as JSON; none where Helm only renders, as for Argo CD.
Inputs: root, stage.
*/}}
{{- define "pairwise-rm.rayJobsThere" -}}
{{- $found := list -}}
{{- if .root.Capabilities.APIVersions.Has "ray.io/v1/RayJob" -}}
{{- range (lookup "ray.io/v1" "RayJob" .root.Release.Namespace "").items -}}
{{- $labels := .metadata.labels | default dict -}}
{{- if and (eq (get $labels "app.kubernetes.io/instance") $.root.Release.Name) (eq (get $labels "pairwise-rm.io/stage") $.stage) -}}
{{- $found = append $found . -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- toJson $found -}}
{{- end -}}

{{/* Name of a RayJob. Inputs: root, plan, stage. */}}
{{- define "pairwise-rm.rayJobName" -}}
{{- (include "pairwise-rm.rayJob" . | fromJson).name -}}
{{- end -}}
