{{/*
What only the cluster knows. Its kinds are told by its API versions, which Argo CD hands over too. All else is looked
up, and `lookup` finds nothing in `helm template`, which Argo CD renders with: what stands then unsaid is said by the
first stage and by `pairwise-rm status`. So a cluster is looked at where a look-up that must succeed does. Claims and
secrets of the namespace may be read by whoever may install into it; storage classes and nodes not always, hence the
switches.
*/}}

{{- define "pairwise-rm.validateCluster" -}}
{{- $known := .Capabilities.APIVersions.Has "v1/Pod" -}}
{{- if and $known (not (.Capabilities.APIVersions.Has "ray.io/v1/RayJob")) -}}
{{- fail "KubeRay: this cluster has no ray.io/v1 RayJob; install the KubeRay operator 1.6 or later with its CRDs" -}}
{{- end -}}
{{- if and $known (not (.Capabilities.APIVersions.Has "ray.io/v1/RayCronJob")) -}}
{{- fail "KubeRay: this cluster's CRDs are older than 1.6; upgrade the operator and, as Helm does not, its CRDs" -}}
{{- end -}}
{{- if and $known .Values.podMonitor.enabled (not (.Capabilities.APIVersions.Has "monitoring.coreos.com/v1/PodMonitor")) -}}
{{- fail "podMonitor.enabled: this cluster has no monitoring.coreos.com/v1 PodMonitor; install the Prometheus operator or set it to false" -}}
{{- end -}}
{{- if and $known .Values.batch.kueue.queueName (not (include "pairwise-rm.kueueVersion" .)) -}}
{{- fail "batch.kueue.queueName: this cluster has no LocalQueue of kueue.x-k8s.io; install Kueue, or leave it empty" -}}
{{- end -}}
{{- if and $known .Values.networkPolicy.enabled .Values.networkPolicy.egress.hosts (not (.Capabilities.APIVersions.Has "cilium.io/v2/CiliumNetworkPolicy")) -}}
{{- fail "networkPolicy.egress.hosts: this cluster has no Cilium, which policies by host need; set networkPolicy.egress.cidrs instead" -}}
{{- end -}}
{{- if and $known (include "pairwise-rm.live" .) -}}
{{- include "pairwise-rm.validateOwner" . -}}
{{- include "pairwise-rm.validateSecrets" . -}}
{{- include "pairwise-rm.validateClaims" . -}}
{{- if .Values.checks.cluster -}}
{{- include "set checks.cluster=false where you may not read storage classes" . -}}
{{- include "set checks.cluster=false where you may not read priority classes" . -}}
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

{{/* Not empty where there is a cluster to look at: every namespace has this ConfigMap. */}}
{{- define "pairwise-rm.live" -}}
{{- if lookup "v1" "ConfigMap" .Release.Namespace "kube-root-ca.crt" -}}
yes
{{- else if .Values.checks.cluster -}}
{{- include "make the namespace first, or set checks.cluster=false, where you may not read namespace default" . -}}
{{- end -}}
{{- end -}}

{{/* `helm install --create-namespace` makes the namespace after it has rendered. */}}
{{- define "make the namespace first, or set checks.cluster=false, where you may not read namespace default" -}}
{{- if lookup "v1" "ConfigMap" "default" "kube-root-ca.crt" -}}yes{{- end -}}
{{- end -}}

{{/* Two releases of one namespace with one fullnameOverride. */}}
{{- define "pairwise-rm.validateOwner" -}}
{{- $name := include "pairwise-rm.fullname" . -}}
{{- $cluster := lookup "ray.io/v1" "RayCluster" .Release.Namespace $name | default dict -}}
{{- $owner := dig "metadata" "annotations" "meta.helm.sh/release-name" "" $cluster -}}
{{- if and $cluster (ne $owner .Release.Name) -}}
{{- fail (printf "fullnameOverride: a RayCluster %s is there already%s; set another name" $name (ternary (printf " and belongs to release %s" $owner) "" (ne $owner ""))) -}}
{{- end -}}
{{- end -}}

{{- define "pairwise-rm.validateSecrets" -}}
{{- $wanted := list
      (list "secrets.wandb" .Values.secrets.wandb.existingSecret .Values.secrets.wandb.key)
      (list "secrets.huggingface" .Values.secrets.huggingface.existingSecret .Values.secrets.huggingface.key)
      (list "secrets.upload" .Values.secrets.upload.existingSecret "")
      (list "auth" .Values.auth.existingSecret "auth_token") -}}
{{- range $wanted -}}
{{- $value := index . 0 -}}
{{- $name := index . 1 -}}
{{- $key := index . 2 -}}
{{- if $name -}}
{{- $secret := lookup "v1" "Secret" $.Release.Namespace $name -}}
{{- if not $secret -}}
{{- fail (printf "%s.existingSecret: namespace %s has no secret %q" $value $.Release.Namespace $name) -}}
{{- end -}}
{{- if and $key (not (hasKey ($secret.data | default dict) $key)) -}}
{{- fail (printf "%s.existingSecret: secret %q has no key %q; it has: %s" $value $name $key (keys ($secret.data | default dict) | sortAlpha | join ", ")) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- range .Values.image.pullSecrets -}}
{{- if not (lookup "v1" "Secret" $.Release.Namespace .) -}}
{{- fail (printf "image.pullSecrets: namespace %s has no secret %q" $.Release.Namespace .) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "pairwise-rm.validateClaims" -}}
{{- range $volume := list "data" "runs" "cache" -}}
{{- $given := get $.Values.storage $volume -}}
{{- $name := include "pairwise-rm.claim" (dict "root" $ "volume" $volume) -}}
{{- $claim := lookup "v1" "PersistentVolumeClaim" $.Release.Namespace $name -}}
{{- if $claim -}}
{{- $has := dig "status" "capacity" "storage" $claim.spec.resources.requests.storage $claim -}}
{{- $bytes := include "pairwise-rm.bytes" $has | float64 -}}
{{- $wanted := include "pairwise-rm.bytes" $given.size | float64 -}}
{{- $owner := dig "metadata" "annotations" "meta.helm.sh/release-name" "" $claim -}}
{{- if and $given.existingClaim (lt $bytes $wanted) -}}
{{- fail (printf "storage.%s.existingClaim: %s has %s, less than storage.%s.size, %s; lower that, or take a larger claim" $volume $name $has $volume $given.size) -}}
{{- else if and (not $given.existingClaim) (ne $owner $.Release.Name) -}}
{{- fail (printf "storage.%s: a claim %s is there already%s; set storage.%s.existingClaim=%s to use it, or fullnameOverride" $volume $name (ternary (printf " and belongs to release %s" $owner) "" (ne $owner "")) $volume $name) -}}
{{- else if and (not $given.existingClaim) (lt $wanted (include "pairwise-rm.bytes" $claim.spec.resources.requests.storage | float64)) -}}
{{- fail (printf "storage.%s.size: %s is less than the %s of claim %s, which cannot shrink" $volume $given.size $claim.spec.resources.requests.storage $name) -}}
{{- end -}}
{{- else if $given.existingClaim -}}
{{- fail (printf "storage.%s.existingClaim: namespace %s has no claim %q" $volume $.Release.Namespace $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Bytes of a quantity. */}}
{{- define "pairwise-rm.bytes" -}}
{{- $text := toString . -}}
{{- $number := regexFind "^[0-9.]+" $text | float64 -}}
{{- $unit := trimPrefix (regexFind "^[0-9.]+" $text) $text -}}
{{- $units := dict "" 1 "k" 1e3 "M" 1e6 "G" 1e9 "T" 1e12 "P" 1e15 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 "Pi" 1125899906842624 -}}
{{- mulf $number (get $units $unit) -}}
{{- end -}}

{{/* Named as the sentence that Helm prints when the caller may not read them. */}}
{{- define "set checks.cluster=false where you may not read storage classes" -}}
{{- $classes := lookup "storage.k8s.io/v1" "StorageClass" "" "" -}}
{{- $names := list -}}
{{- $default := "" -}}
{{- $expands := list -}}
{{- range $classes.items | default list -}}
{{- $names = append $names .metadata.name -}}
{{- if eq (dig "metadata" "annotations" "storageclass.kubernetes.io/is-default-class" "" .) "true" -}}{{- $default = .metadata.name -}}{{- end -}}
{{- if .allowVolumeExpansion -}}{{- $expands = append $expands .metadata.name -}}{{- end -}}
{{- end -}}
{{- $known := ternary "there is none" (printf "there are: %s" (join ", " $names)) (empty $names) -}}
{{- range $volume := list "data" "runs" "cache" -}}
{{- $given := get $.Values.storage $volume -}}
{{- if not $given.existingClaim -}}
{{- $name := include "pairwise-rm.claim" (dict "root" $ "volume" $volume) -}}
{{- with lookup "v1" "PersistentVolumeClaim" $.Release.Namespace $name -}}
{{- $class := .spec.storageClassName | default "" -}}
{{- if and $given.storageClass (ne $given.storageClass $class) -}}
{{- fail (printf "storage.%s.storageClass: claim %s is of class %s, which cannot change to %s" $volume $name $class $given.storageClass) -}}
{{- end -}}
{{- $has := .spec.resources.requests.storage -}}
{{- if and (gt (include "pairwise-rm.bytes" $given.size | float64) (include "pairwise-rm.bytes" $has | float64)) (not (has $class $expands)) -}}
{{- fail (printf "storage.%s.size: claim %s has %s and its class %s cannot grow volumes to %s; keep %s, or name another claim in storage.%s.existingClaim" $volume $name $has $class $given.size $has $volume) -}}
{{- end -}}
{{- else -}}
{{- if and $given.storageClass (not (has $given.storageClass $names)) -}}
{{- fail (printf "storage.%s.storageClass: this cluster has no class %q; %s" $volume $given.storageClass $known) -}}
{{- else if not (or $given.storageClass $default) -}}
{{- fail (printf "storage.%s.storageClass: is empty and this cluster has no default class; %s" $volume $known) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "set checks.cluster=false where you may not read priority classes" -}}
{{- $made := ternary .Values.priorityClass.name "" .Values.priorityClass.create -}}
{{- $wanted := dict "priorityClass.name" .Values.priorityClass.name -}}
{{- range $name, $pool := include "pairwise-rm.pools" . | fromJson -}}
{{- $_ := set $wanted (printf "pools.%s.priorityClassName" $name) $pool.priorityClassName -}}
{{- end -}}
{{- range $value, $class := $wanted -}}
{{- if and $class (ne $class $made) (not (lookup "scheduling.k8s.io/v1" "PriorityClass" "" $class)) -}}
{{- fail (printf "%s: this cluster has no PriorityClass %q; name one that is there, or set priorityClass.create=true to make one" $value $class) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "set checks.nodes=false where you may not read nodes" -}}
{{- $nodes := (lookup "v1" "Node" "" "").items | default list -}}
{{- $escape := "or checks.nodes=false where nodes come with their pods" -}}
{{- range $name, $pool := include "pairwise-rm.pools" . | fromJson -}}
{{- $selector := include "pairwise-rm.poolNodes" $pool | fromJson -}}
{{- $fitting := 0 -}}
{{- $largest := 0 -}}
{{- range $node := $nodes -}}
{{- $matches := true -}}
{{- range $key, $value := $selector -}}
{{- if ne (get ($node.metadata.labels | default dict) $key) $value -}}{{- $matches = false -}}{{- end -}}
{{- end -}}
{{- if $matches -}}
{{- $fitting = add1 $fitting -}}
{{- if $pool.gpuResource -}}
{{- $largest = max $largest (dig "status" "allocatable" $pool.gpuResource 0 $node | int) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and $pool.most (not $fitting) -}}
{{- fail (printf "pools.%s: none of the %d nodes has the labels %s; set platform, gpuProduct and nodeSelector of the pool, %s" $name (len $nodes) (toJson $selector) $escape) -}}
{{- end -}}
{{- if and $pool.most $pool.gpuResource (lt (int $largest) (int $pool.gpus)) -}}
{{- fail (printf "pools.%s.gpus: %v wanted, the largest such node has %d of %s; lower it, %s" $name $pool.gpus $largest $pool.gpuResource $escape) -}}
{{- end -}}
{{- end -}}
{{- if and (eq .Values.head.gpuNodes "forbid") (not .Values.head.affinity) .Values.head.gpuNodeLabels -}}
{{- $free := 0 -}}
{{- range $node := $nodes -}}
{{- $gpu := false -}}
{{- range $label := $.Values.head.gpuNodeLabels -}}
{{- if hasKey ($node.metadata.labels | default dict) $label -}}{{- $gpu = true -}}{{- end -}}
{{- end -}}
{{- if not $gpu -}}{{- $free = add1 $free -}}{{- end -}}
{{- end -}}
{{- if not $free -}}
{{- fail (printf "head.gpuNodes: forbid leaves none of the %d nodes for the head; set it to avoid, %s" (len $nodes) $escape) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* An operator that the policies keep from the dashboard never learns how a stage stands. */}}
{{- define "set checks.operator=false where you may not read Deployments of other namespaces" -}}
{{- $wanted := .Values.networkPolicy.ingress.operator -}}
{{- $there := list -}}
{{- $let := false -}}
{{- range (lookup "apps/v1" "Deployment" "" "").items -}}
{{- $namespace := .metadata.namespace -}}
{{- $labels := .spec.template.metadata.labels | default dict -}}
{{- $matches := or (not $wanted.namespace) (eq $wanted.namespace .metadata.namespace) -}}
{{- range $key, $value := $wanted.podLabels -}}
{{- if ne (get $labels $key) $value -}}{{- $matches = false -}}{{- end -}}
{{- end -}}
{{- if $matches -}}{{- $let = true -}}{{- end -}}
{{- range .spec.template.spec.containers -}}
{{- if regexMatch "kuberay[^/]*operator|/kuberay/operator" .image -}}
{{- $there = append $there (printf "namespace %s, labels %s" $namespace (toJson $labels)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if not $let -}}
{{- fail (printf "networkPolicy.ingress.operator: no Deployment%s has pods with the labels %s, so the policies would keep the KubeRay operator from the dashboard; set namespace and podLabels to its own%s, or checks.operator=false" (ternary (printf " of namespace %s" $wanted.namespace) "" (ne $wanted.namespace "")) (toJson $wanted.podLabels) (ternary (printf " (%s)" (join "; " (uniq $there))) "" (not (empty $there)))) -}}
{{- end -}}
{{- end -}}

{{/* The newest version of Kueue's API that this cluster has. */}}
{{- define "pairwise-rm.kueueVersion" -}}
{{- $newest := "" -}}
{{- range $version := list "v1beta1" "v1beta2" "v1" -}}
{{- if $.Capabilities.APIVersions.Has (printf "kueue.x-k8s.io/%s/LocalQueue" $version) -}}{{- $newest = $version -}}{{- end -}}
{{- end -}}
{{- $newest -}}
{{- end -}}

{{- define "set checks.cluster=false where you may not read LocalQueues" -}}
{{- $name := .Values.batch.kueue.queueName -}}
{{- $there := list -}}
{{- range (lookup (printf "kueue.x-k8s.io/%s" (include "pairwise-rm.kueueVersion" .)) "LocalQueue" .Release.Namespace "").items -}}
{{- $there = append $there .metadata.name -}}
{{- end -}}
{{- if not (has $name $there) -}}
{{- fail (printf "batch.kueue.queueName: namespace %s has no LocalQueue %q; %s" .Release.Namespace $name (ternary "it has none, see manifests/kueue" (printf "it has: %s" (join ", " $there)) (empty $there))) -}}
{{- end -}}
{{- end -}}

{{/* Without the class Kueue leaves a RayJob suspended and says so in its own log alone. */}}
{{- define "set checks.cluster=false where you may not read WorkloadPriorityClasses" -}}
{{- $name := .Values.batch.kueue.priorityClass -}}
{{- $there := list -}}
{{- range (lookup (printf "kueue.x-k8s.io/%s" (include "pairwise-rm.kueueVersion" .)) "WorkloadPriorityClass" "" "").items -}}
{{- $there = append $there .metadata.name -}}
{{- end -}}
{{- if not (has $name $there) -}}
{{- fail (printf "batch.kueue.priorityClass: this cluster has no WorkloadPriorityClass %q; %s" $name (ternary "there is none, see manifests/kueue" (printf "there are: %s" (join ", " $there)) (empty $there))) -}}
{{- end -}}
{{- end -}}
