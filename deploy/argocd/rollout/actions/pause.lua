-- Gives the command "pause" about the revision that is shown. The controller answers in status.command.
-- The API server sees Argo CD itself give it, and lets nobody give a command in another's name: if your Argo CD's server
-- runs under another account, say so here.
local by = "system:serviceaccount:argocd:argocd-server"

local annotations = obj.metadata.annotations or {}
-- Of another command, none of this one.
annotations["sluice.dev/command-reason"] = nil
annotations["sluice.dev/command-instance"] = nil
annotations["sluice.dev/command"] = "pause"
annotations["sluice.dev/command-revision"] = obj.status.targetRevision
annotations["sluice.dev/command-by"] = by
-- Every write changes the resourceVersion: two clicks on one page are one command, later ones are others.
annotations["sluice.dev/command-id"] = "argocd-pause-" .. obj.metadata.resourceVersion
obj.metadata.annotations = annotations
return obj
