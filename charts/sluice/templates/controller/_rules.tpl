{{/*
What the controller may do in the namespaces that it watches, whose Secrets it reads, and whose pods are instances. Each
is a Role there, or part of the ClusterRole when the values say "all".
*/}}

{{- define "sluice.watchRules" }}
  - apiGroups: [sluice.dev]
    resources: [proxyroutes, pools, rollouts]
    verbs: [list, watch]
  - apiGroups: [sluice.dev]
    resources: [proxyroutes/status, pools/status, rollouts/status]
    verbs: [patch]
  - apiGroups: [""]
    resources: [services]
    verbs: [list, watch]
  - apiGroups: [discovery.k8s.io]
    resources: [endpointslices]
    verbs: [list, watch]
  - apiGroups: [events.k8s.io]
    resources: [events]
    verbs: [create, patch]
{{- end }}

{{/* Of a namespace that is named, itself: how old it is, and its labels. */}}
{{- define "sluice.namespaceRules" }}
  - apiGroups: [""]
    resources: [namespaces]
    verbs: [get]
{{- end }}

{{- define "sluice.secretRules" }}
  - apiGroups: [""]
    resources: [secrets]
    verbs: [list, watch]
{{- end }}

{{- define "sluice.memberRules" }}
  # Whose pod an instance is, and when it is gone.
  - apiGroups: [""]
    resources: [pods]
    verbs: [get, list, watch]
  # The trust that they start from.
  - apiGroups: [""]
    resources: [configmaps]
    verbs: [create]
  - apiGroups: [""]
    resources: [configmaps]
    resourceNames: [sluice-trust]
    verbs: [get, update]
{{- end }}
