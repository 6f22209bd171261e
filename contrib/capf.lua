-- CAPF (Certificate Authority Proxy Function) for Wireshark and tshark.
--
-- Usage:
--   tshark -X lua_script:capf.lua -o tls.keylog_file:KEYS -r CAPTURE -Y capf
--   wireshark: copy this file into the personal plugin folder
--
-- CAPF runs inside TLS, TCP port 3804. To decrypt it, Wireshark needs the TLS
-- secrets of one of the two ends, in the format of SSLKEYLOGFILE. Another port:
--   -d tls.port==PORT,capf
--
-- All integers are big-endian:
--   frame:    0x55  command u8  session id u32  body length u16  elements
--   element:  tag u8  length u16  value
--
-- The vendor has published no description; names and layouts are those of
-- capf/wire, where the source of each is given.

local capf = Proto("capf", "Certificate Authority Proxy Function")

local HEADER = 8
local MAGIC = 0x55

local commands = {
  [1] = "AUTH_REQUEST", [2] = "AUTH_RESPONSE",
  [3] = "KEY_GENERATE_REQUEST", [4] = "KEY_GENERATE_RESPONSE",
  [5] = "ENCRYPT_RESPONSE", [6] = "ENCRYPT_REQUEST",
  [7] = "DECRYPT_REQUEST", [8] = "DECRYPT_RESPONSE",
  [9] = "STORE_CERTIFICATE_REQUEST", [10] = "STORE_CERTIFICATE_RESPONSE",
  [11] = "FETCH_CERTIFICATE_REQUEST", [12] = "FETCH_CERTIFICATE_RESPONSE",
  [13] = "DELETE_CERTIFICATE_REQUEST", [14] = "DELETE_CERTIFICATE_RESPONSE",
  [15] = "END_SESSION", [16] = "RETRY_LATER", [17] = "REQUEST_IN_PROGRESS",
  [18] = "STATUS_ENQUIRY", [19] = "STATUS_RESPONSE",
  [20] = "ABORT_REQUEST", [21] = "ABORT_RESPONSE",
  [22] = "SIGN_CERTIFICATE_REQUEST", [23] = "SIGN_CERTIFICATE_RESPONSE",
}

local tags = {
  [1] = "REASON", [2] = "REASON_INFO", [3] = "CERTIFICATE_TYPE", [4] = "CERTIFICATE",
  [5] = "CERTIFICATE_ID", [6] = "SIGNED_DATA", [7] = "VERSION", [8] = "AUTH_TYPE",
  [9] = "PUBLIC_KEY", [10] = "KEY_SIZE", [11] = "PASSWORD", [12] = "RETRY_DELAY",
  [13] = "DEVICE_NAME", [16] = "SUDI_DATA", [17] = "KEY_TYPE", [18] = "CURVE",
  [19] = "DIGEST_TYPE", [20] = "SHA2_SIGNED_DATA",
}

local reasons = { [0] = "no action", [1] = "done", [7] = "refused", [9] = "unknown device" }
local certificate_types = { [1] = "LSC", [2] = "MIC" }
local auth_types = { [0] = "none", [1] = "password", [2] = "no password", [3] = "LSC", [4] = "MIC" }
local key_types = { [0] = "RSA", [1] = "EC" }
local curves = { [0] = "P-256", [1] = "P-384", [2] = "P-521" }
local digests = { [1] = "SHA-1", [2] = "SHA-256", [3] = "SHA-512" }
local parts = { [0] = "certificate", [1] = "signature, SHA-1", [3] = "signature, SHA-512" }

local f = {
  magic = ProtoField.uint8("capf.magic", "Magic", base.HEX),
  command = ProtoField.uint8("capf.command", "Command", base.DEC, commands),
  session = ProtoField.uint32("capf.session", "Session id"),
  length = ProtoField.uint16("capf.length", "Body length"),
  tag = ProtoField.uint8("capf.element.tag", "Tag", base.DEC, tags),
  element_length = ProtoField.uint16("capf.element.length", "Length"),
  value = ProtoField.bytes("capf.element.value", "Value"),
  reason = ProtoField.uint8("capf.reason", "Reason", base.DEC, reasons),
  reason_info = ProtoField.stringz("capf.reason_info", "Reason info"),
  certificate_type = ProtoField.uint8("capf.certificate_type", "Certificate type", base.DEC, certificate_types),
  certificate_prefix = ProtoField.bytes("capf.certificate.prefix", "Prefix"),
  certificate = ProtoField.bytes("capf.certificate", "Certificate (DER)"),
  signature = ProtoField.bytes("capf.signature", "Signature"),
  version = ProtoField.uint8("capf.version", "Version"),
  auth_type = ProtoField.uint8("capf.auth_type", "Authentication", base.DEC, auth_types),
  public_key = ProtoField.bytes("capf.public_key", "Public key (DER)"),
  key_size = ProtoField.uint16("capf.key_size", "Key size"),
  password = ProtoField.stringz("capf.password", "Password"),
  retry_delay = ProtoField.uint32("capf.retry_delay", "Retry delay (seconds)"),
  device = ProtoField.stringz("capf.device", "Device name"),
  key_type = ProtoField.uint8("capf.key_type", "Key type", base.DEC, key_types),
  curve = ProtoField.uint8("capf.curve", "Curve", base.DEC, curves),
  digest_type = ProtoField.uint8("capf.digest_type", "Digest", base.DEC, digests),
  part = ProtoField.uint8("capf.part.tag", "Part", base.DEC, parts),
  part_length = ProtoField.uint16("capf.part.length", "Length"),
}
capf.fields = f

local e = {
  magic = ProtoExpert.new("capf.bad_magic", "Not a CAPF frame", expert.group.MALFORMED, expert.severity.ERROR),
  element = ProtoExpert.new("capf.bad_element", "Element is longer than what is left", expert.group.MALFORMED, expert.severity.ERROR),
  unknown = ProtoExpert.new("capf.unknown_element", "Element without a name", expert.group.UNDECODED, expert.severity.NOTE),
  refused = ProtoExpert.new("capf.refused", "Refused", expert.group.RESPONSE_CODE, expert.severity.WARN),
}
capf.experts = e

-- Elements whose value is one integer of a fixed width, or text.
local simple = {
  [1] = { f.reason, 1 }, [3] = { f.certificate_type, 1 }, [7] = { f.version, 1 },
  [8] = { f.auth_type, 1 }, [10] = { f.key_size, 2 }, [17] = { f.key_type, 1 },
  [18] = { f.curve, 1 }, [19] = { f.digest_type, 1 },
}
local texts = { [2] = f.reason_info, [11] = f.password, [13] = f.device }
local blobs = { [6] = f.signature, [9] = f.public_key }

-- dissect_parts reads the parts of SUDI_DATA and SHA2_SIGNED_DATA.
local function dissect_parts(value, tree)
  local at = 0
  while at + 3 <= value:len() do
    local n = value(at + 1, 2):uint()
    if at + 3 + n > value:len() then
      tree:add_proto_expert_info(e.element)
      return
    end
    tree:add(f.part, value(at, 1))
    tree:add(f.part_length, value(at + 1, 2))
    if n > 0 then
      tree:add(value(at, 1):uint() == 0 and f.certificate or f.signature, value(at + 3, n))
    end
    at = at + 3 + n
  end
end

local function dissect_value(tag, value, tree)
  local n = value:len()
  local s = simple[tag]
  if s and n == s[2] then
    tree:add(s[1], value)
    if tag == 1 and value:uint() > 1 then
      tree:add_proto_expert_info(e.refused)
    end
  elseif texts[tag] then
    tree:add(texts[tag], value)
  elseif blobs[tag] then
    tree:add(blobs[tag], value)
  elseif tag == 4 and n > 5 then
    tree:add(f.certificate_prefix, value(0, 5))
    tree:add(f.certificate, value(5))
  elseif tag == 12 and n <= 4 then
    tree:add(f.retry_delay, value)
  elseif tag == 16 or tag == 20 then
    dissect_parts(value, tree)
  else
    tree:add(f.value, value)
  end
end

-- dissect_elements returns the device name, if there is one, and the reason.
local function dissect_elements(body, tree)
  local at, device, reason = 0, nil, nil
  while at < body:len() do
    if at + 3 > body:len() then
      tree:add_proto_expert_info(e.element)
      return device, reason
    end
    local tag, n = body(at, 1):uint(), body(at + 1, 2):uint()
    if at + 3 + n > body:len() then
      tree:add_proto_expert_info(e.element)
      return device, reason
    end
    local name = tags[tag] or ("ELEMENT_" .. tag)
    local sub = tree:add(capf, body(at, 3 + n), name)
    sub:add(f.tag, body(at, 1))
    sub:add(f.element_length, body(at + 1, 2))
    if not tags[tag] then
      sub:add_proto_expert_info(e.unknown)
    end
    if n > 0 then
      local value = body(at + 3, n)
      dissect_value(tag, value, sub)
      if tag == 13 then
        device = value:stringz()
      elseif tag == 1 and n == 1 then
        reason = value:uint()
      end
    end
    at = at + 3 + n
  end
  return device, reason
end

local function dissect_frame(tvb, pinfo, tree)
  pinfo.cols.protocol = "CAPF"
  local root = tree:add(capf, tvb(0, tvb:len()))
  root:add(f.magic, tvb(0, 1))
  if tvb(0, 1):uint() ~= MAGIC then
    root:add_proto_expert_info(e.magic)
    return tvb:len()
  end
  root:add(f.command, tvb(1, 1))
  root:add(f.session, tvb(2, 4))
  root:add(f.length, tvb(6, 2))
  local name = commands[tvb(1, 1):uint()] or ("COMMAND_" .. tvb(1, 1):uint())
  local info = name .. ", session " .. tvb(2, 4):uint()
  if tvb:len() > HEADER then
    local device, reason = dissect_elements(tvb(HEADER, tvb:len() - HEADER), root)
    if device then
      info = info .. ", " .. device
    end
    if reason then
      info = info .. ", reason " .. reason .. (reasons[reason] and (" (" .. reasons[reason] .. ")") or "")
    end
  end
  root:append_text(", " .. info)
  pinfo.cols.info:append(" [" .. info .. "]")
  return tvb:len()
end

local function frame_length(tvb, _, offset)
  if tvb(offset, 1):uint() ~= MAGIC then
    return tvb:len() - offset
  end
  return HEADER + tvb(offset + 6, 2):uint()
end

function capf.dissector(tvb, pinfo, tree)
  pinfo.cols.info = ""
  dissect_tcp_pdus(tvb, tree, HEADER, frame_length, dissect_frame)
  return tvb:len()
end

DissectorTable.get("tls.port"):add(3804, capf)
DissectorTable.get("tcp.port"):add(3804, Dissector.get("tls"))

-- For captures in the clear, of a test or behind a TLS terminator:
--   -d tcp.port==PORT,capf
DissectorTable.get("tcp.port"):add_for_decode_as(capf)
