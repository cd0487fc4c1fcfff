{{/*
spec of a RayCluster, for the shared one and for a RayJob's own. What KubeRay and Ray's autoscaler would fill in is
rendered, so that the cluster holds what was rendered.
  root; recipe: name of the ConfigMap; live: the shared cluster, of which the replicas that the autoscaler has set are
  kept; workerless: the head alone; serve: the RayService's, see _serve.tpl
*/}}
{{- define "pairwise-rm.rayClusterSpec" -}}
{{- $values := .root.Values -}}
{{- $autoscaled := and $values.autoscaling.enabled (not .workerless) -}}
{{- $of := ternary "pairwise-rm.serve" "pairwise-rm" (.serve | default false) -}}
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
  serviceType: ClusterIP
  rayStartParams:
    {{- /* Without it `ray start` goes on when its dashboard has not come up: a head that takes no jobs, for good. */}}
    include-dashboard: "true"
    dashboard-host: 0.0.0.0
    num-cpus: "0"
    num-gpus: "0"
  template:
    {{- include "pairwise-rm.podMeta" (dict "root" .root "ray" true) | trim | nindent 4 }}
    spec:
      {{- include "pairwise-rm.podSecurity" .root | nindent 6 }}
      {{- if $autoscaled }}
      restartPolicy: Never
      {{- end }}
      {{- if $values.serviceAccount.create }}
      serviceAccountName: {{ include "pairwise-rm.fullname" .root }}-head
      {{- end }}
      automountServiceAccountToken: false
      {{- with $values.priorityClass.name }}
      priorityClassName: {{ . }}
      {{- end }}
      {{- with $values.head.nodeSelector }}
      nodeSelector:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $values.head.tolerations }}
      tolerations:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with include "pairwise-rm.headAffinity" .root }}
      affinity:
        {{- . | nindent 8 }}
      {{- end }}
      containers:
        - name: ray-head
          image: {{ include "pairwise-rm.image" .root }}
          imagePullPolicy: {{ $values.image.pullPolicy }}
          securityContext:
            {{- include "pairwise-rm.containerSecurity" .root | nindent 12 }}
          resources:
            {{- toYaml $values.head.resources | nindent 12 }}
          ports:
            - {name: gcs-server, containerPort: 6379, protocol: TCP}
            - {name: dashboard, containerPort: 8265, protocol: TCP}
            - {name: metrics, containerPort: 8080, protocol: TCP}
            - {name: as-metrics, containerPort: 44217, protocol: TCP}
            - {name: dash-metrics, containerPort: 44227, protocol: TCP}
            {{- if .serve }}
            - {name: serve, containerPort: 8000, protocol: TCP}
            {{- end }}
          {{- include "pairwise-rm.headProbes" .root | nindent 10 }}
          env:
            {{- include (printf "%s.env" $of) .root | nindent 12 }}
            - {name: RAY_START_HOOK, value: pairwise_rm.cluster.ray_start_hook.without_client_server}
            {{- /* Ray gives its dashboard 60 seconds and each part of it 30, too few on a loaded node. */}}
            - {name: RAY_DASHBOARD_STARTUP_TIMEOUT_S, value: {{ int $values.probes.startupSeconds | quote }}}
            - {name: RAY_DASHBOARD_SUBPROCESS_MODULE_WAIT_READY_TIMEOUT, value: {{ int $values.probes.startupSeconds | quote }}}
            {{- with $values.head.env }}
            {{- toYaml . | nindent 12 }}
            {{- end }}
          {{- with ternary "" $values.secrets.upload.existingSecret (.serve | default false) }}
          envFrom:
            - secretRef: {name: {{ . }}}
          {{- end }}
          volumeMounts:
            {{- include (printf "%s.mounts" $of) .root | nindent 12 }}
      volumes:
        {{- include (printf "%s.volumes" $of) . | nindent 8 }}
        {{- if $autoscaled }}
        {{- include "pairwise-rm.apiToken" .root | nindent 8 }}
        {{- end }}
{{- if not .workerless }}
workerGroupSpecs:
{{- range $name, $pool := include (printf "%s.pools" $of) .root | fromJson }}
  {{- $group := get $running $name | default dict }}
  - groupName: {{ $name }}
    {{- if $autoscaled }}
    replicas: {{ min $pool.maxReplicas (max $pool.minReplicas ($group.replicas | default 0)) }}
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
      {{- toYaml ($group.scaleStrategy | default (ternary (dict "workersToDelete" list) dict (and ($.live | default false) $autoscaled))) | nindent 6 }}
    {{- /* What the CRD of a later KubeRay fills in (1.7: priority): the autoscaler owns the list, as a whole. */}}
    {{- range $key, $value := omit $group "groupName" "replicas" "minReplicas" "maxReplicas" "numOfHosts" "scaleStrategy" "rayStartParams" "template" }}
    {{ $key }}: {{ toJson $value }}
    {{- end }}
    rayStartParams:
      num-cpus: {{ $pool.rayCpus | quote }}
      num-gpus: {{ $pool.gpus | quote }}
    template:
      {{- include "pairwise-rm.podMeta" (dict "root" $.root "ray" true) | trim | nindent 6 }}
      spec:
        {{- include "pairwise-rm.podSecurity" $.root | nindent 8 }}
        {{- if $autoscaled }}
        restartPolicy: Never
        {{- end }}
        serviceAccountName: {{ include "pairwise-rm.serviceAccount" $.root }}
        automountServiceAccountToken: false
        {{- with $pool.priorityClassName | default $values.priorityClass.name }}
        priorityClassName: {{ . }}
        {{- end }}
        {{- with include "pairwise-rm.poolNodes" $pool | fromJson }}
        nodeSelector:
          {{- toYaml . | nindent 10 }}
        {{- end }}
        {{- with include "pairwise-rm.poolTolerations" $pool | fromJsonArray }}
        tolerations:
          {{- toYaml . | nindent 10 }}
        {{- end }}
        {{- with $pool.affinity }}
        affinity:
          {{- toYaml . | nindent 10 }}
        {{- end }}
        {{- if $pool.topologySpread.enabled }}
        topologySpreadConstraints:
          - maxSkew: 1
            topologyKey: {{ $pool.topologySpread.topologyKey }}
            whenUnsatisfiable: DoNotSchedule
            labelSelector:
              matchLabels:
                {{- include "pairwise-rm.selectorLabels" $.root | nindent 16 }}
                ray.io/group: {{ $name }}
        {{- end }}
        containers:
          - name: ray-worker
            image: {{ include "pairwise-rm.image" $.root }}
            imagePullPolicy: {{ $values.image.pullPolicy }}
            securityContext:
              {{- include "pairwise-rm.containerSecurity" $.root | nindent 14 }}
            resources:
              {{- include "pairwise-rm.poolResources" $pool | nindent 14 }}
            ports:
              - {name: metrics, containerPort: 8080, protocol: TCP}
              {{- if $.serve }}
              - {name: serve, containerPort: 8000, protocol: TCP}
              {{- end }}
            {{- include (printf "%s.probes" $of) $.root | nindent 12 }}
            env:
              {{- include (printf "%s.env" $of) $.root | nindent 14 }}
              {{- range $key, $value := $pool.nccl }}
              - {name: {{ $key }}, value: {{ $value | quote }}}
              {{- end }}
              {{- with $pool.env }}
              {{- toYaml . | nindent 14 }}
              {{- end }}
            volumeMounts:
              {{- include (printf "%s.mounts" $of) $.root | nindent 14 }}
              {{- if $pool.sharedMemory }}
              - {name: shm, mountPath: /dev/shm}
              {{- end }}
        volumes:
          {{- include (printf "%s.volumes" $of) $ | nindent 10 }}
          {{- with $pool.sharedMemory }}
          - name: shm
            emptyDir: {medium: Memory, sizeLimit: {{ . }}}
          {{- end }}
{{- end }}
{{- end }}
{{- end -}}

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
