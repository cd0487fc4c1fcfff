{{/* Checks of the policies against what else is asked for. */}}

{{/* Fails when the policies would keep Prometheus from what it is to scrape. Input: the root context. */}}
{{- define "pairwise-rm.checkNetworks" -}}
  {{- if and .Values.podMonitor.enabled .Values.networkPolicy.enabled (not .Values.networkPolicy.ingress.metrics) -}}
    {{- fail "podMonitor.enabled: true needs networkPolicy.ingress.metrics, the peers that may scrape, as [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: monitoring}}}]; without it every target would be down" -}}
  {{- end -}}
{{- end -}}
