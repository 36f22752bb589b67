"""A login over TLS: PORT MODE MECHANISM [USER [CERT KEY]].  MODE is "implicit" or
"stls"; MECHANISM SCRAM-SHA-1-PLUS, SCRAM-SHA-256-PLUS (both bind to
tls-server-end-point, the password is "secret") or EXTERNAL.  With a changed
binding: MECHANISM!, with the flag y and no -PLUS: MECHANISM?.  Prints CAPA's
SASL line, then the last reply."""
import base64
import hashlib
import hmac
import os
import socket
import ssl
import sys

port, mode, mechanism = int(sys.argv[1]), sys.argv[2], sys.argv[3]
user = sys.argv[4] if len(sys.argv) > 4 else ""
altered, misled = mechanism.endswith("!"), mechanism.endswith("?")
mechanism = mechanism.rstrip("!?")

context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
context.check_hostname = False
context.verify_mode = ssl.CERT_NONE
if len(sys.argv) > 6:
    context.load_cert_chain(sys.argv[5], sys.argv[6])

raw = socket.create_connection(("127.0.0.1", port), 60)


class Lines:
    def __init__(self, sock):
        self.sock, self.file = sock, sock.makefile("rb")

    def say(self, line=None):
        if line is not None:
            self.sock.sendall(line.encode() + b"\r\n")
        return self.file.readline().decode().rstrip("\r\n")


if mode == "stls":
    plain = Lines(raw)
    plain.say()
    assert plain.say("STLS").startswith("+OK")
    plain.file.detach()
server = context.wrap_socket(raw)
lines = Lines(server)
if mode == "implicit":
    lines.say()

assert lines.say("CAPA").startswith("+OK")
line, offered = "", "no SASL"
while line != ".":
    line = lines.say()
    if line.startswith("SASL "):
        offered = line
print(offered)


def b64(octets):
    return base64.b64encode(octets).decode()


def answer(octets):
    return lines.say(b64(octets) if octets else "=")


def scram(digest):
    header = b"y,," if misled else b"p=tls-server-end-point,,"
    bound = b"" if misled else hashlib.sha256(server.getpeercert(True)).digest()
    if altered:
        bound = bytes([bound[0] ^ 1]) + bound[1:]
    bare = b"n=" + user.encode() + b",r=" + b64(os.urandom(12)).encode()
    reply = lines.say("AUTH %s %s" % (mechanism, b64(header + bare)))
    if not reply.startswith("+ "):
        return reply
    challenge = base64.b64decode(reply[2:])
    fields = dict(f.split(b"=", 1) for f in challenge.split(b","))
    salted = hashlib.pbkdf2_hmac(digest, b"secret", base64.b64decode(fields[b"s"]), int(fields[b"i"]))
    key = hmac.digest(salted, b"Client Key", digest)
    final = b"c=" + b64(header + bound).encode() + b",r=" + fields[b"r"]
    message = bare + b"," + challenge + b"," + final
    signature = hmac.digest(hashlib.new(digest, key).digest(), message, digest)
    proof = bytes(a ^ b for a, b in zip(key, signature))
    reply = answer(final + b",p=" + b64(proof).encode())
    if not reply.startswith("+ "):
        return reply
    expected = hmac.digest(hmac.digest(salted, b"Server Key", digest), message, digest)
    assert base64.b64decode(reply[2:]) == b"v=" + b64(expected).encode()
    return lines.say("")


if mechanism == "EXTERNAL":
    print(lines.say("AUTH EXTERNAL " + (b64(user.encode()) or "=")))
else:
    print(scram("sha256" if "256" in mechanism else "sha1"))
lines.say("QUIT")
