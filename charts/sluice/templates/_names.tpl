{{/*
Names, labels and images. The names of accounts and Services are fixed: they are what Rollouts, certificates and the
documents speak of, so there is one release in a namespace.
*/}}

{{/* Labels of every object. */}}
{{- define "sluice.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: sluice
app.kubernetes.io/name: sluice
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{/* What selects the pods of a component: (list $ "controller"). Never changes, since selectors cannot. */}}
{{- define "sluice.selector" -}}
app.kubernetes.io/name: sluice
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{/* Labels of an object that belongs to a component: (list $ "controller"). */}}
{{- define "sluice.componentLabels" -}}
{{ include "sluice.labels" (index . 0) }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{/* Objects without a namespace carry the release's in their name, so that two releases do not meet. */}}
{{- define "sluice.clusterName" -}}
sluice-controller:{{ .Release.Namespace }}
{{- end }}

{{/* The user that a pod of this account is to the API server: (list $ "sluice-controller"). */}}
{{- define "sluice.account" -}}
system:serviceaccount:{{ (index . 0).Release.Namespace }}:{{ index . 1 }}
{{- end }}

{{/* (list $ .Values.controller.image) */}}
{{- define "sluice.image" -}}
{{- $root := index . 0 -}}
{{- $image := index . 1 -}}
{{- if $image.digest -}}
{{ $image.repository }}@{{ $image.digest }}
{{- else -}}
{{ $image.repository }}:{{ $image.tag | default $root.Chart.AppVersion }}
{{- end -}}
{{- end }}
