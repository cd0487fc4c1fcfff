{{/* Checks of the service account that the values name. */}}

{{/* Fails when it is not there: no pod would be made. Input: the root context. */}}
{{- define "pairwise-rm.checkServiceAccount" -}}
  {{- $account := .Values.serviceAccount -}}
  {{- if and $account.name (not $account.create) (not (lookup "v1" "ServiceAccount" .Release.Namespace $account.name)) -}}
    {{- fail (printf "serviceAccount.name: namespace %s has no service account %q; name one that is there, or set serviceAccount.create=true" .Release.Namespace $account.name) -}}
  {{- end -}}
{{- end -}}
