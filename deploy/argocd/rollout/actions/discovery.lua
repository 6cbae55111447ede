-- Which buttons a Rollout has. A command speaks about a revision, so there has to be one.
local status = obj.status or {}
local phase = status.phase
local nothing = status.targetRevision == nil

local running = {Progressing = true, Baking = true, AwaitingApproval = true, Stalled = true}
local paused = phase == "Paused"

return {
  pause = {["disabled"] = nothing or paused, ["displayName"] = "Pause", ["iconClass"] = "fa fa-fw fa-pause"},
  resume = {["disabled"] = nothing or not paused, ["displayName"] = "Resume", ["iconClass"] = "fa fa-fw fa-play"},
  abort = {
    ["disabled"] = nothing or not (paused or running[phase] == true),
    ["displayName"] = "Abort: take the change back",
    ["iconClass"] = "fa fa-fw fa-undo",
  },
}
