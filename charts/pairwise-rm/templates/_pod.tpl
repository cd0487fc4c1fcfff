{{/* What all pods share: the restricted profile, two writable folders, the volumes. */}}

{{- define "pairwise-rm.podMeta" -}}
{{- $labels := include "pairwise-rm.selectorLabels" .root | fromYaml -}}
{{- with .stage }}{{- $_ := set $labels "pairwise-rm.io/stage" . }}{{- end }}
metadata:
  labels:
    {{- toYaml (merge $labels .root.Values.podLabels) | nindent 4 }}
  {{- $annotations := deepCopy .root.Values.podAnnotations }}
  {{- if .ray }}
  {{- /* Node autoscalers leave the nodes of a run alone; Ray's own gives idle pods back. */}}
  {{- $annotations = merge $annotations (dict "cluster-autoscaler.kubernetes.io/safe-to-evict" "false" "karpenter.sh/do-not-disrupt" "true") }}
  {{- end }}
  {{- with $annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}

{{- define "pairwise-rm.podSecurity" -}}
securityContext:
  runAsNonRoot: true
  runAsUser: 1000
  runAsGroup: 1000
  fsGroup: 1000
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile:
    type: RuntimeDefault
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end -}}

{{- define "pairwise-rm.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities:
  drop: [ALL]
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "pairwise-rm.scratchMounts" -}}
- {name: tmp, mountPath: /tmp}
- {name: home, mountPath: /home/ray}
{{- end -}}

{{- define "pairwise-rm.scratchVolumes" -}}
- {name: tmp, emptyDir: {}}
- {name: home, emptyDir: {}}
{{- end -}}

{{/* What Kubernetes would mount into every container of the pod; as a volume of its own, the autoscaler's alone has it. */}}
{{- define "pairwise-rm.apiToken" -}}
- name: api-token
  projected:
    sources:
      - serviceAccountToken: {path: token, expirationSeconds: 3607}
      - configMap:
          name: kube-root-ca.crt
          items: [{key: ca.crt, path: ca.crt}]
      - downwardAPI:
          items: [{path: namespace, fieldRef: {apiVersion: v1, fieldPath: metadata.namespace}}]
{{- end -}}

{{- define "pairwise-rm.mounts" -}}
{{ include "pairwise-rm.scratchMounts" . }}
- {name: recipe, mountPath: /etc/pairwise-rm, readOnly: true}
- {name: data, mountPath: /mnt/data}
- {name: runs, mountPath: /mnt/runs}
- {name: cache, mountPath: /mnt/cache}
{{- end -}}

{{- define "pairwise-rm.volumes" -}}
{{ include "pairwise-rm.scratchVolumes" .root }}
- name: recipe
  configMap:
    name: {{ .recipe }}
{{- range $volume := list "data" "runs" "cache" }}
- name: {{ $volume }}
  persistentVolumeClaim:
    claimName: {{ include "pairwise-rm.claim" (dict "root" $.root "volume" $volume) }}
{{- end }}
{{- end -}}

{{- define "pairwise-rm.baseEnv" -}}
- {name: HOME, value: /home/ray}
- {name: HF_HOME, value: /mnt/cache/huggingface}
- {name: VLLM_CACHE_ROOT, value: /mnt/cache/vllm}
- {name: RAY_USAGE_STATS_ENABLED, value: "0"}
{{- end -}}

{{/* Variables of head and workers: what a worker needs must be here, since a driver's own reach only the head. */}}
{{- define "pairwise-rm.env" -}}
{{ include "pairwise-rm.baseEnv" . }}
{{- with .Values.secrets.wandb }}
{{- if .existingSecret }}
- name: WANDB_API_KEY
  valueFrom:
    secretKeyRef: {name: {{ .existingSecret }}, key: {{ .key }}}
{{- end }}
{{- end }}
{{- with .Values.secrets.huggingface }}
{{- if .existingSecret }}
- name: HF_TOKEN
  valueFrom:
    secretKeyRef: {name: {{ .existingSecret }}, key: {{ .key }}}
{{- end }}
{{- end }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* KubeRay gives probes of its own, with a start of 30 s. /api/healthz is Ray's since 2.53. */}}
{{- define "pairwise-rm.probes" -}}
{{- $check := printf "httpGet: {path: /api/healthz, port: 52365}" -}}
{{- with .Values.probes -}}
startupProbe:
  {{ $check }}
  periodSeconds: 5
  timeoutSeconds: {{ .timeoutSeconds }}
  failureThreshold: {{ max 1 (div .startupSeconds 5) }}
livenessProbe:
  {{ $check }}
  periodSeconds: 10
  timeoutSeconds: {{ .timeoutSeconds }}
  failureThreshold: {{ .livenessFailures }}
readinessProbe:
  {{ $check }}
  periodSeconds: 5
  timeoutSeconds: {{ .timeoutSeconds }}
  failureThreshold: 10
{{- end -}}
{{- end -}}

{{/* A head is ready when its dashboard answers, which starts last: a stage that is submitted before is lost. */}}
{{- define "pairwise-rm.headProbes" -}}
{{- $probes := include "pairwise-rm.probes" . | fromYaml -}}
{{- $_ := set $probes.readinessProbe "httpGet" (dict "path" "/api/gcs_healthz" "port" 8265) -}}
{{- toYaml $probes -}}
{{- end -}}
