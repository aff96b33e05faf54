{{/*
Names and labels. They are those of the Go implementation's chart, so that a release of it can be upgraded to this one:
selectors of a Deployment and a DaemonSet can never be changed.
*/}}

{{- define "metallb.name" -}}
{{ .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "metallb.fullname" -}}
{{- $name := .Values.nameOverride | default .Chart.Name }}
{{- $derived := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) }}
{{- .Values.fullnameOverride | default $derived | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* The name of an object: (list $ "controller") */}}
{{- define "metallb.object" -}}
{{- $root := index . 0 }}
{{- if eq $root.Values.naming "chart" }}{{ include "metallb.fullname" $root }}-{{ end }}{{ index . 1 }}
{{- end }}

{{/* The name of an object of the whole cluster: (list $ "controller") */}}
{{- define "metallb.clusterObject" -}}
{{- $root := index . 0 }}
{{- if eq $root.Values.naming "chart" }}{{ include "metallb.fullname" $root }}{{ else }}{{ $root.Release.Namespace }}{{ end }}:{{ index . 1 }}
{{- end }}

{{/* What the pods of a component are found by: (list $ "speaker") */}}
{{- define "metallb.selector" -}}
{{- $root := index . 0 }}
{{- if eq $root.Values.naming "chart" -}}
app.kubernetes.io/name: {{ include "metallb.name" $root }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- else -}}
app: metallb
component: {{ index . 1 }}
{{- end }}
{{- end }}

{{/* Labels of an object: (list $), or (list $ "speaker") where it belongs to one component alone */}}
{{- define "metallb.labels" -}}
{{- $root := index . 0 }}
{{- if eq $root.Values.naming "chart" -}}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/name: {{ include "metallb.name" $root }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
{{- with rest . }}
app.kubernetes.io/component: {{ first . }}
{{- end }}
{{- else -}}
app: metallb
{{- with rest . }}
component: {{ first . }}
{{- end }}
{{- end }}
{{- end }}

{{/* The service account of a component: (list $ "speaker") */}}
{{- define "metallb.serviceAccount" -}}
{{- $root := index . 0 }}
{{- $account := (index $root.Values (index . 1)).serviceAccount }}
{{- $account.name | default (ternary (include "metallb.object" .) "default" $account.create) }}
{{- end }}

{{- define "metallb.memberlistSecret" -}}
{{ .Values.speaker.secretName | default (include "metallb.object" (list . "memberlist")) | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* "yes" where the controller answers admission reviews */}}
{{- define "metallb.hasWebhooks" -}}
{{- if and .Values.controller.enabled (ne .Values.controller.webhookMode "disabled") }}yes{{ end }}
{{- end }}

{{/* "yes" where the speakers talk to each other */}}
{{- define "metallb.hasMemberlist" -}}
{{- if and .Values.speaker.enabled .Values.speaker.memberlist.enabled }}yes{{ end }}
{{- end }}
