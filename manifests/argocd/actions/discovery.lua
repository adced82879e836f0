-- Which actions Argo CD offers.
local actions = {}
local suspended = obj.spec ~= nil and obj.spec.suspend == true
local stalled = false
for _, condition in ipairs((obj.status or {}).conditions or {}) do
  if condition.type == "Stalled" and condition.status == "True" then
    stalled = true
  end
end
actions["retry"] = {disabled = not stalled or suspended}
actions["suspend"] = {disabled = suspended}
actions["resume"] = {disabled = not suspended}
return actions
