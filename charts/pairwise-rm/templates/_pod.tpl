{{/* What all pods share: the restricted profile, two writable folders, the volumes. */}}

{{/*
metadata of a pod template. Inputs: root; stage, for a submitter; ray, true for the pods of a RayCluster.
*/}}
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

{{/* What a pod's spec begins with: security context and pull secrets. Input: the root context. */}}
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

{{/* securityContext of a container, for the restricted profile. Input: not used. */}}
{{- define "pairwise-rm.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities:
  drop: [ALL]
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{/* Mounts of the folders that can be written on a read-only root file system. Input: not used. */}}
{{- define "pairwise-rm.scratchMounts" -}}
- {name: tmp, mountPath: /tmp}
- {name: home, mountPath: /home/ray}
{{- end -}}

{{/* Their volumes. Input: not used. */}}
{{- define "pairwise-rm.scratchVolumes" -}}
- {name: tmp, emptyDir: {}}
- {name: home, emptyDir: {}}
{{- end -}}

{{/*
Volume with a token of the Kubernetes API. Kubernetes would mount it into every container of the pod; as a volume of its
own, the autoscaler's alone has it. Input: not used.
*/}}
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

{{/* Mounts of a Ray container: serving reads the runs and nothing else of them. Input: serve, true for serving. */}}
{{- define "pairwise-rm.mounts" -}}
{{ include "pairwise-rm.scratchMounts" . }}
{{- if .serve }}
- {name: runs, mountPath: /mnt/runs, readOnly: true}
{{- else }}
- {name: recipe, mountPath: /etc/pairwise-rm, readOnly: true}
- {name: data, mountPath: /mnt/data}
- {name: runs, mountPath: /mnt/runs}
{{- end }}
- {name: cache, mountPath: /mnt/cache}
{{- end -}}

{{/* Volumes of a Ray pod. Inputs: root; serve, true for serving; recipe, name of the ConfigMap otherwise. */}}
{{- define "pairwise-rm.volumes" -}}
{{ include "pairwise-rm.scratchVolumes" . }}
{{- if not .serve }}
- name: recipe
  configMap:
    name: {{ .recipe }}
{{- end }}
{{- range $volume := ternary (list "runs" "cache") (list "data" "runs" "cache") .serve }}
- name: {{ $volume }}
  persistentVolumeClaim:
    claimName: {{ include "pairwise-rm.claim" (dict "root" $.root "volume" $volume) }}
{{- end }}
{{- end -}}

{{/*
Variables of head and workers: what a worker needs must be here, since a driver's own reach only the head. Serving has
no secret of training's. Inputs: root; serve, true for serving.
*/}}
{{- define "pairwise-rm.env" -}}
- {name: HOME, value: /home/ray}
- {name: HF_HOME, value: /mnt/cache/huggingface}
- {name: VLLM_CACHE_ROOT, value: /mnt/cache/vllm}
- {name: RAY_USAGE_STATS_ENABLED, value: "0"}
{{- if not .serve }}
{{- with .root.Values.secrets.wandb }}
{{- if .existingSecret }}
- name: WANDB_API_KEY
  valueFrom:
    secretKeyRef: {name: {{ .existingSecret }}, key: {{ .key }}}
{{- end }}
{{- end }}
{{- with .root.Values.secrets.huggingface }}
{{- if .existingSecret }}
- name: HF_TOKEN
  valueFrom:
    secretKeyRef: {name: {{ .existingSecret }}, key: {{ .key }}}
{{- end }}
{{- end }}
{{- end }}
{{- with .root.Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/*
Probes of a Ray container, since KubeRay's own allow a start of 30 s. /api/healthz is Ray's since 2.53.
Input: the root context.
*/}}
{{- define "pairwise-rm.probes" -}}
{{- $check := "httpGet: {path: /api/healthz, port: 52365}" -}}
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

{{/* The same, ready when something else answers. Inputs: root; path and port, of what is asked. */}}
{{- define "pairwise-rm.probesReadyBy" -}}
{{- $probes := include "pairwise-rm.probes" .root | fromYaml -}}
{{- $_ := set $probes.readinessProbe "httpGet" (dict "path" .path "port" .port) -}}
{{- toYaml $probes -}}
{{- end -}}
