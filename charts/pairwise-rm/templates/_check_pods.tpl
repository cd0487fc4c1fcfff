{{/* Checks of what is added to the pods. */}}

{{/*
Fails when a variable is given twice, which the API server refuses under a path that no value has.
Input: the root context.
*/}}
{{- define "pairwise-rm.checkVariables" -}}
  {{- $shared := include "pairwise-rm.env" (dict "root" . "serve" false) | fromYamlArray -}}
  {{- $lists := dict "head.env" (concat $shared .Values.head.env) -}}
  {{- range $name, $pool := include "pairwise-rm.pools" . | fromJson -}}
    {{- $own := concat $shared $pool.env -}}
    {{- range $key, $_ := $pool.nccl -}}{{- $own = append $own (dict "name" $key) -}}{{- end -}}
    {{- $_ := set $lists (printf "pools.%s.env" $name) $own -}}
  {{- end -}}
  {{- range $where, $variables := $lists -}}
    {{- $seen := dict -}}
    {{- range $variables -}}
      {{- if hasKey $seen .name -}}
        {{- fail (printf "%s: %s is given twice; extraEnv, nccl and the chart's own variables count too, so keep one" $where .name) -}}
      {{- end -}}
      {{- $_ := set $seen .name true -}}
    {{- end -}}
  {{- end -}}
{{- end -}}

{{/*
Fails when what is added to a pod of Ray takes a name or a path that is taken, or mounts a volume that is not added.
Input: the root context.
*/}}
{{- define "pairwise-rm.checkAdditions" -}}
  {{- $pods := dict "head" .Values.head -}}
  {{- range $name, $pool := include "pairwise-rm.pools" . | fromJson -}}
    {{- $_ := set $pods (printf "pools.%s" $name) $pool -}}
  {{- end -}}
  {{- range $where, $pod := $pods -}}
    {{- $volumes := dict -}}
    {{- range concat $.Values.extraVolumes $pod.extraVolumes -}}
      {{- /* The last two are KubeRay's: the autoscaler's logs, and /dev/shm. */ -}}
      {{- if has .name (list "tmp" "home" "recipe" "data" "runs" "cache" "shm" "api-token" "head-token" "standby-tmp" "ray-logs" "shared-mem") -}}
        {{- fail (printf "%s.extraVolumes: %s is the name of a volume that the chart or KubeRay makes; take another name" $where .name) -}}
      {{- end -}}
      {{- if hasKey $volumes .name -}}
        {{- fail (printf "%s.extraVolumes: %s is there twice; extraVolumes count too, so keep one" $where .name) -}}
      {{- end -}}
      {{- $_ := set $volumes .name true -}}
    {{- end -}}
    {{- $paths := list "/tmp" "/home/ray" "/etc/pairwise-rm" "/mnt/data" "/mnt/runs" "/mnt/cache" "/dev/shm" "/tmp/ray" "/run/pairwise-rm" "/var/run/secrets/kubernetes.io/serviceaccount" -}}
    {{- range concat $.Values.extraVolumeMounts $pod.extraVolumeMounts -}}
      {{- if not (hasKey $volumes .name) -}}
        {{- fail (printf "%s.extraVolumeMounts: there is no volume %s among extraVolumes" $where .name) -}}
      {{- end -}}
      {{- if has (clean .mountPath) $paths -}}
        {{- fail (printf "%s.extraVolumeMounts: something is mounted at %s already; take another path" $where .mountPath) -}}
      {{- end -}}
      {{- $paths = append $paths (clean .mountPath) -}}
    {{- end -}}
    {{- /* The last two are KubeRay's. */ -}}
    {{- $containers := list "ray-head" "ray-worker" "autoscaler" "autoscaler-standby" "wait-gcs-ready" -}}
    {{- range concat $pod.extraInitContainers $pod.extraContainers -}}
      {{- if has .name $containers -}}
        {{- fail (printf "%s: a container %s is there already; take another name in extraContainers or extraInitContainers" $where .name) -}}
      {{- end -}}
      {{- $containers = append $containers .name -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
