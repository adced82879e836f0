-- Stops all work for the resource.
obj.spec.suspend = true
return obj
