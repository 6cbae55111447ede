-- Health of a Rollout: where its fleet is, as its controller last said. Argo CD opens no string library here.
local health = {status = "Progressing", message = "no controller has said anything about this Rollout yet"}
local status = obj.status
if status == nil or status.conditions == nil then
  return health
end

local conditions = {}
for _, condition in ipairs(status.conditions) do
  conditions[condition.type] = condition
end

-- What was said of an older generation says nothing of this one.
local function stale(observed)
  return observed ~= nil and observed < obj.metadata.generation
end
local accepted = conditions.Accepted
if accepted == nil or accepted.status == "Unknown" then
  return health
end
if stale(status.observedGeneration) or stale(accepted.observedGeneration) then
  health.message = "the controller has not looked at generation " .. obj.metadata.generation .. " yet"
  return health
end
if accepted.status == "False" then
  health.status = "Degraded"
  health.message = accepted.message
  return health
end

-- The controller's own words, where it has any.
local function told(otherwise)
  if status.message ~= nil and status.message ~= "" then
    return status.message
  end
  return otherwise
end
local stage = ""
if status.stage ~= nil and status.stage.label ~= nil then
  stage = ", stage " .. status.stage.label
end
local revision = status.targetRevision or "no revision"

local phases = {
  Pending = {"Progressing", "the controller has not looked at this Rollout yet"},
  Progressing = {"Progressing", told(revision .. " is going out") .. stage},
  Baking = {"Progressing", told(revision .. " is being watched") .. stage},
  AwaitingApproval = {"Suspended", told(revision .. " waits for approval") .. stage},
  Paused = {"Suspended", told(revision .. " is paused") .. stage},
  Frozen = {"Degraded", told("changes are stopped until a person acts")},
  RollingBack = {"Degraded", told(revision .. " is being taken back")},
  RolledBack = {"Degraded", told(revision .. " was taken back")},
  Stalled = {"Degraded", told(revision .. " cannot go on") .. stage},
}
local phase = status.phase
if phases[phase] ~= nil then
  health.status = phases[phase][1]
  health.message = phases[phase][2]
  return health
end
if phase ~= "Idle" then
  health.status = "Unknown"
  health.message = "this health check does not know the phase " .. tostring(phase)
  return health
end

-- Everybody is ordered onto stable; whether they do what they are told is another matter.
if status.health == "Degraded" then
  health.status = "Degraded"
  health.message = told("something is held back, refused or not reached")
elseif status.health == "Healthy" then
  health.status = "Healthy"
  health.message = told(revision .. " serves")
else
  health.message = told("no instance is connected")
end
return health
