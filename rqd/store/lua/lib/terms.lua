-- terms: the parts of a job's field `terms`, which few jobs have.
-- One part of the text; nil if it has none, or was damaged: a job with damaged terms has none.
function Terms.part(text, name)
  if not text or not string.find(text, '"' .. name .. '"', 1, true) then return nil end
  local is_json, terms = pcall(cjson.decode, text)
  local part = is_json and type(terms) == 'table' and terms[name]
  return type(part) == 'table' and part or nil
end

-- The jobs that an end in this status makes (callbacks.lua); those that are none are left out.
local MOST_CALLBACKS = 16
function Terms.callbacks(text, status)
  local told, found = Terms.part(text, 'callbacks') or {}, {}
  for i = 1, math.min(#told, MOST_CALLBACKS) do
    local one = told[i]
    if type(one) == 'table' and one.on == status and type(one.id) == 'string'
      and string.find(one.id, '^[%w_-]+$') and type(one.queue) == 'string'
      and type(one.payload) == 'string' and type(one.fields) == 'table' then
      found[#found + 1] = one
    end
  end
  return found
end
