-- Lets the operator try again: any new value of the annotation does.
local os = require("os")
if obj.metadata.annotations == nil then
  obj.metadata.annotations = {}
end
obj.metadata.annotations["pelagos.dev/retry"] = os.date("!%Y-%m-%dT%H:%M:%SZ")
return obj
