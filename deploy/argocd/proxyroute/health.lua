-- Health of a ProxyRoute: whether this content is what every instance serves.
local health = {status = "Progressing", message = "no controller has said anything about it yet; is its namespace watched?"}
if obj.status == nil or obj.status.conditions == nil then
  return health
end

local conditions = {}
for _, condition in ipairs(obj.status.conditions) do
  conditions[condition.type] = condition
end

-- What was said of an older generation says nothing of this one.
local ours = {"Accepted", "ResolvedRefs", "Programmed"}
for _, name in ipairs(ours) do
  local condition = conditions[name]
  if condition ~= nil and condition.observedGeneration ~= nil
    and condition.observedGeneration < obj.metadata.generation then
    health.message = "the controller has not looked at generation " .. obj.metadata.generation .. " yet"
    return health
  end
end

-- What is wrong with it stays until somebody mends it, whatever serves in its place meanwhile.
for _, name in ipairs({"Accepted", "ResolvedRefs"}) do
  local condition = conditions[name]
  if condition ~= nil and condition.status == "False" then
    health.status = "Degraded"
    health.message = condition.message
    return health
  end
end

local programmed = conditions.Programmed
if programmed == nil or programmed.status == "Unknown" then
  return health
end
health.message = programmed.message
if programmed.status == "True" then
  health.status = "Healthy"
elseif obj.status.programmed == "RolledBack" or programmed.reason == "RolledBack" then
  health.status = "Degraded"
end
return health
