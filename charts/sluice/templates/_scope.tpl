{{/*
Which namespaces the controller may look into, worked out once: its flags, its Roles and the policies' warnings are all
made of these lists. And what the values cannot mean together, which a schema cannot say.
*/}}

{{/* Watched namespaces as a JSON list, the release's own first: the Rollouts that govern are there. */}}
{{- define "sluice.watched" -}}
{{- prepend (.Values.watch.namespaces | sortAlpha) .Release.Namespace | uniq | toJson -}}
{{- end }}

{{/* Namespaces whose Secrets may be read, as a JSON list. */}}
{{- define "sluice.secretsIn" -}}
{{- if .Values.secrets.namespaces -}}
{{- .Values.secrets.namespaces | sortAlpha | uniq | toJson -}}
{{- else if .Values.watch.all -}}
{{- list .Release.Namespace | toJson -}}
{{- else -}}
{{- include "sluice.watched" . -}}
{{- end -}}
{{- end }}

{{/* Namespaces with pods that may be instances, as a JSON list, the release's own first. */}}
{{- define "sluice.memberNamespaces" -}}
{{- prepend (.Values.members.namespaces | sortAlpha) .Release.Namespace | uniq | toJson -}}
{{- end }}

{{/* Ends the rendering with a sentence when values contradict each other. */}}
{{- define "sluice.check" -}}
{{- if and .Values.watch.all .Values.watch.namespaces -}}
{{- fail "watch.namespaces: every namespace is watched already, since watch.all is true; leave one of them out" -}}
{{- end -}}
{{- if and .Values.secrets.all (not .Values.watch.all) -}}
{{- fail "secrets.all: needs watch.all; without it name the namespaces in secrets.namespaces" -}}
{{- end -}}
{{- if and .Values.secrets.all .Values.secrets.namespaces -}}
{{- fail "secrets.namespaces: Secrets of every namespace may be read already, since secrets.all is true; leave one of them out" -}}
{{- end -}}
{{- $gateway := .Values.gateway -}}
{{- if and $gateway.autoscaling.enabled (eq $gateway.kind "DaemonSet") -}}
{{- fail "gateway.autoscaling.enabled: a DaemonSet has a pod on each node and cannot be scaled; use gateway.kind Deployment" -}}
{{- end -}}
{{- if and $gateway.autoscaling.enabled (gt (int $gateway.autoscaling.minReplicas) (int $gateway.autoscaling.maxReplicas)) -}}
{{- fail "gateway.autoscaling.minReplicas: must not be more than gateway.autoscaling.maxReplicas" -}}
{{- end -}}
{{- $names := list -}}{{- $ports := list 9900 9901 9902 -}}{{- $servicePorts := list -}}
{{- range $index, $listener := $gateway.listeners -}}
{{- $at := printf "gateway.listeners[%d]" $index -}}
{{- if eq $listener.name "health" -}}{{- fail (printf "%s.name: the port of probes and metrics is called health; choose another name" $at) -}}{{- end -}}
{{- if has $listener.name $names -}}{{- fail (printf "%s.name: there are two listeners %q" $at $listener.name) -}}{{- end -}}
{{- if has (int $listener.port) $ports -}}{{- fail (printf "%s.port: %d is taken, by another listener or by the instance itself (9901, 9902)" $at (int $listener.port)) -}}{{- end -}}
{{- if has (int $listener.servicePort) $servicePorts -}}{{- fail (printf "%s.servicePort: %d is another listener's" $at (int $listener.servicePort)) -}}{{- end -}}
{{- $names = append $names $listener.name -}}{{- $ports = append $ports (int $listener.port) -}}{{- $servicePorts = append $servicePorts (int $listener.servicePort) -}}
{{- end -}}
{{- end }}
