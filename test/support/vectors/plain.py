"""Asks a PKCS #11 library outside of ours: C calls as they are written down, through ctypes alone.

Standard input is JSON: {"library", "init_args", "label", "pin", "calls": [[name, argument, ...], ...]}; standard
output has a line for each call: its return value and what it gave, in hexadecimal digits.

  ["create", [[attribute, bytes | number | true], ...]]    the object becomes $0, $1, ...
  ["init", "encrypt", [mechanism, parameter], "$0"]
  ["encrypt", data]  ["update", "decrypt", data]  ["final", "decrypt"]  ["verify", data, signature]
  ["wrap", [mechanism, parameter], "$0", "$1"]  ["unwrap", [mechanism, parameter], "$0", blob, template]
  ["derive", [mechanism, parameter], "$0", template]  ["value", "$0"]

Bytes are hexadecimal digits. A parameter is null, bytes, or a list of members: a number is a CK_ULONG, bytes a pointer.
"""

import ctypes
import json
import struct
import sys

ULONG = ctypes.c_ulong
ROOM = 65536

# Places in CK_FUNCTION_LIST.
PLACES = {
    "C_Initialize": 0, "C_Finalize": 1, "C_GetSlotList": 4, "C_GetTokenInfo": 6, "C_OpenSession": 12,
    "C_Login": 18, "C_CreateObject": 20, "C_GetAttributeValue": 24,
    "C_EncryptInit": 29, "C_Encrypt": 30, "C_EncryptUpdate": 31, "C_EncryptFinal": 32,
    "C_DecryptInit": 33, "C_Decrypt": 34, "C_DecryptUpdate": 35, "C_DecryptFinal": 36,
    "C_SignInit": 42, "C_Sign": 43, "C_VerifyInit": 48, "C_Verify": 49,
    "C_WrapKey": 60, "C_UnwrapKey": 61, "C_DeriveKey": 62,
}


class Attribute(ctypes.Structure):
    _fields_ = [("type", ULONG), ("value", ctypes.c_void_p), ("size", ULONG)]


class Mechanism(ctypes.Structure):
    _fields_ = [("mechanism", ULONG), ("parameter", ctypes.c_void_p), ("size", ULONG)]


class Client:
    def __init__(self, question):
        self.kept = []
        self.objects = []
        library = ctypes.CDLL(question["library"])
        table = ctypes.c_void_p()
        library.C_GetFunctionList(ctypes.byref(table))
        # CK_VERSION and padding come first.
        self.functions = ctypes.cast(table.value + 8, ctypes.POINTER(ctypes.c_void_p))
        self.initialize(question.get("init_args"))
        slot = self.slot(question["label"])
        self.session = ULONG()
        self.must("C_OpenSession", slot, ULONG(6), None, None, ctypes.byref(self.session))
        pin = question["pin"].encode()
        self.must("C_Login", self.session, ULONG(1), pin, ULONG(len(pin)))

    def call(self, name, *arguments):
        function = ctypes.CFUNCTYPE(ULONG)(self.functions[PLACES[name]])
        return function(*arguments)

    def must(self, name, *arguments):
        value = self.call(name, *arguments)
        if value:
            raise SystemExit(f"{name}: 0x{value:X}")

    def initialize(self, text):
        if text is None:
            return self.must("C_Initialize", None)
        # CK_C_INITIALIZE_ARGS: four functions, flags (CKF_OS_LOCKING_OK), the string.
        text = self.keep(ctypes.create_string_buffer(text.encode()))
        arguments = struct.pack("@PPPPLP", 0, 0, 0, 0, 2, ctypes.addressof(text))
        self.must("C_Initialize", self.buffer(arguments))

    def slot(self, label):
        count = ULONG(64)
        slots = (ULONG * 64)()
        self.must("C_GetSlotList", ctypes.c_ubyte(1), slots, ctypes.byref(count))
        for slot in slots[: count.value]:
            info = ctypes.create_string_buffer(256)
            self.must("C_GetTokenInfo", ULONG(slot), info)
            if info.raw[:32].decode(errors="replace").strip() == label:
                return ULONG(slot)
        raise SystemExit(f"no token {label}")

    def keep(self, thing):
        self.kept.append(thing)
        return thing

    def buffer(self, data):
        return self.keep(ctypes.create_string_buffer(data, len(data))) if data else None

    def template(self, attributes):
        rows = (Attribute * len(attributes))()
        for row, (kind, value) in zip(rows, attributes):
            if isinstance(value, bool):
                data = bytes([value])
            elif isinstance(value, int):
                data = struct.pack("@L", value)
            else:
                data = bytes.fromhex(value)
            held = self.buffer(data)
            row.type, row.size = kind, len(data)
            row.value = ctypes.addressof(held) if held else None
        return self.keep(rows)

    def mechanism(self, number, parameter):
        if isinstance(parameter, list):
            members = b""
            for member in parameter:
                if isinstance(member, int):
                    members += struct.pack("@L", member)
                else:
                    held = self.buffer(bytes.fromhex(member))
                    members += struct.pack("@P", ctypes.addressof(held) if held else 0)
            data = members
        else:
            data = bytes.fromhex(parameter or "")
        held = self.buffer(data)
        address = ctypes.addressof(held) if held else None
        return ctypes.byref(self.keep(Mechanism(number, address, len(data))))

    def object(self, name):
        return ULONG(self.objects[int(name[1:])])

    def made(self, function, *arguments):
        handle = ULONG()
        value = self.call(function, *arguments, ctypes.byref(handle))
        self.objects.append(handle.value)
        return function, value, b""

    def given(self, function, *arguments):
        room = ctypes.create_string_buffer(ROOM)
        size = ULONG(ROOM)
        value = self.call(function, self.session, *arguments, room, ctypes.byref(size))
        return function, value, room.raw[: size.value] if value == 0 else b""

    def bytes(self, data):
        data = bytes.fromhex(data)
        return self.keep(ctypes.create_string_buffer(data, len(data) + 1)), ULONG(len(data))

    def run(self, name, *rest):
        if name == "create":
            rows = self.template(rest[0])
            return self.made("C_CreateObject", self.session, rows, ULONG(len(rows)))
        if name == "init":
            function = f"C_{rest[0].capitalize()}Init"
            mechanism = self.mechanism(*rest[1])
            return function, self.call(function, self.session, mechanism, self.object(rest[2])), b""
        if name in ("encrypt", "decrypt", "sign"):
            return self.given(f"C_{name.capitalize()}", *self.bytes(rest[0]))
        if name == "update":
            return self.given(f"C_{rest[0].capitalize()}Update", *self.bytes(rest[1]))
        if name == "final":
            return self.given(f"C_{rest[0].capitalize()}Final")
        if name == "verify":
            arguments = [*self.bytes(rest[0]), *self.bytes(rest[1])]
            return "C_Verify", self.call("C_Verify", self.session, *arguments), b""
        if name == "wrap":
            keys = [self.object(key) for key in rest[1:]]
            return self.given("C_WrapKey", self.mechanism(*rest[0]), *keys)
        if name == "unwrap":
            rows = self.template(rest[3])
            arguments = [self.mechanism(*rest[0]), self.object(rest[1]), *self.bytes(rest[2])]
            return self.made("C_UnwrapKey", self.session, *arguments, rows, ULONG(len(rows)))
        if name == "derive":
            rows = self.template(rest[2])
            arguments = [self.mechanism(*rest[0]), self.object(rest[1])]
            return self.made("C_DeriveKey", self.session, *arguments, rows, ULONG(len(rows)))
        if name == "value":
            return self.value(self.object(rest[0]))
        raise SystemExit(f"no call {name}")

    def value(self, key):
        room = ctypes.create_string_buffer(ROOM)
        row = Attribute(0x11, ctypes.addressof(room), ROOM)
        value = self.call("C_GetAttributeValue", self.session, key, ctypes.byref(row), ULONG(1))
        return "C_GetAttributeValue", value, room.raw[: row.size] if value == 0 else b""


question = json.load(sys.stdin)
client = Client(question)
for step in question["calls"]:
    function, value, data = client.run(*step)
    print(function, f"0x{value:X}", data.hex() or "-", flush=True)
    if value:
        break
client.call("C_Finalize", None)
