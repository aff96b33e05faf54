{{/* Values that cannot be right. What a schema can say is in values.schema.json; what is left, with what to do, is here. */}}

{{- define "metallb.checks" -}}
{{- if hasKey .Values "configInline" }}
{{- fail "configInline: MetalLB is configured by objects of metallb.io. hint: remove it, and apply IPAddressPool, L2Advertisement and BGPAdvertisement objects after the installation" }}
{{- end }}
{{- range $old := list "controllerMetricsTLSSecret" "speakerMetricsTLSSecret" }}
{{- if index $.Values.prometheus $old }}
{{- fail (printf "prometheus.%s has moved. hint: set tls.%s" $old $old) }}
{{- end }}
{{- end }}
{{- if and .Values.prometheus.podMonitor.enabled .Values.prometheus.serviceMonitor.enabled }}
{{- fail "prometheus.podMonitor.enabled and prometheus.serviceMonitor.enabled: every pod would be scraped twice. hint: enable one of them" }}
{{- end }}
{{- if or .Values.prometheus.podMonitor.enabled .Values.prometheus.serviceMonitor.enabled }}
{{- if not .Values.prometheus.metricsPort }}
{{- fail "prometheus.metricsPort is 0, so that there is nothing to monitor. hint: set the port, or disable the monitors" }}
{{- end }}
{{- range $needed := list "serviceAccount" "namespace" }}
{{- if and $.Values.prometheus.rbacPrometheus (not (index $.Values.prometheus $needed)) }}
{{- fail (printf "prometheus.%s must be set where Prometheus is given the right to find the pods. hint: name the service account of Prometheus and its namespace, or set prometheus.rbacPrometheus to false" $needed) }}
{{- end }}
{{- end }}
{{- end }}
{{- if and .Values.speaker.nodeSelector (not .Values.speaker.memberlist.enabled) }}
{{- fail "speaker.nodeSelector with speaker.memberlist.enabled=false: without memberlist each speaker believes that there is one on every node, and addresses of nodes without one are announced by nobody. hint: enable memberlist, or remove the node selector" }}
{{- end }}
{{- range $component := list "controller" "speaker" }}
{{- with index $.Values $component }}
{{- if and .livenessProbe.enabled .readinessProbe.enabled (ne (int .livenessProbe.port) (int .readinessProbe.port)) }}
{{- fail (printf "%s.livenessProbe.port and %s.readinessProbe.port differ, but one port serves both. hint: set both to the same number" $component $component) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
