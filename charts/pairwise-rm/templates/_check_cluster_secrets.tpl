{{/* Checks of the secrets that the values name. */}}

{{/* Fails when a secret, or its key, is not there. Input: the root context. */}}
{{- define "pairwise-rm.checkSecrets" -}}
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
