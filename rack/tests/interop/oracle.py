"""Messages as pyiso8583 makes them: a second opinion on both built-in specs.

Prints one JSON object per line: spec, the message in hex, its type and its fields. Byte strings are in hex, as `b:...`.
Usage: oracle.py SEED COUNT
"""

import copy
import json
import random
import sys

import iso8583
import iso8583.specs

DIGITS = "0123456789"
TEXT = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789 -./"

# What the standard's notation says of each field; pyiso8583's table knows lengths only.
BYTES = {52, 64, 96, 128}
SIGNED = {28, 29, 30, 31, 97}
TRACK = {35, 36}
ALNUM = {37, 38, 39, 40, 49, 50, 51, 54, 91, 92, 93, 94, 95}
ANY = {41, 42, 43, 44, 45, 46, 47, 48, 98, 101, 102, 103, 104} | set(range(56, 64)) | set(range(105, 128))
EXTENDED_PAN = {34}
# Bytes in the binary spec, reserved for any text in the other.
CHIP = 55
# Field 65 announces a third bitmap.
NEVER = {65}


def kind(field, is_binary):
    if field == CHIP:
        return "b" if is_binary else "ans"
    kinds = {"b": BYTES, "x+n": SIGNED, "z": TRACK, "ns": EXTENDED_PAN, "an": ALNUM, "ans": ANY}
    return next((name for name, fields in kinds.items() if field in fields), "n")


def ascii_spec():
    """All text; byte strings are hex characters."""
    return iso8583.specs.default_ascii


def binary_spec():
    """Digits, lengths and the message type packed, bitmaps and byte strings as they are."""
    spec = copy.deepcopy(iso8583.specs.default_ascii)
    spec["t"].update(data_enc="b", max_len=2)
    for bitmap in ("p", "1"):
        spec[bitmap].update(data_enc="b", max_len=8)
    for field in range(2, 129):
        entry = spec[str(field)]
        if entry["len_type"]:
            entry["len_enc"] = "bcd"
            entry["len_type"] = (entry["len_type"] + 1) // 2
        what = kind(field, True)
        if what == "b":
            entry.update(data_enc="b", max_len=255 if field == CHIP else 8)
        elif what == "n":
            # An odd number of digits has a half byte of filler: behind the card number, in front of all others.
            pad = {"right_pad": "F"} if field == 2 else {"left_pad": "0"}
            entry.update(data_enc="b", len_count="nibbles", **pad)
    return spec


# Packed signs and tracks are no hex digits, which pyiso8583 has no word for.
SPECS = {
    "iso8583-1987-ascii": (ascii_spec(), NEVER),
    "iso8583-1987-binary": (binary_spec(), NEVER | SIGNED | TRACK),
}


def value(rng, field, entry, is_binary):
    what = kind(field, is_binary)
    longest = 120 if field == 54 else entry["max_len"]
    if what == "b":
        count = rng.randint(1, 30) if field == CHIP else 8
        return "".join(rng.choice("0123456789ABCDEF") for _ in range(2 * count))
    length = rng.randint(1, min(longest, 60)) if entry["len_type"] else longest
    if what == "x+n":
        return rng.choice("CD") + "".join(rng.choice(DIGITS) for _ in range(length - 1))
    if what == "z":
        return "".join(rng.choice(DIGITS) for _ in range(length - 1)) + rng.choice("=0")
    alphabet = {"n": DIGITS, "ns": DIGITS + "-/.", "an": TEXT[:62], "ans": TEXT}[what]
    text = "".join(rng.choice(alphabet) for _ in range(length))
    # Padding behind a fixed text is not told from the text.
    return text[:-1] + "X" if text.endswith(" ") else text


def message(rng, name):
    spec, never = SPECS[name]
    highest = rng.choice([64, 128])
    fields = [field for field in range(2, highest + 1) if field not in never and rng.random() < 0.3]
    mti = "0" + rng.choice("12348") + rng.choice("01234") + rng.choice("01")
    is_binary = name.endswith("binary")
    values = {str(field): value(rng, field, spec[str(field)], is_binary) for field in fields}
    raw, _ = iso8583.encode({"t": mti, **values}, spec)
    told = {field: "b:" + text if kind(int(field), is_binary) == "b" else text for field, text in values.items()}
    return {"spec": name, "hex": raw.hex(), "mti": mti, "fields": told}


def main():
    seed, count = int(sys.argv[1]), int(sys.argv[2])
    rng = random.Random(seed)
    for number in range(count):
        print(json.dumps(message(rng, list(SPECS)[number % len(SPECS)])))


main()
