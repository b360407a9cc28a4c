{{/* The cluster's name: scope, leader Service, Lease, StatefulSet. */}}
{{- define "pgwarden.name" -}}
{{- .Values.fullnameOverride | default .Release.Name -}}
{{- end }}

{{/* What selects the pods: kubernetes.labels and the scope's label of the agent's configuration. */}}
{{- define "pgwarden.selector" -}}
app.kubernetes.io/name: pgwarden
cluster-name: {{ include "pgwarden.name" . | quote }}
{{- end }}

{{/* The chart's objects do not carry cluster-name: that label is on the pods, their volume claims and
what the agents made, so that these can be found after an uninstall. */}}
{{- define "pgwarden.labels" -}}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
app.kubernetes.io/name: pgwarden
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "pgwarden.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (include "pgwarden.name" .) -}}
{{- end }}

{{- define "pgwarden.secret" -}}
{{- .Values.auth.existingSecret | default (printf "%s-passwords" (include "pgwarden.name" .)) -}}
{{- end }}

{{- define "pgwarden.image" -}}
{{- $image := .Values.image -}}
{{- if $image.digest -}}
{{ $image.repository }}@{{ $image.digest }}
{{- else -}}
{{ $image.repository }}:{{ $image.tag | default (.Values.postgresql.major | toString) }}
{{- end -}}
{{- end }}

{{/* on or off: YAML reads the bare words as booleans. */}}
{{- define "pgwarden.sync" -}}
{{- $mode := .Values.failover.synchronousMode | toString -}}
{{- if has $mode (list "on" "true") -}}on{{- else if has $mode (list "off" "false") -}}off{{- else -}}{{ $mode }}{{- end -}}
{{- end }}
