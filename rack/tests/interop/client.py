"""Terminals written with pyiso8583: they talk to the running switch and check every answer.

Usage: client.py HOST:PORT SEED COUNT
"""

import random
import socket
import struct
import sys
import time

import iso8583
from iso8583.specs import default_ascii as spec

ECHOED = ["2", "3", "4", "7", "11", "12", "13", "32", "37", "41", "42", "49"]
# First digit of the card number: the response code, and how long the answer takes at least, in seconds.
EXPECTED = {"4": ("00", 0), "5": ("05", 0), "6": ("91", 1.5), "9": ("92", 0)}


def receive(connection):
    def exactly(count):
        data = b""
        while len(data) < count:
            part = connection.recv(count - len(data))
            if not part:
                raise EOFError(f"the connection ended after {len(data)} of {count} bytes")
            data += part
        return data

    (length,) = struct.unpack(">H", exactly(2))
    decoded, _ = iso8583.decode(exactly(length), spec)
    return decoded


def send(connection, decoded):
    raw, _ = iso8583.encode(decoded, spec)
    connection.sendall(struct.pack(">H", len(raw)) + bytes(raw))


def request(rng, first, stan):
    return {
        "t": rng.choice(["0100", "0200"]),
        "2": first + "".join(rng.choice("0123456789") for _ in range(rng.randint(12, 18))),
        "3": "000000",
        "4": f"{rng.randint(1, 999999):012}",
        "7": time.strftime("%m%d%H%M%S", time.gmtime()),
        "11": f"{stan:06}",
        "12": "101112",
        "13": "1121",
        "32": "12345678",
        "37": f"{stan:012}",
        "41": f"T{stan:07}",
        "42": "MERCHANT0000001",
        "49": "978",
    }


def check(sent, got, code):
    expected = {"t": sent["t"][:2] + "10", "39": code, **{field: sent[field] for field in ECHOED}}
    for field, value in expected.items():
        if got.get(field) != value:
            sys.exit(f"request {sent['11']}: field {field} is {got.get(field)!r}, expected {value!r}")


def main():
    host, port = sys.argv[1].rsplit(":", 1)
    seed, count = int(sys.argv[2]), int(sys.argv[3])
    rng = random.Random(seed)
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        send(connection, {"t": "0800", "7": "1121101112", "11": "000001", "70": "301"})
        got = receive(connection)
        if (got["t"], got.get("39"), got.get("70")) != ("0810", "00", "301"):
            sys.exit(f"network management: {got['t']} with 39={got.get('39')} and 70={got.get('70')}")
        # Bytes that are no message: the connection stays up.
        connection.sendall(struct.pack(">H", 9) + b"not 8583!")
        open_requests = {}
        for number in range(count):
            first = rng.choice("4444455569") if number > 3 else "4569"[number]
            sent = request(rng, first, number + 2)
            open_requests[sent["11"]] = (sent, EXPECTED[first], time.monotonic())
            send(connection, sent)
        answered = 0
        while open_requests:
            got = receive(connection)
            sent, (code, at_least), since = open_requests.pop(got["11"])
            check(sent, got, code)
            if time.monotonic() - since < at_least:
                sys.exit(f"request {sent['11']}: answered with {code} before its time")
            answered += 1
    print(f"{answered} requests, each answered as it should be")


main()
