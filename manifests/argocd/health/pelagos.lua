-- How Argo CD reads a Dataset, TrainingRun or ModelService. The same rules as kstatus, in Argo CD's words; see docs/gitops.md.
local health = {status = "Progressing", message = "Waiting for the operator"}
local status = obj.status or {}

-- A status that describes an older spec says nothing about this one.
if status.observedGeneration == nil or status.observedGeneration ~= obj.metadata.generation then
  return health
end

local conditions = {}
for _, condition in ipairs(status.conditions or {}) do
  conditions[condition.type] = condition
end

local ready, stalled = conditions.Ready, conditions.Stalled
if ready == nil then
  return health
end
health.message = ready.reason .. ": " .. ready.message
if stalled ~= nil and stalled.status == "True" then
  health.status = "Degraded"
elseif ready.status == "True" then
  health.status = "Healthy"
elseif obj.spec ~= nil and obj.spec.suspend == true then
  health.status = "Suspended"
end
return health
