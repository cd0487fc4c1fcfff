{{/* The stages in their order, as JSON. Written by `make chart` from the package. Inputs: none. */}}
{{- define "pairwise-rm.stages" -}}
["convert", "train", "evaluate", "export"]
{{- end -}}
