{{/*
The RayCluster: the shared one, a RayJob's own, and the RayService's. What KubeRay and Ray's autoscaler would fill in is
rendered, so that the cluster holds what was rendered.
*/}}

{{/*
spec of a RayCluster.
Inputs: root; recipe, name of the ConfigMap; live, true for the shared cluster, of which the replicas that the
autoscaler has set are kept; workerless, true for the head alone; serve, true for the RayService's.
*/}}
{{- define "pairwise-rm.rayClusterSpec" -}}
{{- $values := .root.Values -}}
{{- $serve := .serve | default false -}}
{{- $autoscaled := and $values.autoscaling.enabled (not .workerless) -}}
{{- $running := dict -}}
{{- if and .live $autoscaled -}}
{{- $cluster := lookup "ray.io/v1" "RayCluster" .root.Release.Namespace (include "pairwise-rm.fullname" .root) | default dict -}}
{{- range dig "spec" "workerGroupSpecs" list $cluster -}}
{{- $_ := set $running .groupName . -}}
{{- end -}}
{{- end -}}
rayVersion: {{ $values.rayVersion | quote }}
{{- if $values.auth.token }}
authOptions:
  mode: token
  {{- with $values.auth.existingSecret }}
  secretName: {{ . }}
  {{- end }}
{{- end }}
enableInTreeAutoscaling: {{ $autoscaled }}
{{- if $autoscaled }}
autoscalerOptions:
  version: v2
  idleTimeoutSeconds: {{ $values.autoscaling.idleTimeoutSeconds }}
  upscalingMode: {{ $values.autoscaling.upscalingMode }}
  imagePullPolicy: {{ $values.image.pullPolicy }}
  resources:
    {{- toYaml $values.autoscaling.resources | nindent 4 }}
  securityContext:
    {{- include "pairwise-rm.containerSecurity" .root | nindent 4 }}
  env:
    - {name: HOME, value: /home/ray}
    - {name: RAY_USAGE_STATS_ENABLED, value: "0"}
    {{- /* Tries, two seconds apart, to find the head in Ray's table: on a loaded node 20 are too few. */}}
    - {name: RAY_NUM_REDIS_GET_RETRIES, value: "150"}
  volumeMounts:
    {{- include "pairwise-rm.scratchMounts" .root | nindent 4 }}
    - {name: api-token, mountPath: /var/run/secrets/kubernetes.io/serviceaccount, readOnly: true}
{{- end }}
headGroupSpec:
  {{- include "pairwise-rm.headGroup" (dict "root" .root "recipe" .recipe "autoscaled" $autoscaled "serve" $serve) | nindent 2 }}
{{- if not .workerless }}
{{- $pools := "" -}}
{{- if $serve -}}
{{- $pools = include "pairwise-rm.servePools" .root -}}
{{- else -}}
{{- $pools = include "pairwise-rm.pools" .root -}}
{{- end }}
workerGroupSpecs:
{{- range $name, $pool := $pools | fromJson }}
  {{- $group := dict "root" $.root "recipe" $.recipe "autoscaled" $autoscaled "serve" $serve "name" $name "pool" $pool
        "live" ($.live | default false) "running" (get $running $name | default dict) }}
  - {{ include "pairwise-rm.workerGroup" $group | indent 4 | trim }}
{{- end }}
{{- end }}
{{- end -}}

{{/*
headGroupSpec of a RayCluster.
Inputs: root; recipe, name of the ConfigMap; autoscaled, whether the autoscaler runs beside it; serve, true for the
RayService's.
*/}}
{{- define "pairwise-rm.headGroup" -}}
{{- $values := .root.Values -}}
{{- $head := $values.head -}}
serviceType: ClusterIP
rayStartParams:
  {{- /* Without it `ray start` goes on when its dashboard has not come up: a head that takes no jobs, for good. */}}
  include-dashboard: "true"
  dashboard-host: 0.0.0.0
  num-cpus: "0"
  num-gpus: "0"
template:
  {{- include "pairwise-rm.podMeta" (dict "root" .root "ray" true) | trim | nindent 2 }}
  spec:
    {{- include "pairwise-rm.podSecurity" .root | nindent 4 }}
    {{- if .autoscaled }}
    restartPolicy: Never
    {{- end }}
    {{- with $head.terminationGracePeriodSeconds }}
    terminationGracePeriodSeconds: {{ . | int64 }}
    {{- end }}
    {{- with include "pairwise-rm.headServiceAccount" .root }}
    serviceAccountName: {{ . }}
    {{- end }}
    automountServiceAccountToken: false
    {{- with $values.priorityClass.name }}
    priorityClassName: {{ . }}
    {{- end }}
    {{- with $head.runtimeClassName }}
    runtimeClassName: {{ . }}
    {{- end }}
    {{- with $head.nodeSelector }}
    nodeSelector:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    {{- with $head.tolerations }}
    tolerations:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    {{- with include "pairwise-rm.headAffinity" .root }}
    affinity:
      {{- . | nindent 6 }}
    {{- end }}
    {{- $standby := and .autoscaled (include "pairwise-rm.hasSidecars" .root) }}
    {{- if or $standby $head.extraInitContainers }}
    initContainers:
      {{- with $head.extraInitContainers }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
      {{- if $standby }}
      {{- include "pairwise-rm.autoscalerStandby" .root | nindent 6 }}
      {{- end }}
    {{- end }}
    containers:
      {{- /* KubeRay takes the first container for Ray's. */}}
      - name: ray-head
        image: {{ include "pairwise-rm.image" .root }}
        imagePullPolicy: {{ $values.image.pullPolicy }}
        securityContext:
          {{- include "pairwise-rm.containerSecurity" .root | nindent 10 }}
        resources:
          {{- toYaml $head.resources | nindent 10 }}
        ports:
          - {name: gcs-server, containerPort: 6379, protocol: TCP}
          - {name: dashboard, containerPort: 8265, protocol: TCP}
          - {name: metrics, containerPort: 8080, protocol: TCP}
          - {name: as-metrics, containerPort: 44217, protocol: TCP}
          - {name: dash-metrics, containerPort: 44227, protocol: TCP}
          {{- if .serve }}
          - {name: serve, containerPort: 8000, protocol: TCP}
          {{- end }}
        {{- /* Ready when its dashboard answers, which starts last: a stage that is submitted before is lost. */}}
        {{- include "pairwise-rm.probesReadyBy" (dict "root" .root "path" "/api/gcs_healthz" "port" 8265) | nindent 8 }}
        env:
          {{- include "pairwise-rm.env" (dict "root" .root "serve" .serve) | nindent 10 }}
          - {name: RAY_START_HOOK, value: pairwise_rm.cluster.ray_start_hook.on_start}
          {{- if and $standby $values.auth.token }}
          - {name: PAIRWISE_RM_TOKEN_FILE, value: /run/pairwise-rm/token}
          {{- end }}
          {{- /* Ray gives its dashboard 60 seconds and each part of it 30, too few on a loaded node. */}}
          - {name: RAY_DASHBOARD_STARTUP_TIMEOUT_S, value: {{ int $values.probes.startupSeconds | quote }}}
          - {name: RAY_DASHBOARD_SUBPROCESS_MODULE_WAIT_READY_TIMEOUT, value: {{ int $values.probes.startupSeconds | quote }}}
          {{- with $head.env }}
          {{- toYaml . | nindent 10 }}
          {{- end }}
        {{- if and $values.secrets.upload.existingSecret (not .serve) }}
        envFrom:
          - secretRef: {name: {{ $values.secrets.upload.existingSecret }}}
        {{- end }}
        volumeMounts:
          {{- include "pairwise-rm.mounts" (dict "serve" .serve) | nindent 10 }}
          {{- if and $standby $values.auth.token }}
          - {name: head-token, mountPath: /run/pairwise-rm}
          {{- end }}
          {{- with concat $values.extraVolumeMounts $head.extraVolumeMounts }}
          {{- toYaml . | nindent 10 }}
          {{- end }}
      {{- with $head.extraContainers }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
    volumes:
      {{- include "pairwise-rm.volumes" (dict "root" .root "recipe" .recipe "serve" .serve) | nindent 6 }}
      {{- if .autoscaled }}
      {{- include "pairwise-rm.apiToken" .root | nindent 6 }}
      {{- end }}
      {{- if $standby }}
      - {name: standby-tmp, emptyDir: {}}
      {{- if $values.auth.token }}
      - name: head-token
        emptyDir: {medium: Memory, sizeLimit: 1Mi}
      {{- end }}
      {{- end }}
      {{- with concat $values.extraVolumes $head.extraVolumes }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
{{- end -}}

{{/* "yes" where Kubernetes has sidecars, which are init containers that stay. Input: the root context. */}}
{{- define "pairwise-rm.hasSidecars" -}}
{{- if semverCompare ">=1.29.0-0" .Capabilities.KubeVersion.Version -}}yes{{- end -}}
{{- end -}}

{{/*
Sidecar of the head that runs the autoscaler when KubeRay's container of it has ended, which nothing starts again in a
pod with restartPolicy Never. It then has the memory of that one, so it requests little of its own.
Input: the root context.
*/}}
{{- define "pairwise-rm.autoscalerStandby" -}}
- name: autoscaler-standby
  restartPolicy: Always
  image: {{ include "pairwise-rm.image" . }}
  imagePullPolicy: {{ .Values.image.pullPolicy }}
  command: [python, -m, pairwise_rm.cluster.autoscaler_standby]
  securityContext:
    {{- include "pairwise-rm.containerSecurity" . | nindent 4 }}
  resources:
    requests: {cpu: 10m, memory: 64Mi}
    {{- with .Values.autoscaling.resources.limits }}
    limits:
      {{- toYaml . | nindent 6 }}
    {{- end }}
  env:
    - {name: HOME, value: /home/ray}
    - {name: RAY_USAGE_STATS_ENABLED, value: "0"}
    - {name: RAY_NUM_REDIS_GET_RETRIES, value: "150"}
    - {name: KUBERAY_CRD_VER, value: v1}
    - name: RAY_CLUSTER_NAME
      valueFrom: {fieldRef: {apiVersion: v1, fieldPath: "metadata.labels['ray.io/cluster']"}}
    - name: RAY_CLUSTER_NAMESPACE
      valueFrom: {fieldRef: {apiVersion: v1, fieldPath: metadata.namespace}}
    - name: RAY_HEAD_POD_NAME
      valueFrom: {fieldRef: {apiVersion: v1, fieldPath: metadata.name}}
    {{- if .Values.auth.token }}
    - {name: RAY_AUTH_MODE, value: token}
    - {name: RAY_AUTH_TOKEN_PATH, value: /run/pairwise-rm/token}
    {{- end }}
  volumeMounts:
    {{- /* Not the head's: in that one /tmp/ray is where KubeRay mounts the logs, and belongs to root. */}}
    - {name: standby-tmp, mountPath: /tmp}
    - {name: home, mountPath: /home/ray}
    - {name: api-token, mountPath: /var/run/secrets/kubernetes.io/serviceaccount, readOnly: true}
    {{- if .Values.auth.token }}
    - {name: head-token, mountPath: /run/pairwise-rm, readOnly: true}
    {{- end }}
{{- end -}}

{{/*
One of a RayCluster's workerGroupSpecs.
Inputs: root; recipe, name of the ConfigMap; autoscaled, whether the autoscaler sets the replicas; serve, true for the
RayService's; name and pool; live, true for the shared cluster; running, the group as the cluster has it, or {}.
*/}}
{{- define "pairwise-rm.workerGroup" -}}
{{- $values := .root.Values -}}
{{- $pool := .pool -}}
groupName: {{ .name }}
{{- if .autoscaled }}
replicas: {{ min $pool.maxReplicas (max $pool.minReplicas (.running.replicas | default 0)) }}
minReplicas: {{ $pool.minReplicas }}
maxReplicas: {{ $pool.maxReplicas }}
{{- else }}
replicas: {{ $pool.replicas }}
minReplicas: {{ $pool.replicas }}
maxReplicas: {{ $pool.replicas }}
{{- end }}
numOfHosts: 1
{{- /* As the autoscaler leaves it; in a RayJob, as the operator writes it back. */}}
scaleStrategy:
  {{- toYaml (.running.scaleStrategy | default (ternary (dict "workersToDelete" list) dict (and .live .autoscaled))) | nindent 2 }}
{{- /* What the CRD of a later KubeRay fills in (1.7: priority): the autoscaler owns the list, as a whole. */}}
{{- range $key, $value := omit .running "groupName" "replicas" "minReplicas" "maxReplicas" "numOfHosts" "scaleStrategy" "rayStartParams" "template" }}
{{ $key }}: {{ toJson $value }}
{{- end }}
rayStartParams:
  num-cpus: {{ $pool.rayCpus | quote }}
  num-gpus: {{ $pool.gpus | quote }}
template:
  {{- include "pairwise-rm.podMeta" (dict "root" .root "ray" true) | trim | nindent 2 }}
  spec:
    {{- include "pairwise-rm.podSecurity" .root | nindent 4 }}
    {{- if .autoscaled }}
    restartPolicy: Never
    {{- end }}
    {{- with $pool.terminationGracePeriodSeconds }}
    terminationGracePeriodSeconds: {{ . | int64 }}
    {{- end }}
    serviceAccountName: {{ include "pairwise-rm.serviceAccount" .root }}
    automountServiceAccountToken: false
    {{- with $pool.priorityClassName | default $values.priorityClass.name }}
    priorityClassName: {{ . }}
    {{- end }}
    {{- with $pool.runtimeClassName }}
    runtimeClassName: {{ . }}
    {{- end }}
    {{- with include "pairwise-rm.poolNodes" $pool | fromJson }}
    nodeSelector:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    {{- with include "pairwise-rm.poolTolerations" $pool | fromJsonArray }}
    tolerations:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    {{- with $pool.affinity }}
    affinity:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    {{- if or $pool.topologySpread.enabled $pool.topologySpreadConstraints }}
    topologySpreadConstraints:
      {{- if $pool.topologySpread.enabled }}
      - maxSkew: 1
        topologyKey: {{ $pool.topologySpread.topologyKey }}
        whenUnsatisfiable: DoNotSchedule
        labelSelector:
          matchLabels:
            {{- include "pairwise-rm.selectorLabels" .root | nindent 12 }}
            ray.io/group: {{ .name }}
      {{- end }}
      {{- with $pool.topologySpreadConstraints }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
    {{- end }}
    {{- with $pool.extraInitContainers }}
    initContainers:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    containers:
      {{- /* KubeRay takes the first container for Ray's. */}}
      - name: ray-worker
        image: {{ include "pairwise-rm.image" .root }}
        imagePullPolicy: {{ $values.image.pullPolicy }}
        securityContext:
          {{- include "pairwise-rm.containerSecurity" .root | nindent 10 }}
        resources:
          {{- include "pairwise-rm.poolResources" $pool | nindent 10 }}
        ports:
          - {name: metrics, containerPort: 8080, protocol: TCP}
          {{- if .serve }}
          - {name: serve, containerPort: 8000, protocol: TCP}
          {{- end }}
        {{- if .serve }}
        {{- /* Ready when Serve's proxy on it answers, which it does where a replica is. */}}
        {{- include "pairwise-rm.probesReadyBy" (dict "root" .root "path" "/-/healthz" "port" 8000) | nindent 8 }}
        {{- else }}
        {{- include "pairwise-rm.probes" .root | nindent 8 }}
        {{- end }}
        {{- if and $pool.preemption.enabled (not .serve) }}
        lifecycle:
          preStop:
            exec:
              command: [python, -m, pairwise_rm.cluster.drain_node, --grace, {{ include "pairwise-rm.preemptionGrace" $pool | quote }}]
        {{- end }}
        env:
          {{- include "pairwise-rm.env" (dict "root" .root "serve" .serve) | nindent 10 }}
          {{- range $key, $value := $pool.nccl }}
          - {name: {{ $key }}, value: {{ $value | quote }}}
          {{- end }}
          {{- with $pool.env }}
          {{- toYaml . | nindent 10 }}
          {{- end }}
        volumeMounts:
          {{- include "pairwise-rm.mounts" (dict "serve" .serve) | nindent 10 }}
          {{- if $pool.sharedMemory }}
          - {name: shm, mountPath: /dev/shm}
          {{- end }}
          {{- with concat $values.extraVolumeMounts $pool.extraVolumeMounts }}
          {{- toYaml . | nindent 10 }}
          {{- end }}
      {{- with $pool.extraContainers }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
    volumes:
      {{- include "pairwise-rm.volumes" (dict "root" .root "recipe" .recipe "serve" .serve) | nindent 6 }}
      {{- with $pool.sharedMemory }}
      - name: shm
        emptyDir: {medium: Memory, sizeLimit: {{ . }}}
      {{- end }}
      {{- with concat $values.extraVolumes $pool.extraVolumes }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
{{- end -}}

{{/* resources of a worker, with its GPUs and RDMA devices. Input: the pool. */}}
{{- define "pairwise-rm.poolResources" -}}
{{- $resources := deepCopy .resources -}}
{{- $devices := dict -}}
{{- if and .gpus .gpuResource -}}
{{- $_ := set $devices .gpuResource .gpus -}}
{{- end -}}
{{- if .rdma.enabled -}}
{{- $_ := set $devices .rdma.resourceName .rdma.count -}}
{{- end -}}
{{- range $side := list "requests" "limits" -}}
{{- with merge (deepCopy $devices) (get $resources $side | default dict) -}}
{{- $_ := set $resources $side . -}}
{{- end -}}
{{- end -}}
{{- toYaml $resources -}}
{{- end -}}

{{/* affinity of the head and of what runs beside it; "" for none. Input: the root context. */}}
{{- define "pairwise-rm.headAffinity" -}}
{{- $head := .Values.head -}}
{{- if $head.affinity -}}
{{- toYaml $head.affinity -}}
{{- else if and $head.gpuNodeLabels (ne $head.gpuNodes "allow") -}}
{{- $absent := list -}}
{{- range $head.gpuNodeLabels -}}
{{- $absent = append $absent (dict "key" . "operator" "DoesNotExist") -}}
{{- end -}}
{{- $term := dict "matchExpressions" $absent -}}
{{- if eq $head.gpuNodes "forbid" -}}
{{- toYaml (dict "nodeAffinity" (dict "requiredDuringSchedulingIgnoredDuringExecution" (dict "nodeSelectorTerms" (list $term)))) -}}
{{- else -}}
{{- toYaml (dict "nodeAffinity" (dict "preferredDuringSchedulingIgnoredDuringExecution" (list (dict "weight" 100 "preference" $term)))) -}}
{{- end -}}
{{- end -}}
{{- end -}}
