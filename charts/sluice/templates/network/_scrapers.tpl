{{/* Who may reach the health port, as peers of a NetworkPolicy. The kubelet is not held up by policies. */}}
{{- define "sluice.scrapers" }}
{{- with .Values.networkPolicy.scrapers }}
{{- toYaml . }}
{{- else -}}
- namespaceSelector: {}
{{- end }}
{{- end }}
