{{/* The values that were given and have no effect, a line for each. */}}
{{- define "metallb.ignored" }}
{{- $places := dict
    "" (list "frrk8s" "frr-k8s" "psp")
    "prometheus" (list "rbacProxy" "secureMetricsPort")
    "speaker" (list "bgpDebounceTimeout" "frr" "frrMetrics" "initContainers" "reloader" "startupProbe")
}}
{{- range $place, $names := $places }}
{{- $values := ternary $.Values (index $.Values $place) (empty $place) }}
{{- range $names }}
{{- if index $values . }}
  {{ with $place }}{{ . }}.{{ end }}{{ . }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
