{{/* The agent's configuration (Patroni's YAML). Passwords come from the environment. */}}

{{/* The parameters that must agree are read from the stored document alone. */}}
{{- define "pgwarden.controlled" -}}
max_connections max_wal_senders max_prepared_transactions max_locks_per_transaction max_worker_processes max_replication_slots track_commit_timestamp wal_log_hints wal_level hot_standby
{{- end }}

{{- define "pgwarden.parameters.stored" -}}
{{- $names := splitList " " (include "pgwarden.controlled" .) -}}
{{- $found := dict -}}
{{- range $name, $value := .Values.postgresql.parameters -}}
{{- if has (lower $name) $names }}{{ $_ := set $found (lower $name) $value }}{{ end -}}
{{- end -}}
{{- toJson $found -}}
{{- end }}

{{- define "pgwarden.parameters.local" -}}
{{- $names := splitList " " (include "pgwarden.controlled" .) -}}
{{- $found := dict "unix_socket_directories" "/run/postgresql" -}}
{{- range $name, $value := .Values.postgresql.parameters -}}
{{- if and (not (has (lower $name) $names)) (not (kindIs "invalid" $value)) }}{{ $_ := set $found (lower $name) $value }}{{ end -}}
{{- end -}}
{{- toJson $found -}}
{{- end }}

{{/* What the first member stores in Kubernetes. */}}
{{- define "pgwarden.dcs" -}}
ttl: {{ .Values.failover.ttl | int }}
loop_wait: 10
retry_timeout: 10
maximum_lag_on_failover: {{ .Values.failover.maximumLagOnFailover | int64 }}
primary_start_timeout: {{ .Values.failover.primaryStartTimeout | int }}
synchronous_mode: {{ eq (include "pgwarden.sync" .) "on" }}
postgresql:
  use_pg_rewind: true
  use_slots: true
  remove_data_directory_on_rewind_failure: {{ .Values.failover.reclone }}
  remove_data_directory_on_diverged_timelines: {{ .Values.failover.reclone }}
  parameters: {{ include "pgwarden.parameters.stored" . }}
{{- end }}

{{- define "pgwarden.restart" -}}
scope: {{ include "pgwarden.name" . }}
kubernetes:
  lock: lease
  labels:
    app.kubernetes.io/name: pgwarden
  scope_label: cluster-name
  role_label: role
  leader_label_value: primary
  follower_label_value: replica
  # The name is that of the leader Service's port: the route is found by it.
  ports:
    - name: postgresql
      port: 5432
restapi:
  listen: {{ printf "%s:8008" .Values.network.listen | quote }}
postgresql:
  listen: {{ printf "%s:5432" .Values.network.listen | quote }}
  # Below the volume's mount point: a clone is made beside it.
  data_dir: /var/lib/postgresql/data/pgroot
  bin_dir: /usr/lib/postgresql/{{ .Values.postgresql.major }}/bin
  pgpass: /run/postgresql/pgpass
  authentication:
    superuser:
      username: {{ .Values.auth.superuser.username | quote }}
    replication:
      username: {{ .Values.auth.replication.username | quote }}
  parameters:
    {{- include "pgwarden.parameters.local" . | fromJson | toYaml | nindent 4 }}
  pg_hba:
    {{- range .Values.postgresql.pgHba }}
    - {{ regexReplaceAll "\\bREPLICATION\\b" . (printf "%q" $.Values.auth.replication.username) | quote }}
    {{- end }}
  basebackup:
    - checkpoint: fast
log:
  type: {{ .Values.log.type }}
  level: {{ .Values.log.level }}
tags: {{ toJson .Values.tags }}
{{- end }}
