{{/* Rights behind the metrics endpoint: who asks, and may they? */}}
{{- define "metallb.metricsRules" }}
{{- if .Values.prometheus.metricsPort }}
# Metrics: who asks, and may they?
- apiGroups: [authentication.k8s.io]
  resources: [tokenreviews]
  verbs: [create]
- apiGroups: [authorization.k8s.io]
  resources: [subjectaccessreviews]
  verbs: [create]
{{- end }}
{{- end }}
