{{/* What PodMonitors and ServiceMonitors have in common. */}}

{{/* Metadata of a monitor: (list $ "speaker" "name" $additionalLabels $annotations) */}}
{{- define "metallb.monitorMetadata" -}}
{{- $root := index . 0 -}}
name: {{ include "metallb.object" (list $root (index . 2)) }}
namespace: {{ $root.Release.Namespace }}
labels:
  {{- include "metallb.labels" (list $root (index . 1)) | nindent 2 }}
  {{- with index . 3 }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with index . 4 }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* How metrics are read: (list $monitor $tlsConfig) */}}
{{- define "metallb.endpoint" -}}
{{- $monitor := index . 0 -}}
port: metricshttps
path: /metrics
scheme: https
honorLabels: true
{{- with $monitor.interval }}
interval: {{ . }}
{{- end }}
{{- with index . 1 }}
tlsConfig:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $monitor.metricRelabelings }}
metricRelabelings:
{{- toYaml . | nindent 0 }}
{{- end }}
{{- with $monitor.relabelings }}
relabelings:
{{- toYaml . | nindent 0 }}
{{- end }}
{{- end }}

{{/* The right to read metrics: (list $ "service account" "its namespace") */}}
{{- define "metallb.metricsReader" }}
{{- $root := index . 0 }}
{{- $name := include "metallb.clusterObject" (list $root "metrics-reader") }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata:
  name: {{ $name }}
  labels:
    {{- include "metallb.labels" (list $root) | nindent 4 }}
rules:
- nonResourceURLs: [/metrics]
  verbs: [get]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata:
  name: {{ $name }}
  labels:
    {{- include "metallb.labels" (list $root) | nindent 4 }}
subjects:
- kind: ServiceAccount
  name: {{ index . 1 }}
  namespace: {{ index . 2 }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: ClusterRole
  name: {{ $name }}
{{- end }}

{{/* The right of Prometheus to find what it reads. */}}
{{- define "metallb.prometheusRole" }}
{{- if .Values.prometheus.rbacPrometheus }}
{{- $name := include "metallb.object" (list . "prometheus") }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata:
  name: {{ $name }}
  namespace: {{ .Release.Namespace }}
  labels:
    {{- include "metallb.labels" (list .) | nindent 4 }}
rules:
- apiGroups: [""]
  resources: [pods, services, endpoints]
  verbs: [get, list, watch]
- apiGroups: [discovery.k8s.io]
  resources: [endpointslices]
  verbs: [get, list, watch]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata:
  name: {{ $name }}
  namespace: {{ .Release.Namespace }}
  labels:
    {{- include "metallb.labels" (list .) | nindent 4 }}
subjects:
- kind: ServiceAccount
  name: {{ .Values.prometheus.serviceAccount }}
  namespace: {{ .Values.prometheus.namespace }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: Role
  name: {{ $name }}
{{- end }}
{{- end }}
