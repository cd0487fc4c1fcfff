{{/* Checks of the order of the stages. */}}

{{/* Fails when a stage would run twice, or without what it waits for. Input: the root context. */}}
{{- define "pairwise-rm.checkStages" -}}
  {{- $plan := include "pairwise-rm.plan" . | fromJson -}}
  {{- $stages := .Values.stages -}}
  {{- $taken := dict -}}
  {{- range $stage := list "train" "evaluate" "export" -}}
    {{- $given := get $stages $stage -}}
    {{- range $first := $given.first -}}
      {{- if $given.enabled -}}
        {{- if (get $stages $first).enabled -}}
          {{- fail (printf "stages.%s.first: %s has a RayJob of its own; set stages.%s.enabled=false" $stage $first $first) -}}
        {{- end -}}
        {{- if hasKey $taken $first -}}
          {{- fail (printf "stages.%s.first: %s runs in the RayJob of %s already" $stage $first (get $taken $first)) -}}
        {{- end -}}
        {{- $_ := set $taken $first $stage -}}
      {{- end -}}
    {{- end -}}
    {{- /* A RayJob waits once, before its first stage; what another one runs in between would not be waited for. */ -}}
    {{- if $given.enabled -}}
      {{- $own := include "pairwise-rm.stagesOf" (dict "root" $ "stage" $stage) | fromJsonArray -}}
      {{- $begun := false -}}
      {{- range $other := include "pairwise-rm.stages" $ | fromJsonArray -}}
        {{- if has $other $own -}}{{- $begun = ne $other $stage -}}
        {{- else if and $begun (get $stages $other).enabled -}}
          {{- fail (printf "stages.%s.first: %s runs in between, in a RayJob of its own; list it too, with stages.%s.enabled=false" $stage $other $other) -}}
        {{- end -}}
      {{- end -}}
    {{- end -}}
    {{- if and $given.enabled (eq $.Values.mode "ephemeral") (not $.Values.autoscaling.enabled) -}}
      {{- with include "pairwise-rm.after" (dict "root" $ "plan" $plan "stage" $stage) -}}
        {{- $waits := splitList " " . | last | splitList "=" | first -}}
        {{- fail (printf "stages.%s: its cluster would hold GPUs while it waits for %s; list the earlier stages in stages.%s.first, or set autoscaling.enabled=true" $stage $waits $stage) -}}
      {{- end -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
