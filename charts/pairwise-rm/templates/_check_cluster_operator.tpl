{{/* Checks of the KubeRay operator that the policies let in. */}}

{{/*
Fails when the policies would keep the operator from the dashboard: it would never learn how a stage stands.
Input: the root context.
*/}}
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
