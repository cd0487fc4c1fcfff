{{/* Checks of claims and storage classes. */}}

{{/* Fails when a claim is missing, too small, or another release's. Input: the root context. */}}
{{- define "pairwise-rm.checkClaims" -}}
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

{{/* Bytes of a quantity. Input: the quantity, as text or number. */}}
{{- define "pairwise-rm.bytes" -}}
  {{- $text := toString . -}}
  {{- $number := regexFind "^[0-9.]+" $text | float64 -}}
  {{- $unit := trimPrefix (regexFind "^[0-9.]+" $text) $text -}}
  {{- $units := dict "" 1 "k" 1e3 "M" 1e6 "G" 1e9 "T" 1e12 "P" 1e15 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 "Pi" 1125899906842624 -}}
  {{- mulf $number (get $units $unit) -}}
{{- end -}}

{{/* Fails when a storage class is missing, or a claim cannot become what is wanted of it. Input: the root context. */}}
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
