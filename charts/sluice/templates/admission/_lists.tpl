{{/*
What a command is made of, and what ConfigMaps of a fleet are called after, as JSON lists. The controller's own lists are
in its code; a test of the repository compares.
*/}}
{{- define "sluice.verbs" -}}
["pause", "resume", "promote", "abort", "retry", "forget"]
{{- end }}
{{- define "sluice.commandKeys" -}}
["sluice.dev/command", "sluice.dev/command-revision", "sluice.dev/command-instance", "sluice.dev/command-by", "sluice.dev/command-reason", "sluice.dev/command-id"]
{{- end }}
{{- define "sluice.parts" -}}
["record", "manifest", "section", "origins"]
{{- end }}
