"""Malformed negotiations and messages against a DICOM service.

    python hostile_peer.py HOST PORT CALLED CALLING

Needs pynetdicom. CALLING must be an AE title that the service lets in. Prints one line for each
case with what the service did; exits with 1 if the service does not answer a C-ECHO after any of
them, or waits longer than it may.
"""

import socket
import struct
import sys
import time

from pynetdicom import AE
from pynetdicom.sop_class import Verification

CONTEXT_NAME = b"1.2.840.10008.3.1.1.1"
VERIFICATION = b"1.2.840.10008.1.1"
IMPLICIT = b"1.2.840.10008.1.2"
# Longest wait for the service to end a connection, in seconds.
PATIENCE = 90
UNITS = {1: "A-ASSOCIATE-RQ", 2: "A-ASSOCIATE-AC", 3: "A-ASSOCIATE-RJ", 4: "P-DATA",
         5: "A-RELEASE-RQ", 6: "A-RELEASE-RP", 7: "A-ABORT"}


def item(kind, body, length=None):
    return struct.pack(">BBH", kind, 0, len(body) if length is None else length) + body


def unit(kind, body, length=None):
    return struct.pack(">BBI", kind, 0, len(body) if length is None else length) + body


def context(number, abstract=VERIFICATION, syntaxes=(IMPLICIT,)):
    body = bytes([number, 0, 0, 0]) + item(0x30, abstract)
    return item(0x20, body + b"".join(item(0x40, syntax) for syntax in syntaxes))


def user(max_length=16384, more=b""):
    return item(0x50, item(0x51, struct.pack(">I", max_length)) + item(0x52, b"1.2.3") + more)


def request(called, calling, items, version=1, length=None):
    head = struct.pack(">HH", version, 0) + called.ljust(16)[:16] + calling.ljust(16)[:16]
    return unit(1, head + bytes(32) + items, length)


def value(number, header, data, length=None):
    size = len(data) + 2 if length is None else length
    return struct.pack(">IBB", size, number, header) + data


def command(*elements):
    body = b"".join(struct.pack("<HHI", 0, tag, len(data)) + data for tag, data in elements)
    return struct.pack("<HHII", 0, 0, 4, len(body)) + body


def short(number):
    return struct.pack("<H", number)


ECHO = command((0x0002, VERIFICATION + b"\0"), (0x0100, short(0x30)), (0x0110, short(1)),
               (0x0800, short(0x0101)))


def negotiations(called, calling):
    """Association requests that are wrong, or unusual: (name, bytes)."""
    name = item(0x10, CONTEXT_NAME)

    def ask(items, called=called, calling=calling, **other):
        return request(called, calling, items, **other)

    good = name + context(1) + user()
    yield "protocol version 0", ask(good, version=0)
    yield "protocol version 2", ask(good, version=2)
    yield "protocol version 3", ask(good, version=3)
    yield "no contexts", ask(name + user())
    yield "128 contexts", ask(name + b"".join(context(n) for n in range(1, 256, 2)) + user())
    yield "129 contexts", ask(name + b"".join(context(n) for n in [1, *range(1, 256, 2)]) + user())
    yield "400 contexts", ask(name + context(1) * 400 + user())
    yield "an even context number", ask(name + context(2) + user())
    yield "context number 0", ask(name + context(0) + user())
    yield "the same number twice", ask(name + context(1) * 2 + user())
    yield "a context without syntaxes", ask(name + context(1, syntaxes=()) + user())
    yield "a context without abstract syntax", ask(
        name + item(0x20, b"\1\0\0\0" + item(0x40, IMPLICIT)) + user())
    yield "1000 transfer syntaxes", ask(name + context(1, syntaxes=[IMPLICIT] * 1000) + user())
    yield "an endless UID", ask(name + context(1, abstract=b"1." * 5000 + b"1") + user())
    yield "a UID of other bytes", ask(name + context(1, abstract=bytes(range(64))) + user())
    yield "control characters in the calling title", ask(good, calling=b"A\x00\x07\x1b\nB")
    yield "a backslash in the calling title", ask(good, calling=b"A\\B")
    yield "an empty calling title", ask(good, calling=b"")
    yield "bytes above 127 in the calling title", ask(good, calling=b"\xff" * 16)
    yield "a stranger", ask(good, calling=b"STRANGER-TO-ALL")
    yield "control characters in the called title", ask(good, called=b"\x00" * 16)
    yield "another called title", ask(good, called=b"NOT-THIS-ONE")
    yield "no application context", ask(context(1) + user())
    yield "another application context", ask(item(0x10, b"1.2.3") + context(1) + user())
    yield "no user information", ask(name + context(1))
    yield "a maximum length of 1", ask(name + context(1) + user(max_length=1))
    yield "a maximum length of 0", ask(name + context(1) + user(max_length=0))
    yield "an item longer than the request", ask(name + item(0x20, b"\1\0\0\0", length=0xFFFF))
    yield "an item cut short", ask(good + b"\x20\0")
    yield "an unknown item", ask(good + item(0x99, b"?" * 100))
    yield "a cut sub-item", ask(name + context(1) + item(0x50, b"\x51\0\0\4\0"))
    yield "an oversize sub-item", ask(name + context(1) + item(0x50, b"\x52\0\xff\xff1.2"))
    yield "a role with a false length", ask(
        name + context(1) + user(more=item(0x54, b"\xff\xff1.2")))
    yield "an extended negotiation with a false length", ask(
        name + context(1) + user(more=item(0x56, b"\xff\xff1.2")))
    yield "a user identity with a false length", ask(
        name + context(1) + user(more=item(0x58, b"\2\1\xff\xffname")))
    yield "a request of a few bytes", unit(1, b"\0\1\0\0")
    yield "a request announcing 2 GiB", ask(good, length=0x80000000)
    yield "a request announcing 4 GiB", ask(good, length=0xFFFFFFFF)
    yield "an accept instead of a request", unit(2, request(called, calling, good)[6:])
    yield "a reject instead of a request", unit(3, b"\0\1\1\1")
    yield "data before an association", unit(4, value(1, 3, ECHO))
    yield "a release before an association", unit(5, bytes(4))
    yield "an abort before an association", unit(7, bytes(4))
    yield "a unit of type 0", unit(0, bytes(4))
    yield "a unit of type 255", unit(255, bytes(4))
    yield "an HTTP request", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
    yield "a TLS hello", bytes.fromhex("16030100c8010000c40303") + bytes(200)
    yield "nothing", b""
    yield "half a header", b"\1\0\0"
    yield "half a request", ask(good)[:80]


def messages():
    """What to send on an association with context 1, Verification: (name, bytes)."""
    yield "an echo in context 3", unit(4, value(3, 3, ECHO))
    yield "an echo in context 0", unit(4, value(0, 3, ECHO))
    yield "data without a command", unit(4, value(1, 2, b"data"))
    yield "a command that is garbage", unit(4, value(1, 3, bytes(range(255))))
    yield "an empty command", unit(4, value(1, 3, b""))
    yield "a command of 64 KiB", b"".join(unit(4, value(1, 1, bytes(4096))) for _ in range(16))
    yield "a command element of 4 GiB", unit(
        4, value(1, 3, struct.pack("<HHI", 0, 0x100, 0xFFFFFFFF)))
    yield "a value longer than its unit", unit(4, value(1, 3, ECHO, length=0x7FFFFFFF))
    yield "a value of length 0", unit(4, value(1, 3, b"", length=0))
    yield "a unit without values", unit(4, b"")
    yield "a unit announcing 2 GiB", unit(4, value(1, 3, ECHO), length=0x80000000)
    yield "a unit above the maximum", unit(4, value(1, 3, bytes(300000)))
    yield "an unknown command", unit(4, value(1, 3, command(
        (0x0100, short(0x7777)), (0x0110, short(1)), (0x0800, short(0x0101)))))
    yield "a response to nothing", unit(4, value(1, 3, command(
        (0x0100, short(0x8030)), (0x0120, short(1)), (0x0800, short(0x0101)),
        (0x0900, short(0)))))
    yield "a store in the verification context", unit(4, value(1, 3, command(
        (0x0002, b"1.2.840.10008.5.1.4.1.1.1\0"), (0x0100, short(1)), (0x0110, short(1)),
        (0x0800, short(1)), (0x1000, b"1.2.3\0"))) + value(1, 2, b"data"))
    yield "an echo with data", unit(4, value(1, 3, command(
        (0x0002, VERIFICATION + b"\0"), (0x0100, short(0x30)), (0x0110, short(1)),
        (0x0800, short(1)))) + value(1, 2, b"data"))
    yield "an echo in pieces of one byte", b"".join(
        unit(4, value(1, 1 if at + 1 < len(ECHO) else 3, ECHO[at:at + 1]))
        for at in range(len(ECHO)))
    yield "a cancel of nothing", unit(4, value(1, 3, command(
        (0x0100, short(0x0FFF)), (0x0120, short(1)), (0x0800, short(0x0101)))))
    yield "a second request", request(b"X", b"Y", item(0x10, CONTEXT_NAME) + context(1) + user())
    yield "a release with a false length", unit(5, b"\0\0", length=0xFFFFFF)
    yield "a release in the middle of a command", unit(4, value(1, 1, ECHO[:10])) + unit(5, bytes(4))
    yield "a unit of type 9", unit(9, bytes(4))


def answer(peer):
    """What comes back until the service ends the connection or is silent for a second."""
    seen, data = [], b""
    try:
        while True:
            piece = peer.recv(65536)
            if not piece:
                seen.append("closed")
                break
            data += piece
    except TimeoutError:
        seen.append("still open")
    except OSError as error:
        seen.append(type(error).__name__)
    units = []
    while len(data) >= 6:
        kind, length = data[0], struct.unpack(">I", data[2:6])[0]
        detail = " " + data[6:10].hex() if kind in (3, 7) else ""
        units.append(UNITS.get(kind, f"unit {kind}") + detail)
        data = data[6 + length:]
    return ", ".join(units + seen)


def try_case(address, opening, sent):
    """Sends bytes, hangs up this end's sending, and says what the service did."""
    with socket.create_connection(address, timeout=PATIENCE) as peer:
        peer.settimeout(PATIENCE)
        if opening:
            peer.sendall(opening)
            peer.recv(65536)
        try:
            peer.sendall(sent)
            peer.shutdown(socket.SHUT_WR)
        except OSError:
            pass
        return answer(peer)


def answers_echo(address, called, calling):
    entity = AE(ae_title=calling)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = PATIENCE
    entity.add_requested_context(Verification)
    association = entity.associate(*address, ae_title=called)
    if not association.is_established:
        return False
    status = association.send_c_echo()
    association.release()
    return "Status" in status and status.Status == 0


def main():
    if len(sys.argv) != 5:
        sys.exit(__doc__)
    host, port, called, calling = sys.argv[1:]
    address = (host, int(port))
    titles = (called.encode(), calling.encode())
    opening = request(*titles, item(0x10, CONTEXT_NAME) + context(1) + user())
    cases = [(name, None, sent) for name, sent in negotiations(*titles)]
    cases += [(name, opening, sent) for name, sent in messages()]
    failures = 0
    for name, before, sent in cases:
        started = time.monotonic()
        done = try_case(address, before, sent)
        took = time.monotonic() - started
        alive = answers_echo(address, called, calling)
        failed = not alive or "still open" in done
        failures += failed
        print(f"{'FAIL' if failed else 'ok'}: {name}: {done} ({took:.1f} s)", flush=True)
    print(f"{len(cases)} cases, {failures} failures")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
