{{/* Combinations that cannot work, each refused with a sentence: the field, what was found, what
would be right. What one value alone can get wrong is in values.schema.json. */}}
{{- define "pgwarden.checks" -}}
{{- include "pgwarden.checks.name" . -}}
{{- include "pgwarden.checks.members" . -}}
{{- include "pgwarden.checks.failover" . -}}
{{- include "pgwarden.checks.auth" . -}}
{{- include "pgwarden.checks.data" . -}}
{{- include "pgwarden.checks.ownership" . -}}
{{- end }}

{{- define "pgwarden.checks.name" -}}
{{- $name := include "pgwarden.name" . -}}
{{- $field := ternary "fullnameOverride" "the release's name" (ne .Values.fullnameOverride "") -}}
{{- if gt (len $name) 40 }}
{{- fail (printf "%s: found %q, which has %d characters; expected at most 40, because pods, slots and labels are named after it" $field $name (len $name)) }}
{{- end }}
{{- if not (regexMatch "^[a-z]([-a-z0-9]*[a-z0-9])?$" $name) }}
{{- fail (printf "%s: found %q; expected lower-case letters, digits and -, beginning with a letter and not ending with -, as orders-db" $field $name) }}
{{- end }}
{{- if has $name (list "y" "n" "yes" "no" "on" "off" "true" "false" "null") }}
{{- fail (printf "%s: found %q, which YAML does not read as a text; expected another name, as orders-db" $field $name) }}
{{- end }}
{{- if or (hasSuffix "-repl" $name) (hasSuffix "-pods" $name) }}
{{- fail (printf "%s: found %q; expected a name that does not end with -repl or -pods, which are the Services of the install without that ending" $field $name) }}
{{- end }}
{{- end }}

{{- define "pgwarden.checks.members" -}}
{{- $v := .Values -}}
{{- $replicas := int $v.replicas -}}
{{- if and $v.rbac.create (gt $replicas (int $v.rbac.maxMembers)) }}
{{- fail (printf "replicas: found %d, but rbac.maxMembers is %d and the pods above it could not publish themselves; expected at most %d, or a greater rbac.maxMembers" $replicas (int $v.rbac.maxMembers) (int $v.rbac.maxMembers)) }}
{{- end }}
{{- $budget := int $v.podDisruptionBudget.maxUnavailable -}}
{{- if and $v.podDisruptionBudget.enabled (lt $budget 1) }}
{{- fail (printf "podDisruptionBudget.maxUnavailable: found %d, with which no node could ever be drained; expected 1, or podDisruptionBudget.enabled: false" $budget) }}
{{- end }}
{{- if and $v.podDisruptionBudget.enabled (gt $replicas 1) (ge $budget $replicas) }}
{{- fail (printf "podDisruptionBudget.maxUnavailable: found %d with replicas: %d, with which a drain may evict all members at once; expected 1 to %d" $budget $replicas (sub $replicas 1)) }}
{{- end }}
{{- if and (not $v.serviceAccount.create) (not $v.serviceAccount.name) }}
{{- fail "serviceAccount.name: found nothing with serviceAccount.create: false; expected the name of an account that is there" }}
{{- end }}
{{- $grace := int $v.terminationGracePeriodSeconds -}}
{{- if lt $grace 30 }}
{{- fail (printf "terminationGracePeriodSeconds: found %d; expected at least 30: a primary that is killed before it has handed over costs a whole TTL instead of a moment" $grace) }}
{{- end }}
{{- end }}

{{- define "pgwarden.checks.failover" -}}
{{- $v := .Values -}}
{{- $mode := include "pgwarden.sync" . -}}
{{- if and (eq $mode "strict") (lt (int $v.replicas) 2) }}
{{- fail (printf "failover.synchronousMode: found strict with replicas: %d, where no commit would ever end; expected on, and replicas: 2 or more for a standby" (int $v.replicas)) }}
{{- end }}
{{- if has $mode (list "strict" "quorum") }}
{{- fail (printf "failover.synchronousMode: found %s, which pgwarden does not support yet; expected on (one standby confirms every commit while there is one) or off" $mode) }}
{{- end }}
{{- if not (has $mode (list "on" "off")) }}
{{- fail (printf "failover.synchronousMode: found %q; expected on or off" $mode) }}
{{- end }}
{{- $ttl := int64 $v.failover.ttl -}}
{{- if lt $ttl 6 }}
{{- fail (printf "failover.ttl: found %d s; expected at least 6: below that a primary cannot be killed for certain before another member may start (G2) and yet live through one slow answer of the API server" $ttl) }}
{{- end }}
{{- if gt $ttl 3600 }}
{{- fail (printf "failover.ttl: found %d s; expected at most 3600: it is in seconds" $ttl) }}
{{- end }}
{{- end }}

{{- define "pgwarden.checks.auth" -}}
{{- $auth := .Values.auth -}}
{{- if $auth.existingSecret }}
{{- range $who := list "superuser" "replication" "restapi" }}
{{- if (get $auth $who).password }}
{{- fail (printf "auth.%s.password: found one beside auth.existingSecret %q, which has them all; expected one or the other" $who $auth.existingSecret) }}
{{- end }}
{{- end }}
{{- end }}
{{- if eq $auth.superuser.username $auth.replication.username }}
{{- fail (printf "auth.replication.username: found %q, which is the superuser's; expected a role of its own, as replicator" $auth.replication.username) }}
{{- end }}
{{- end }}

{{- define "pgwarden.checks.data" -}}
{{- range $mode := .Values.persistence.accessModes }}
{{- if not (has $mode (list "ReadWriteOncePod" "ReadWriteOnce")) }}
{{- fail (printf "persistence.accessModes: found %s; expected ReadWriteOncePod or ReadWriteOnce: nothing but the volume keeps two nodes from writing one data directory" $mode) }}
{{- end }}
{{- end }}
{{- $owned := list "listen_addresses" "port" "cluster_name" "data_directory" "config_file" "hba_file" "ident_file" "primary_conninfo" "primary_slot_name" "synchronous_standby_names" "unix_socket_directories" "hot_standby" -}}
{{- range $name, $_ := .Values.postgresql.parameters }}
{{- if has $name $owned }}
{{- fail (printf "postgresql.parameters.%s: pgwarden sets it itself; remove it" $name) }}
{{- end }}
{{- end }}
{{- end }}

{{/* What objects of the chart and the agent must agree on has one place. */}}
{{- define "pgwarden.checks.ownership" -}}
{{- $elsewhere := dict "scope" "fullnameOverride" "name" "no value: it is the pod's" "kubernetes" "no value: the Services and the Role depend on it" "restapi" "network.listen and auth.restapi" "log" "log" "tags" "tags" "pgwarden" "failover.ttl, from which its instants follow; by hand they could let an old primary write beside the new one (G2), which no template can check" -}}
{{- range $key, $_ := .Values.agentConfig }}
{{- if hasKey $elsewhere $key }}
{{- fail (printf "agentConfig.%s: it cannot be set here; expected %s" $key (get $elsewhere $key)) }}
{{- end }}
{{- end }}
{{- $pg := dig "postgresql" dict .Values.agentConfig -}}
{{- range $key := list "listen" "connect_address" "data_dir" "bin_dir" "pgpass" "parameters" "pg_hba" "authentication" }}
{{- if and $pg (hasKey $pg $key) }}
{{- fail (printf "agentConfig.postgresql.%s: it cannot be set here; expected the values under postgresql, network or auth" $key) }}
{{- end }}
{{- end }}
{{- if (dig "bootstrap" "dcs" dict .Values.agentConfig) }}
{{- range $key, $_ := dig "bootstrap" "dcs" dict .Values.agentConfig }}
{{- if has $key (list "ttl" "synchronous_mode" "synchronous_mode_strict" "maximum_lag_on_failover" "primary_start_timeout") }}
{{- fail (printf "agentConfig.bootstrap.dcs.%s: it cannot be set here; expected the value under failover" $key) }}
{{- end }}
{{- end }}
{{- end }}
{{- range $key, $_ := .Values.podLabels }}
{{- if has $key (list "app.kubernetes.io/name" "app.kubernetes.io/instance" "cluster-name" "role") }}
{{- fail (printf "podLabels.%s: Services and agents find the pods by it; remove it" $key) }}
{{- end }}
{{- end }}
{{- range $key, $_ := .Values.commonLabels }}
{{- if or (has $key (list "cluster-name" "role" "helm.sh/chart")) (hasPrefix "app.kubernetes.io/" $key) }}
{{- fail (printf "commonLabels.%s: the chart sets it itself or finds objects by it; remove it" $key) }}
{{- end }}
{{- end }}
{{- range $one := .Values.extraEnv }}
{{- if or (hasPrefix "PATRONI_" $one.name) (hasPrefix "POD_" $one.name) (hasPrefix "PGWARDEN_API" $one.name) (eq "NODE_NAME" $one.name) }}
{{- fail (printf "extraEnv: found %s, which the chart sets itself; remove it" $one.name) }}
{{- end }}
{{- end }}
{{- end }}
