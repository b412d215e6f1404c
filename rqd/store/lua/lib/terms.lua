-- terms: the parts of a job's field `terms`, which few jobs have.
-- One part of the text; nil if it has none, or was damaged: a job with damaged terms has none.
local function term(text, name)
  if not text or not string.find(text, '"' .. name .. '"', 1, true) then return nil end
  local is_json, terms = pcall(cjson.decode, text)
  local part = is_json and type(terms) == 'table' and terms[name]
  return type(part) == 'table' and part or nil
end
