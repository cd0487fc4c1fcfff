{{/*
What runs: the merged recipe, cut into one file for each stage, so that a change touches only the stages that it
shapes. Convert checks what training needs, so it runs again, and finds its pairs. A stage's digest is the SHA-256 of its file; folders and RayJobs are named by such hashes.
*/}}

{{/*
Sets `over` in `base`, nested, and gives nothing. sprig's merges take false, 0, "" and null for "not given".
Inputs: base, which is changed; over.
*/}}
{{- define "pairwise-rm.merge" -}}
{{- $base := .base -}}
{{- range $key, $value := .over -}}
{{- $below := get $base $key -}}
{{- if and (kindIs "map" $value) (kindIs "map" $below) -}}
{{- include "pairwise-rm.merge" (dict "base" $below "over" $value) -}}
{{- else -}}
{{- $_ := set $base $key $value -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Eight digits that tell values apart. Input: the value. */}}
{{- define "pairwise-rm.hash" -}}
{{- toJson . | sha256sum | trunc 8 -}}
{{- end -}}

{{/* The whole recipe as JSON. Fails where it is not given as it must be. Input: the root context. */}}
{{- define "pairwise-rm.recipe" -}}
{{- $given := .Values.recipe -}}
{{- $recipe := dict -}}
{{- if $given.inline -}}
{{- if $given.name -}}
{{- fail (printf "recipe.name: %q and recipe.inline exclude each other; set recipe.name to \"\"" $given.name) -}}
{{- end -}}
{{- if $given.overrides -}}
{{- fail "recipe.overrides: goes with recipe.name; write the keys into recipe.inline" -}}
{{- end -}}
{{- $recipe = .Files.Get "recipes/defaults.yaml" | fromYaml -}}
{{- if dig "data" "export" "" $given.inline -}}
{{- /* The default split is that of a recipe which says nothing about the export. */ -}}
{{- $_ := set $recipe.data.export "split" nil -}}
{{- end -}}
{{- include "pairwise-rm.merge" (dict "base" $recipe "over" (deepCopy $given.inline)) -}}
{{- else -}}
{{- $known := list -}}
{{- range $path, $_ := .Files.Glob "recipes/*.yaml" -}}
{{- $name := base $path | trimSuffix ".yaml" -}}
{{- if not (has $name (list "defaults" "continues")) -}}{{- $known = append $known $name -}}{{- end -}}
{{- end -}}
{{- if not (has $given.name $known) -}}
{{- fail (printf "recipe.name: expected one of %s, got %q; or give a whole recipe as recipe.inline" (join ", " $known) $given.name) -}}
{{- end -}}
{{- $recipe = .Files.Get (printf "recipes/%s.yaml" $given.name) | fromYaml -}}
{{- include "pairwise-rm.merge" (dict "base" $recipe "over" (deepCopy $given.overrides)) -}}
{{- end -}}
{{- if $recipe.output_dir -}}
{{- fail (printf "recipe output_dir: %q; the chart sets it, below the claim of storage.runs" $recipe.output_dir) -}}
{{- end -}}
{{- if $recipe.data.export.output_dir -}}
{{- fail (printf "recipe data.export.output_dir: %q; the chart sets it, below the claim of storage.data" $recipe.data.export.output_dir) -}}
{{- end -}}
{{- $model := $recipe.model -}}
{{- $source := $recipe.data.configs -}}
{{- if and $model.make (not (isAbs $model.path)) -}}
{{- /* A model that is made lies in the cache, and so do the pairs that are made with it. */ -}}
{{- $made := printf "/mnt/cache/models/%s-%d" $model.make (int $recipe.seed) -}}
{{- if and (kindIs "string" $source.path) (hasPrefix (printf "%s/" $model.path) $source.path) -}}
{{- $_ := set $source "path" (printf "%s/%s" $made (trimPrefix (printf "%s/" $model.path) $source.path)) -}}
{{- end -}}
{{- $_ := set $model "path" $made -}}
{{- end -}}
{{- $files := $recipe.data.files -}}
{{- if $files -}}
{{- range $key := list "train" "test" -}}
{{- if not (isAbs (get $files $key)) -}}
{{- fail (printf "recipe data.files.%s: %q is relative; give a path below /mnt/data, the claim of storage.data" $key (get $files $key)) -}}
{{- end -}}
{{- end -}}
{{- else if eq $source.type "local" -}}
{{- range $key := list "path" "test_path" -}}
{{- $given := get $source $key -}}
{{- range $place := ternary $given (list ($given | default "")) (kindIs "slice" $given) -}}
{{- if and (or $given (eq $key "path")) (not (isAbs $place)) -}}
{{- fail (printf "recipe data.configs.%s: %q is relative; give a path below /mnt/data, the claim of storage.data" $key $place) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- with $recipe.reward.function -}}
{{- range $option := list "invalid_penalty" "tie_credit" "weight_by_strength" -}}
{{- if get $recipe.reward $option -}}
{{- fail (printf "recipe reward: %s does nothing beside function, which gives the whole reward; keep one" $option) -}}
{{- end -}}
{{- end -}}
{{- if not (or (hasSuffix ".py" .path) (hasPrefix "pkg://" .path)) -}}
{{- fail (printf "recipe reward.function.path: expected a .py file, or pkg:// and a module, got %q" .path) -}}
{{- else if not (or (isAbs .path) (hasPrefix "pkg://" .path)) -}}
{{- fail (printf "recipe reward.function.path: %q is relative; give a path that all pods have, such as below /mnt/data, or pkg:// and a module of the image" .path) -}}
{{- end -}}
{{- end -}}
{{- toJson $recipe -}}
{{- end -}}

{{/*
{name, device, train, evaluate, runFolder, dataFolder, stages: {<stage>: {content, digest}}} as JSON.
Input: the root context.
*/}}
{{- define "pairwise-rm.plan" -}}
{{- $recipe := include "pairwise-rm.recipe" . | fromJson -}}
{{- $convert := pick $recipe "name" "data" -}}
{{- /* Pairs have nothing to do with a model, unless they are made with one. */ -}}
{{- if $recipe.model.make -}}
{{- $_ := set $convert "seed" $recipe.seed -}}
{{- $_ := set $convert "model" (pick $recipe.model "path" "make") -}}
{{- else -}}
{{- $_ := set $convert "model" (dict "path" "-") -}}
{{- end -}}
{{- $identity := deepCopy (pick $recipe "name" "device" "seed" "model" "data" "prompt" "train" "reward") -}}
{{- range (.Files.Get "recipes/continues.yaml" | fromYaml).keys -}}
{{- $parts := splitList "." . -}}
{{- if eq (len $parts) 1 -}}
{{- $_ := unset $identity . -}}
{{- else -}}
{{- $_ := unset (get $identity (first $parts)) (last $parts) -}}
{{- end -}}
{{- end -}}
{{- $dataFolder := printf "/mnt/data/%s/%s" .Release.Name (include "pairwise-rm.hash" $convert) -}}
{{- $runFolder := printf "/mnt/runs/%s/%s-%s" .Release.Name $recipe.name (include "pairwise-rm.hash" $identity) -}}
{{- $_ := set $recipe.data.export "output_dir" $dataFolder -}}
{{- $_ := set $recipe "output_dir" $runFolder -}}
{{- $train := pick $recipe "name" "device" "seed" "output_dir" "model" "data" "prompt" "train" "reward" -}}
{{- /* Convert checks, without a GPU, what training will need; it writes nothing into the run folder. */ -}}
{{- $files := dict
      "convert" (omit $train "output_dir")
      "train" $train
      "evaluate" (merge (pick $recipe "evaluate") $train)
      "export" (merge (pick $recipe "export") $train) -}}
{{- $stages := dict -}}
{{- range $stage, $file := $files -}}
{{- $content := printf "%s\n" (toYaml $file) -}}
{{- $_ := set $stages $stage (dict "content" $content "digest" (sha256sum $content | trunc 12)) -}}
{{- end -}}
{{- toJson (dict "name" $recipe.name "device" $recipe.device "train" $recipe.train "evaluate" $recipe.evaluate
      "runFolder" $runFolder "dataFolder" $dataFolder "stages" $stages) -}}
{{- end -}}
