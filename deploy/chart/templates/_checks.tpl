{{/* Combinations that cannot work, each refused with a sentence: the field, what was found, what
would be right. What one value alone can get wrong is in values.schema.json. */}}
{{- define "pgwarden.checks" -}}
{{- include "pgwarden.checks.name" . -}}
{{- include "pgwarden.checks.members" . -}}
{{- include "pgwarden.checks.failover" . -}}
{{- include "pgwarden.checks.auth" . -}}
{{- include "pgwarden.checks.data" . -}}
{{- include "pgwarden.checks.ownership" . -}}
{{- include "pgwarden.checks.parameters" . -}}
{{- include "pgwarden.checks.tags" . -}}
{{- include "pgwarden.checks.image" . -}}
{{- include "pgwarden.checks.services" . -}}
{{- include "pgwarden.checks.container" . -}}
{{- include "pgwarden.checks.volumes" . -}}
{{- end }}

{{- define "pgwarden.checks.name" -}}
{{- $name := include "pgwarden.name" . -}}
{{- $field := ternary "fullnameOverride" "the release's name" (not (empty .Values.fullnameOverride)) -}}
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
{{- $start := int64 $v.failover.primaryStartTimeout -}}
{{- if gt $start 31622400 }}
{{- fail (printf "failover.primaryStartTimeout: found %d s; expected at most 31622400 (a year), more than which the agent does not accept: it is in seconds" $start) }}
{{- end }}
{{- $dcs := dig "bootstrap" "dcs" dict $v.agentConfig -}}
{{- if and (hasKey $dcs "synchronous_node_count") (ne (get $dcs "synchronous_node_count" | toString) "1") }}
{{- fail (printf "agentConfig.bootstrap.dcs.synchronous_node_count: found %v; expected 1: pgwarden waits for one standby, not for more" (get $dcs "synchronous_node_count")) }}
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
{{- if eq (include "pgwarden.quantity" .Values.persistence.size | float64) 0.0 }}
{{- fail (printf "persistence.size: found %s, on which no cluster can be made; expected a size as 10Gi" .Values.persistence.size) }}
{{- end }}
{{- range $mode := .Values.persistence.accessModes }}
{{- if not (has $mode (list "ReadWriteOncePod" "ReadWriteOnce")) }}
{{- fail (printf "persistence.accessModes: found %s; expected ReadWriteOncePod or ReadWriteOnce: nothing but the volume keeps two nodes from writing one data directory" $mode) }}
{{- end }}
{{- end }}
{{- $owned := list "listen_addresses" "port" "cluster_name" "data_directory" "config_file" "hba_file" "ident_file" "primary_conninfo" "primary_slot_name" "synchronous_standby_names" "unix_socket_directories" "hot_standby" -}}
{{- range $name, $_ := .Values.postgresql.parameters }}
{{- if has (lower $name) $owned }}
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
{{- range $which, $service := pick .Values.service "leader" "replica" }}
{{- range $key, $_ := $service.labels }}
{{- if or (eq $key "helm.sh/chart") (hasPrefix "app.kubernetes.io/" $key) }}
{{- fail (printf "service.%s.labels.%s: the chart sets it itself; remove it" $which $key) }}
{{- end }}
{{- if hasKey ($.Values.commonLabels | default dict) $key }}
{{- fail (printf "service.%s.labels.%s: found in commonLabels as well, which are on every object; expected it in one of them" $which $key) }}
{{- end }}
{{- end }}
{{- end }}
{{- range $key, $_ := .Values.podAnnotations }}
{{- if has $key (list "kubectl.kubernetes.io/default-container" "checksum/agent") }}
{{- fail (printf "podAnnotations.%s: the chart sets it itself; remove it" $key) }}
{{- end }}
{{- end }}
{{- range $one := .Values.extraEnv }}
{{- if or (hasPrefix "PATRONI_" $one.name) (hasPrefix "POD_" $one.name) (hasPrefix "PGWARDEN_API" $one.name) (eq "NODE_NAME" $one.name) }}
{{- fail (printf "extraEnv: found %s, which the chart sets itself; remove it" $one.name) }}
{{- end }}
{{- end }}
{{- end }}

{{/* Wherever they come from. PostgreSQL does not look at the case of a parameter's name, and reads
several words as off: of a boolean, each beginning of false and of no as well. */}}
{{- define "pgwarden.checks.parameters" -}}
{{- $sync := eq (include "pgwarden.sync" .) "on" -}}
{{- $places := dict "postgresql.parameters" .Values.postgresql.parameters "agentConfig.bootstrap.dcs.postgresql.parameters" (dig "bootstrap" "dcs" "postgresql" "parameters" dict .Values.agentConfig) -}}
{{- range $place, $parameters := $places }}
{{- range $name, $value := $parameters }}
{{- $parameter := lower $name -}}
{{- $text := $value | toString | trim | lower -}}
{{- if and $sync (eq $parameter "synchronous_commit") (has $text (list "off" "local" "false" "no" "0")) }}
{{- fail (printf "%s.%s: found %v with failover.synchronousMode: on; expected on: a commit would be acknowledged before a standby has it, and a failover would lose it" $place $name $value) }}
{{- end }}
{{- if and (has $parameter (list "fsync" "full_page_writes")) (regexMatch "^(off?|f|fa|fal|fals|false|no?|0)$" $text) }}
{{- fail (printf "%s.%s: found %v; expected on: a crash of the node would leave a data directory that must not be used" $place $name $value) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{- define "pgwarden.checks.tags" -}}
{{- range $tag := list "nofailover" "nosync" "noloadbalance" "clonefrom" "nostream" }}
{{- if and (hasKey $.Values.tags $tag) (not (has (get $.Values.tags $tag | toString) (list "true" "false"))) }}
{{- fail (printf "tags.%s: found %v; expected true or false" $tag (get $.Values.tags $tag)) }}
{{- end }}
{{- end }}
{{- if eq (get .Values.tags "nofailover" | toString) "true" }}
{{- fail (printf "tags.nofailover: found true with replicas: %d; expected it to be left out: the tags are those of every member, so none could ever lead" (int .Values.replicas)) }}
{{- end }}
{{- if and (eq (get .Values.tags "nosync" | toString) "true") (eq (include "pgwarden.sync" .) "on") }}
{{- fail "tags.nosync: found true with failover.synchronousMode: on; expected it to be left out: the tags are those of every member, so no standby would ever confirm a commit; or synchronousMode: off" }}
{{- end }}
{{- end }}

{{/* What a reference to an image may consist of; the node would find out only when it pulls. */}}
{{- define "pgwarden.checks.image" -}}
{{- $image := .Values.image -}}
{{- $label := "[a-zA-Z0-9]([-a-zA-Z0-9]*[a-zA-Z0-9])?" -}}
{{- $registry := printf `(%s(\.%s)*|\[[0-9a-fA-F:]+\])(:[0-9]+)?` $label $label -}}
{{- $part := `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*` -}}
{{- if not (regexMatch (printf "^(%s/)?%s(/%s)*$" $registry $part $part) $image.repository) }}
{{- fail (printf "image.repository: found %q; expected a name of lower-case letters, digits, and . _ - between them, after a registry or none, as registry.example:5000/databases/pgwarden; the tag is image.tag, the digest image.digest" $image.repository) }}
{{- end }}
{{- if and $image.tag (not (regexMatch "^[a-zA-Z0-9_][-a-zA-Z0-9_.]{0,127}$" $image.tag)) }}
{{- fail (printf "image.tag: found %q; expected at most 128 letters, digits, _ . and -, not beginning with . or -, as 15" $image.tag) }}
{{- end }}
{{- end }}

{{- define "pgwarden.checks.services" -}}
{{- range $which, $service := pick .Values.service "leader" "replica" }}
{{- range $key := list "nodePort" "externalTrafficPolicy" "loadBalancerSourceRanges" }}
{{- $types := ternary (list "LoadBalancer") (list "NodePort" "LoadBalancer") (eq $key "loadBalancerSourceRanges") -}}
{{- if and (get $service $key) (not (has $service.type $types)) }}
{{- fail (printf "service.%s.%s: found %v with type: %s, of which Kubernetes does not accept it; expected none, or type: %s" $which $key (get $service $key) $service.type (join " or " $types)) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{- define "pgwarden.checks.container" -}}
{{- $v := .Values -}}
{{- range $probe := list "startup" "liveness" "readiness" }}
{{- if not (get ($v.probes | default dict) $probe) }}
{{- fail (printf "probes.%s: found null; expected periodSeconds, timeoutSeconds and failureThreshold: a probe cannot be switched off, only given more time" $probe) }}
{{- end }}
{{- end }}
{{- range $where, $context := dict "podSecurityContext" $v.podSecurityContext "containerSecurityContext" $v.containerSecurityContext }}
{{- $user := get ($context | default dict) "runAsUser" -}}
{{- if and (not (kindIs "invalid" $user)) (hasKey ($context | default dict) "runAsUser") (lt (int64 $user) 1) }}
{{- fail (printf "%s.runAsUser: found %d; expected 1 or more, as 999, or null for the cluster's choice: PostgreSQL does not run as root, who is 0" $where (int64 $user)) }}
{{- end }}
{{- end }}
{{- $resources := $v.resources | default dict -}}
{{- $limits := get $resources "limits" | default dict -}}
{{- range $what, $request := get $resources "requests" | default dict }}
{{- if hasKey $limits $what }}
{{- $limit := get $limits $what -}}
{{- if gt (include "pgwarden.quantity" $request | float64) (include "pgwarden.quantity" $limit | float64) }}
{{- fail (printf "resources.requests.%s: found %v, which is more than resources.limits.%s: %v; expected at most that" $what $request $what $limit) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/* A quantity of Kubernetes as a plain number; the schema has seen that it is one. */}}
{{- define "pgwarden.quantity" -}}
{{- $number := regexFind "^[0-9.]+([eE][-+]?[0-9]+)?" (toString .) -}}
{{- $unit := trimPrefix $number (toString .) -}}
{{- $factors := dict "" 1.0 "n" 0.000000001 "u" 0.000001 "m" 0.001 "k" 1e3 "M" 1e6 "G" 1e9 "T" 1e12 "P" 1e15 "E" 1e18 "Ki" 1024.0 "Mi" 1048576.0 "Gi" 1073741824.0 "Ti" 1099511627776.0 "Pi" 1125899906842624.0 "Ei" 1152921504606846976.0 -}}
{{- mulf (float64 $number) (get $factors $unit) | printf "%.9f" -}}
{{- end }}

{{- define "pgwarden.checks.volumes" -}}
{{- $own := dict "config" "/etc/pgwarden" "data" "/var/lib/postgresql/data" "run" "/run/postgresql" "tmp" "/tmp" "shm" "/dev/shm" -}}
{{- $more := list -}}
{{- range $volume := .Values.extraVolumes }}
{{- if hasKey $own $volume.name }}
{{- fail (printf "extraVolumes: found the name %s, which is a volume of the chart; expected another name, as my-%s" $volume.name $volume.name) }}
{{- end }}
{{- $more = append $more $volume.name -}}
{{- end }}
{{- range $mount := .Values.extraVolumeMounts }}
{{- if hasKey $own $mount.name }}
{{- fail (printf "extraVolumeMounts: found the name %s, which is a volume of the chart, mounted at %s; expected the name of one of extraVolumes" $mount.name (get $own $mount.name)) }}
{{- end }}
{{- if not (has $mount.name $more) }}
{{- fail (printf "extraVolumeMounts: found the name %s; expected the name of one of extraVolumes, which has no such" $mount.name) }}
{{- end }}
{{- range $name, $path := $own }}
{{- if eq (clean $mount.mountPath) $path }}
{{- fail (printf "extraVolumeMounts: found the path %s, where the chart mounts its volume %s; expected another path" $mount.mountPath $name) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
