{{/*
What can be known from the values alone. Each refusal is one sentence that names the value; types, enums and unknown
keys are refused by values.schema.json before.
*/}}

{{- define "pairwise-rm.validate" -}}
{{- include "pairwise-rm.validateNames" . -}}
{{- include "pairwise-rm.validateMode" . -}}
{{- include "pairwise-rm.validateRecipe" . -}}
{{- include "pairwise-rm.validateStages" . -}}
{{- include "pairwise-rm.validatePools" . -}}
{{- include "pairwise-rm.validateStorage" . -}}
{{- include "pairwise-rm.validateCapacity" . -}}
{{- include "pairwise-rm.validateVariables" . -}}
{{- end -}}

{{- define "pairwise-rm.validateNames" -}}
{{- $name := include "pairwise-rm.fullname" . -}}
{{- $value := ternary "fullnameOverride" "the release's name" (not (empty .Values.fullnameOverride)) -}}
{{- /* A RayJob's name takes 18 more, and KubeRay allows it 47. */ -}}
{{- if gt (len $name) 29 -}}
{{- fail (printf "%s: %q has %d characters, at most 29 are allowed; set fullnameOverride" $value $name (len $name)) -}}
{{- end -}}
{{- if not (regexMatch "^[a-z]([-a-z0-9]*[a-z0-9])?$" $name) -}}
{{- fail (printf "%s: %q must begin with a letter and hold only a-z, 0-9 and -; set fullnameOverride" $value $name) -}}
{{- end -}}
{{- if semverCompare "<2.53.0-0" .Values.rayVersion -}}
{{- fail (printf "rayVersion: %s is too old; 2.53.0 or later is needed, for token authentication and the health check" .Values.rayVersion) -}}
{{- end -}}
{{- if and .Values.priorityClass.create (not .Values.priorityClass.name) -}}
{{- fail "priorityClass.name: is missing; priorityClass.create makes a class of this name" -}}
{{- end -}}
{{- end -}}

{{- define "pairwise-rm.validateMode" -}}
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
{{- if and $batch.deletionRules $batch.shutdownAfterJobFinishes -}}
{{- fail "batch.deletionRules: excludes batch.shutdownAfterJobFinishes; set that to false" -}}
{{- end -}}
{{- if and $batch.ttlSecondsAfterFinished (not $batch.shutdownAfterJobFinishes) -}}
{{- fail (printf "batch.ttlSecondsAfterFinished: %v needs batch.shutdownAfterJobFinishes=true; deletionRules have ttlSeconds of their own" $batch.ttlSecondsAfterFinished) -}}
{{- end -}}
{{- if and $batch.suspend (not $batch.shutdownAfterJobFinishes) -}}
{{- fail "batch.suspend: true needs batch.shutdownAfterJobFinishes=true" -}}
{{- end -}}
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
{{- if and $batch.kueue.elastic (not (and $batch.kueue.queueName .Values.autoscaling.enabled)) -}}
{{- fail "batch.kueue.elastic: true goes with batch.kueue.queueName and autoscaling.enabled=true, whose workers Kueue admits one by one" -}}
{{- end -}}
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
{{- if and .Values.autoscaling.enabled (not $batch.kueue.elastic) -}}
{{- fail "batch.kueue.queueName: Kueue reserves whole clusters; set autoscaling.enabled=false, or batch.kueue.elastic=true where it has the gate ElasticJobsViaWorkloadSlices" -}}
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

{{/* What the package checks across keys, which a schema cannot; the stage would say it after the pairs are converted. */}}
{{- define "pairwise-rm.validateRecipe" -}}
{{- $recipe := include "pairwise-rm.recipe" . | fromJson -}}
{{- $train := $recipe.train -}}
{{- $export := $recipe.data.export -}}
{{- if and $export.split $export.split_ratio -}}
{{- fail "recipe data.export: split and split_ratio exclude each other; set the other one to null" -}}
{{- end -}}
{{- with $export.split_ratio -}}
{{- if ne (round (addf (.train | default 0) (.test | default 0)) 6) 1.0 -}}
{{- fail (printf "recipe data.export.split_ratio: train + test must be 1, got %v + %v" (.train | default 0) (.test | default 0)) -}}
{{- end -}}
{{- end -}}
{{- if and (has "wandb" $train.loggers) (not .Values.secrets.wandb.existingSecret) -}}
{{- $names := list -}}
{{- range concat .Values.extraEnv .Values.head.env -}}{{- $names = append $names .name -}}{{- end -}}
{{- if not (or (has "WANDB_API_KEY" $names) (has "WANDB_MODE" $names)) -}}
{{- fail "secrets.wandb.existingSecret: is empty, and the recipe logs to W&B (train.loggers); name a secret, or set WANDB_MODE=offline in extraEnv" -}}
{{- end -}}
{{- end -}}
{{- if and (eq $recipe.device "cpu") (eq $recipe.model.attention "flash_attention_2") -}}
{{- fail "recipe model.attention: flash_attention_2 needs a GPU; use sdpa with device: cpu" -}}
{{- end -}}
{{- if and (eq $recipe.device "cpu") (gt (int $train.tensor_parallel) 1) -}}
{{- fail "recipe train.tensor_parallel: must be 1 with device: cpu" -}}
{{- end -}}
{{- $gpus := mul $train.nodes $train.gpus_per_node | int -}}
{{- if mod $gpus (int $train.tensor_parallel) -}}
{{- fail (printf "recipe train.tensor_parallel: %v must divide the %d GPUs (nodes x gpus_per_node)" $train.tensor_parallel $gpus) -}}
{{- end -}}
{{- if mod (int $train.batch_size) (int $train.mini_batch_size) -}}
{{- fail (printf "recipe train.batch_size: must be a multiple of train.mini_batch_size %v, got %v" $train.mini_batch_size $train.batch_size) -}}
{{- end -}}
{{- range $key := list "batch_size" "mini_batch_size" -}}
{{- if mod (mul (get $train $key) $train.rollouts) $gpus -}}
{{- fail (printf "recipe train.%s: %v x %v rollouts must be a multiple of %d GPUs" $key (get $train $key) $train.rollouts $gpus) -}}
{{- end -}}
{{- end -}}
{{- $samples := div (mul $train.mini_batch_size $train.rollouts) $gpus -}}
{{- if mod $samples (int $train.micro_batch_size_per_gpu) -}}
{{- fail (printf "recipe train.micro_batch_size_per_gpu: must divide the %d samples that a GPU has of a mini-batch, got %v" $samples $train.micro_batch_size_per_gpu) -}}
{{- end -}}
{{- $samples = div (mul $train.batch_size $train.rollouts) $gpus -}}
{{- $logProb := $train.log_prob_micro_batch_size_per_gpu | default $train.micro_batch_size_per_gpu -}}
{{- if mod $samples (int $logProb) -}}
{{- fail (printf "recipe train.log_prob_micro_batch_size_per_gpu: must divide the %d samples of a GPU, got %v" $samples $logProb) -}}
{{- end -}}
{{- end -}}

{{/* The API server refuses a variable that is there twice, under a path that no value has. */}}
{{- define "pairwise-rm.validateVariables" -}}
{{- $shared := include "pairwise-rm.env" . | fromYamlArray -}}
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

{{- define "pairwise-rm.validateStages" -}}
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
{{- range $other := list "convert" "train" "evaluate" "export" -}}
{{- if has $other $own -}}{{- $begun = ne $other $stage -}}
{{- else if and $begun (get $stages $other).enabled -}}
{{- fail (printf "stages.%s.first: %s runs in between, in a RayJob of its own; list it too, with stages.%s.enabled=false" $stage $other $other) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and $given.enabled (eq $.Values.mode "ephemeral") (not $.Values.autoscaling.enabled) -}}
{{- with include "pairwise-rm.after" (dict "root" $ "plan" $plan "stage" $stage) -}}
{{- $waits := first (splitList "=" .) -}}
{{- fail (printf "stages.%s: its cluster would hold GPUs while it waits for %s; list the earlier stages in stages.%s.first, or set autoscaling.enabled=true" $stage $waits $stage) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "pairwise-rm.validatePools" -}}
{{- $pools := include "pairwise-rm.pools" . | fromJson -}}
{{- if not $pools -}}
{{- fail "pools: there is none; the stages need Ray workers, so name at least one" -}}
{{- end -}}
{{- range $name, $pool := $pools -}}
{{- if and $.Values.autoscaling.enabled (gt $pool.minReplicas $pool.maxReplicas) -}}
{{- fail (printf "pools.%s.minReplicas: %v is more than maxReplicas, %v" $name $pool.minReplicas $pool.maxReplicas) -}}
{{- end -}}
{{- if and (eq $pool.platform "none") (ne $pool.gpuProduct "none") -}}
{{- fail (printf "pools.%s.gpuProduct: %s needs a platform to know the label; set platform, or nodeSelector with gpuProduct=none" $name $pool.gpuProduct) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* A volume of one node holds all pods there, and its first pod, the head, chooses which. */}}
{{- define "pairwise-rm.validateStorage" -}}
{{- range $volume := list "data" "runs" "cache" -}}
{{- $given := get $.Values.storage $volume -}}
{{- if and (not $given.existingClaim) (eq $given.accessMode "ReadWriteOnce") (ne $.Values.head.gpuNodes "allow") (not $.Values.head.affinity) -}}
{{- fail (printf "storage.%s.accessMode: ReadWriteOnce holds all pods on one node, and head.gpuNodes=%s sends the head to another; set ReadWriteMany, or head.gpuNodes=allow where there is one node" $volume $.Values.head.gpuNodes) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Whether the pools can give what the recipe takes: verl waits for ever for Ray CPUs that will never be there. */}}
{{- define "pairwise-rm.validateCapacity" -}}
{{- $plan := include "pairwise-rm.plan" . | fromJson -}}
{{- $pools := include "pairwise-rm.pools" . | fromJson -}}
{{- $most := ternary "maxReplicas" "replicas" .Values.autoscaling.enabled -}}
{{- $stages := include "pairwise-rm.stagesThatRun" . | fromJsonArray -}}
{{- if has "train" $stages -}}
{{- $nodes := int $plan.train.nodes -}}
{{- $gpus := int $plan.train.gpus_per_node -}}
{{- $all := mul $nodes $gpus -}}
{{- $cpus := add (mul 3 $all) (max 2 (min 8 $all)) 3 -}}
{{- $there := 0 -}}
{{- range $name, $pool := $pools -}}
{{- if ge (int $pool.gpus) $gpus -}}
{{- $there = add $there $pool.most -}}
{{- if and $pool.most (lt (mul $nodes $pool.rayCpus) $cpus) -}}
{{- fail (printf "pools.%s.rayCpus: %v is too few; verl takes %d Ray CPUs on %d pods for %d GPUs, so set at least %v" $name $pool.rayCpus $cpus $nodes $all (ceil (divf $cpus $nodes))) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if lt (int $there) $nodes -}}
{{- fail (printf "recipe train.nodes x train.gpus_per_node: %d pods with %d GPUs wanted, the pools give %d such; raise pools.<name>.gpus or %s, or take another recipe" $nodes $gpus $there $most) -}}
{{- end -}}
{{- end -}}
{{- if has "evaluate" $stages -}}
{{- $replicas := int $plan.evaluate.replicas -}}
{{- $gpus := int $plan.evaluate.tensor_parallel -}}
{{- $there := 0 -}}
{{- range $pools -}}
{{- $there = add $there (mul .most (div .gpus $gpus)) -}}
{{- end -}}
{{- if lt (int $there) $replicas -}}
{{- fail (printf "recipe evaluate.replicas x evaluate.tensor_parallel: %d engines with %d GPUs on one pod wanted, the pools have room for %d; raise pools.<name>.gpus or %s, or lower evaluate.replicas" $replicas $gpus $there $most) -}}
{{- end -}}
{{- end -}}
{{- if eq $plan.device "cuda" -}}
{{- range $name, $pool := $pools -}}
{{- if and $pool.gpus (not $pool.gpuResource) -}}
{{- fail (printf "pools.%s.gpuResource: is empty, so its GPUs are only counted; the recipe %s has device: cuda and needs nvidia.com/gpu" $name $plan.name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
