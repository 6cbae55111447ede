-- Which buttons a Rollout has. A command speaks about a revision, so there has to be one.
local status = obj.status or {}
local phase = status.phase
local nothing = status.targetRevision == nil

-- A pause outlasts what it was given for: in any phase the next change waits, until somebody resumes. One by spec.paused
-- is ended in Git and not by a command.
local by_command = status.pausedBy ~= nil
local paused = by_command or phase == "Paused"
local running = {Progressing = true, Baking = true, AwaitingApproval = true, Stalled = true, Paused = true}
local abortable = running[phase] == true and status.stage ~= nil

return {
  pause = {["disabled"] = nothing or paused, ["displayName"] = "Pause", ["iconClass"] = "fa fa-fw fa-pause"},
  resume = {["disabled"] = nothing or not by_command, ["displayName"] = "Resume", ["iconClass"] = "fa fa-fw fa-play"},
  abort = {
    ["disabled"] = nothing or not abortable,
    ["displayName"] = "Abort: take the change back",
    ["iconClass"] = "fa fa-fw fa-undo",
  },
}
