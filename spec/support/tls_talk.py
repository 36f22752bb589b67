"""Says commands over TLS, sends close_notify, then reads to the end.

tls_talk.py PORT whole|octets < commands > replies

whole: all commands in one record; octets: a record for each octet.  Standard
error tells how many application records came, their octets, and how it ended.
"""
import socket
import ssl
import sys

context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
context.check_hostname = False
context.verify_mode = ssl.CERT_NONE
received, to_send = ssl.MemoryBIO(), ssl.MemoryBIO()
tls = context.wrap_bio(received, to_send)
connection = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
connection.settimeout(60)
raw = b""
records = []


def feed():
    """Takes what comes to the record layer, and notes its records."""
    global raw
    octets = connection.recv(65536)
    if not octets:
        received.write_eof()
        return
    received.write(octets)
    raw += octets
    while len(raw) >= 5 and len(raw) >= 5 + int.from_bytes(raw[3:5], "big"):
        length = int.from_bytes(raw[3:5], "big")
        if raw[0] == 23:
            records.append(length)
        raw = raw[5 + length:]


def send():
    """The server may have closed; what it said before is still read."""
    octets = to_send.read()
    if octets:
        connection.sendall(octets)


def go_on(step):
    while True:
        try:
            return step()
        except ssl.SSLWantReadError:
            send()
            feed()


def say(octets):
    tls.write(octets)
    send()


go_on(tls.do_handshake)
send()
sys.stdout.buffer.write(go_on(lambda: tls.read(65536)))  # the greeting
commands = sys.stdin.buffer.read()
for piece in [commands] if sys.argv[2] == "whole" else [bytes([octet]) for octet in commands]:
    say(piece)
try:
    tls.unwrap()
except ssl.SSLWantReadError:
    pass
send()
how = "close_notify"
while True:
    try:
        octets = go_on(lambda: tls.read(65536))
    except ssl.SSLZeroReturnError:
        break
    except ssl.SSLEOFError:
        how = "cut"
        break
    if not octets:
        break
    sys.stdout.buffer.write(octets)
print("records=%d octets=%d end=%s" % (len(records), sum(records), how), file=sys.stderr)
