"""A small GGUF v3 writer and reader: just what this model's files hold."""

import struct

import torch

ALIGNMENT = 32
F32, BF16 = 0, 30
UINT32, INT32, FLOAT32, BOOL, STRING, ARRAY = 4, 5, 6, 7, 8, 9
SCALAR = {UINT32: "<I", INT32: "<i", FLOAT32: "<f", BOOL: "<?"}


class GgufError(ValueError):
    """A file that is not a GGUF of the kind written here."""


def _text(value):
    data = value.encode()
    return struct.pack("<Q", len(data)) + data


def _value(kind, value):
    if kind == STRING:
        return _text(value)
    if kind == ARRAY:
        element, items = value
        return (struct.pack("<IQ", element, len(items))
                + b"".join(_value(element, i) for i in items))
    return struct.pack(SCALAR[kind], value)


def write(path, metadata, tensors):
    """metadata [(key, kind, value)], tensors [(name, tensor)]: matrices as BF16, vectors as F32."""
    infos, blobs, offset = [], [], 0
    for name, tensor in tensors:
        matrix = tensor.dim() == 2
        raw = tensor.bfloat16().view(torch.int16) if matrix else tensor.float()
        data = raw.contiguous().numpy().tobytes()
        data += bytes(-len(data) % ALIGNMENT)
        infos.append(_text(name) + struct.pack("<I", tensor.dim())
                     + b"".join(struct.pack("<Q", d) for d in reversed(tensor.shape))
                     + struct.pack("<IQ", BF16 if matrix else F32, offset))
        blobs.append(data)
        offset += len(data)
    head = b"GGUF" + struct.pack("<IQQ", 3, len(infos), len(metadata))
    head += b"".join(_text(key) + struct.pack("<I", kind) + _value(kind, value)
                     for key, kind, value in metadata)
    head += b"".join(infos)
    head += bytes(-len(head) % ALIGNMENT)
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_bytes(head + b"".join(blobs))
    temporary.replace(path)


class _Cursor:
    def __init__(self, path):
        self.path, self.data, self.at = path, path.read_bytes(), 0

    def take(self, form):
        size = struct.calcsize(form)
        if self.at + size > len(self.data):
            raise GgufError("%s: truncated at offset %d" % (self.path, self.at))
        value = struct.unpack_from(form, self.data, self.at)[0]
        self.at += size
        return value

    def text(self):
        size = self.take("<Q")
        value = self.data[self.at:self.at + size].decode()
        self.at += size
        return value

    def value(self, kind):
        if kind == STRING:
            return self.text()
        if kind == ARRAY:
            element, count = self.take("<I"), self.take("<Q")
            return [self.value(element) for _ in range(count)]
        if kind not in SCALAR:
            raise GgufError("%s: value type %d at offset %d" % (self.path, kind, self.at))
        return self.take(SCALAR[kind])


def read(path):
    """(metadata as a dict, tensors as a dict of f32 tensors)."""
    c = _Cursor(path)
    if c.data[:4] != b"GGUF":
        raise GgufError("%s: not a GGUF file (bad magic at offset 0)" % path)
    c.at = 4
    if c.take("<I") != 3:
        raise GgufError("%s: not GGUF version 3" % path)
    tensor_count, entry_count = c.take("<Q"), c.take("<Q")
    metadata = {}
    for _ in range(entry_count):
        key = c.text()
        metadata[key] = c.value(c.take("<I"))
    infos = []
    for _ in range(tensor_count):
        name = c.text()
        shape = [c.take("<Q") for _ in range(c.take("<I"))][::-1]
        infos.append((name, shape, c.take("<I"), c.take("<Q")))
    start, tensors = c.at + -c.at % ALIGNMENT, {}
    for name, shape, kind, offset in infos:
        count = 1
        for d in shape:
            count *= d
        size = count * (2 if kind == BF16 else 4)
        raw = c.data[start + offset:start + offset + size]
        if len(raw) != size:
            raise GgufError("%s: tensor %s is truncated" % (path, name))
        dtype = torch.bfloat16 if kind == BF16 else torch.float32
        tensors[name] = torch.frombuffer(bytearray(raw), dtype=dtype).float().reshape(shape)
    return metadata, tensors
