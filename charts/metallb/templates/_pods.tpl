{{/* What the pods of controller and speaker have in common. */}}

{{/* Metadata of a pod: (list $ "speaker") */}}
{{- define "metallb.podMetadata" -}}
{{- $root := index . 0 }}
{{- $values := index $root.Values (index . 1) }}
{{- $annotations := $values.podAnnotations }}
{{- if and $root.Values.prometheus.scrapeAnnotations $root.Values.prometheus.metricsPort }}
{{- $port := $root.Values.prometheus.metricsPort | toString }}
{{- $scrape := dict "prometheus.io/scrape" "true" "prometheus.io/scheme" "https" "prometheus.io/port" $port }}
{{- $annotations = merge (dict) $annotations $scrape }}
{{- end -}}
{{- with $annotations -}}
annotations:
  {{- toYaml . | nindent 2 }}
{{ end -}}
labels:
  {{- include "metallb.selector" . | nindent 2 }}
  {{- with $values.labels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}

{{/* Where a pod runs: (list $values $tolerations) */}}
{{- define "metallb.placement" -}}
{{- $values := index . 0 -}}
nodeSelector:
  {{- merge (dict "kubernetes.io/os" "linux") $values.nodeSelector | toYaml | nindent 2 }}
{{- with $values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with index . 1 }}
tolerations:
  {{- toYaml . | nindent 0 }}
{{- end }}
{{- with $values.priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
{{- with $values.runtimeClassName }}
runtimeClassName: {{ . | quote }}
{{- end }}
{{- end }}

{{/* Image and program of a container: (list $ "speaker") */}}
{{- define "metallb.program" -}}
{{- $root := index . 0 }}
{{- $values := index $root.Values (index . 1) -}}
image: {{ printf "%s:%s" $values.image.repository (toString ($values.image.tag | default $root.Chart.AppVersion)) | quote }}
{{- with $values.image.pullPolicy }}
imagePullPolicy: {{ . }}
{{- end }}
{{- if $values.command }}
command: [{{ $values.command | quote }}]
{{- else }}
command: [/metallb, {{ index . 1 }}]
{{- end }}
{{- end }}

{{/* Arguments that both components take: (list $ "speaker" "name of the Secret with the certificate of the metrics") */}}
{{- define "metallb.arguments" -}}
{{- $root := index . 0 }}
{{- $values := index $root.Values (index . 1) -}}
- --port={{ $root.Values.prometheus.metricsPort }}
- --health-probe-port={{ $values.livenessProbe.port }}
- --log-level={{ $values.logLevel }}
{{- with $root.Values.loadBalancerClass }}
- --lb-class={{ . }}
{{- end }}
{{- with $root.Values.tls.minVersion }}
- --tls-min-version={{ . }}
{{- end }}
{{- with $root.Values.tls.cipherSuites }}
- --tls-cipher-suites={{ . }}
{{- end }}
{{- with $root.Values.tls.curvePreferences }}
- --tls-curve-preferences={{ . }}
{{- end }}
{{- if index . 2 }}
- --metrics-cert-dir=/etc/metrics
{{- end }}
{{- end }}

{{/* The probes of a component: (list $values "host, or empty for the pod's address") */}}
{{- define "metallb.probes" -}}
{{- $values := index . 0 -}}
{{- $host := index . 1 -}}
{{- range $kind, $path := dict "livenessProbe" "/healthz" "readinessProbe" "/readyz" -}}
{{- $probe := index $values $kind -}}
{{- if $probe.enabled -}}
{{ $kind }}:
  httpGet:
    {{- with $host }}
    host: {{ . }}
    {{- end }}
    path: {{ $path }}
    port: {{ $probe.port }}
  {{- omit $probe "enabled" "port" | toYaml | nindent 2 }}
{{ end }}
{{- end }}
{{- end }}
